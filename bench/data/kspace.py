"""From k-space to magnitude images, and what k-space tells about how it was made."""

import numpy as np
from jaxtyping import Complex64, Float32

from bench.data.prepare import Unusable

# Share of energy in the imaginary part of an image below which its phase counts as zero.
REAL = 1e-6
# Share of empty samples, inside the extent of the sampled ones, that is still called full.
GAPS = 0.05
# Share of empty rows and columns around the sampled ones that is still no zero-padding.
PADDING = 0.02


def magnitude(
    kspace: Complex64[np.ndarray, "slices coils h w"],
) -> Float32[np.ndarray, "slices h w"]:
    """Transform each coil and combine: x = sqrt(sum_c |F^-1 y_c|^2), with DC in the middle.

    The root of the sum of squares needs no coil sensitivities (Roemer et al., 1990).
    """
    return np.stack([np.sqrt((np.abs(_image(y)) ** 2).sum(0)) for y in kspace]).astype(np.float32)


def _image(y: Complex64[np.ndarray, "coils h w"]) -> Complex64[np.ndarray, "coils h w"]:
    axes = (-2, -1)
    shifted = np.fft.ifft2(np.fft.ifftshift(y, axes), norm="ortho")
    return np.fft.fftshift(shifted, axes).astype(np.complex64)


def provenance(kspace: Complex64[np.ndarray, "slices coils h w"]) -> tuple[str, str]:
    """Judge k-space by the "implicit data crimes" of Shimron et al. (PNAS 2022).

    Returns:
        the badge `raw`, `processed` (zero-padded) or `magnitude-sim` (the phase of the image is
        identically zero: somebody transformed a magnitude image), and the reason in words.

    Raises:
        Unusable: NaN, no signal, or undersampled, which leaves no ground truth.
    """
    if not np.isfinite(kspace).all():
        raise Unusable("holds NaN or infinite values")
    sampled = (kspace != 0).any(axis=(0, 1))
    if not sampled.any():
        raise Unusable("holds only zeros")
    rows, columns = np.flatnonzero(sampled.any(1)), np.flatnonzero(sampled.any(0))
    extent = sampled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if extent.mean() < 1 - GAPS:
        raise Unusable(
            f"is undersampled k-space ({extent.mean():.0%} of its extent is sampled), in which "
            "there is no ground truth; bring fully sampled data"
        )
    if _phase_is_zero(kspace[len(kspace) // 2]):
        return "magnitude-sim", "the phase is identically zero: simulated from magnitudes"
    padding = 1 - extent.size / sampled.size
    if padding > PADDING:
        inner, outer = ("x".join(map(str, part.shape)) for part in (extent, sampled))
        return "processed", f"k-space is zero-padded from {inner} to {outer}"
    return "raw", ""


def _phase_is_zero(y: Complex64[np.ndarray, "coils h w"]) -> bool:
    """Tell whether every coil's image is real, wherever its k-space has its origin."""
    for origin in (y, np.fft.ifftshift(y, (-2, -1))):
        image = np.fft.ifft2(origin)
        if (image.imag**2).sum() <= REAL * (np.abs(image) ** 2).sum():
            return True
    return False
