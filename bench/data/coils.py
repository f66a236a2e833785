"""Receive coils of measured k-space: virtual coils, their sensitivities, and the noise."""

import math

import numpy as np
from jaxtyping import Complex64, Float32

from bench.errors import UserError

RIM = 0.95  # quantile of the radius beyond which measured k-space counts as noise


def espirit(
    kspace: Complex64[np.ndarray, "coils h w"], calibration: int
) -> Complex64[np.ndarray, "coils h w"]:
    """Estimate sensitivities from the fully sampled centre of measured k-space.

    ESPIRiT (Uecker et al., MRM 71, 2014), as SigPy implements it.

    Args:
        kspace: with DC in the middle.
        calibration: side of the fully sampled centre.

    Returns:
        maps whose squares sum to 1, or 0 outside the object.

    Raises:
        UserError: SigPy is not installed.
    """
    try:
        from sigpy.mri.app import EspiritCalib
    except ImportError:
        raise UserError(
            "coil sensitivities of measured k-space need SigPy: pip install -e '.[mri]'"
        ) from None
    maps = EspiritCalib(kspace, calib_width=calibration, show_pbar=False).run()
    return np.ascontiguousarray(maps, dtype=np.complex64)


def compressed(
    kspace: Complex64[np.ndarray, "slices coils h w"], count: int
) -> Complex64[np.ndarray, "slices virtual h w"]:
    """Combine coils linearly into the strongest virtual ones, the same for all slices.

    By the singular vectors of the coils' samples (Buehrer et al., MRM 57, 2007). White noise of
    the coils remains white. Missing coils are filled with zeros.

    Args:
        kspace: of a volume.
        count: number of virtual coils.
    """
    slices, coils, height, width = kspace.shape
    if coils > count:
        gram = np.zeros((coils, coils), np.complex128)
        for y in kspace:
            samples = y.reshape(coils, -1)
            gram += samples @ samples.conj().T
        strongest = np.linalg.eigh(gram)[1][:, ::-1][:, :count]
        return np.einsum("cv,schw->svhw", strongest.conj().astype(np.complex64), kspace)
    if coils == count:
        return kspace
    padded = np.zeros((slices, count, height, width), np.complex64)
    padded[:, :coils] = kspace
    return padded


def sensitivities(
    kspace: Complex64[np.ndarray, "coils h w"], calibration: int
) -> Complex64[np.ndarray, "coils h w"]:
    """Estimate the maps of a slice; 1 for a single coil, 0 for coils without signal.

    Where the centre is too small for ESPIRiT, which then finds nothing, they come from
    `low_resolution`.
    """
    used = np.abs(kspace).max((1, 2)) > 0
    maps = np.zeros_like(kspace)
    if used.sum() == 1:
        maps[used] = 1
    elif used.any():
        found = espirit(kspace[used], calibration)
        maps[used] = found if found.any() else low_resolution(kspace[used], calibration)
    return maps


def low_resolution(
    kspace: Complex64[np.ndarray, "coils h w"], calibration: int
) -> Complex64[np.ndarray, "coils h w"]:
    """Divide the coils' images of the centre of k-space by their root sum of squares.

    McKenzie et al., MRM 47, 2002. The centre is tapered by a Hann window.

    Args:
        kspace: with DC in the middle.
        calibration: side of the fully sampled centre.

    Returns:
        maps whose squares sum to 1; they have the phase of the object, too.
    """
    rows, columns = (
        np.clip(1 - np.abs(np.arange(n) - n // 2) / (calibration / 2 + 1), 0, None)
        for n in kspace.shape[1:]
    )
    window = np.sin(np.pi / 2 * rows[:, None]) ** 2 * np.sin(np.pi / 2 * columns) ** 2
    images = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(kspace * window, axes=(1, 2))), axes=(1, 2)
    )
    size = np.sqrt((np.abs(images) ** 2).sum(0))
    return (images / np.maximum(size, 1e-6 * size.max())).astype(np.complex64)


def misfit(
    images: Complex64[np.ndarray, "coils h w"],
    maps: Complex64[np.ndarray, "coils h w"],
    noise: float,
) -> float:
    """Measure the share of the energy that one image behind these maps does not explain.

    Where the object is larger than the field of view, two of its parts share a pixel, and one set
    of maps cannot explain both (Uecker et al., MRM 71, 2014). What noise leaves does not count.
    """
    inside = int((np.abs(maps).max(0) > 0).sum())
    left = np.abs(images - maps * combined(images, maps)) ** 2
    used = int((np.abs(images).max((1, 2)) > 0).sum())
    random = 2 * noise**2 * (used * maps[0].size - inside)
    total = float((np.abs(images) ** 2).sum())
    return max(0.0, float(left.sum()) - random) / max(total, 1e-30)


def noise_std(kspace: Complex64[np.ndarray, "coils h w"]) -> float:
    """Estimate the standard deviation of the real and of the imaginary noise.

    The rim of k-space is mostly noise. The magnitude of complex Gaussian noise has the median
    sigma sqrt(2 log 2). Samples that every coil lacks do not count.
    """
    height, width = kspace.shape[-2:]
    rows = (np.arange(height) - height // 2) / (height / 2)
    columns = (np.arange(width) - width // 2) / (width / 2)
    acquired = (kspace != 0).any(0)
    radius = np.hypot(rows[:, None], columns)
    rim = acquired & (radius >= np.quantile(radius[acquired], RIM))
    used = np.abs(kspace).max((1, 2)) > 0
    return float(np.median(np.abs(kspace[used][:, rim]))) / math.sqrt(2 * math.log(2))


def combined(
    images: Complex64[np.ndarray, "coils h w"], maps: Complex64[np.ndarray, "coils h w"]
) -> Complex64[np.ndarray, "h w"]:
    """Combine the coils' images by their sensitivities (Roemer et al., MRM 16, 1990)."""
    total: np.ndarray = (maps.conj() * images).sum(0)
    return total


def root_sum_of_squares(images: Complex64[np.ndarray, "coils h w"]) -> Float32[np.ndarray, "h w"]:
    """Combine the coils' images without sensitivities."""
    return np.sqrt((np.abs(images) ** 2).sum(0)).astype(np.float32)
