"""Undersampled Cartesian MRI: y_c = M F(S_c x) + M n, M a mask, F the unitary Fourier transform."""

from functools import cached_property, lru_cache
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Complex128, Float, Int64, Shaped
from pydantic import Field
from torch import Tensor

from bench.data.coils import noise_std, sensitivities
from bench.data.measurement import Kind, Measured
from bench.physics._constants import on_device
from bench.physics._draws import Noise
from bench.physics._masks import Pattern, default_centre, sample
from bench.physics._mri import MRI, Coils
from bench.physics.base import Physics, Size
from bench.ranges import NotNegative


class MRICartesian(MRI):
    """Fourier samples on a subset of the Cartesian grid, DC in the middle, 0 where not measured.

    Lines are columns, as in fastMRI. ReconResNet's patterns are `equispaced` at level 4 with
    `centre_fraction: 0`, and `gaussian1d` or `gaussian2d` at levels 20, 10, 6.667 and 3.333, which
    measure 5, 10, 15 and 30 %.

    Args:
        level: acceleration, all positions divided by measured ones.
        image_size: pixels along each side, or (height, width); any is accepted.
        mask: `equispaced`, `random` or `gaussian1d` lines; `gaussian2d` or `poisson_disc` points.
        centre_fraction: fraction of all positions in the fully sampled centre; default: 0.32 /
            level, which is fastMRI's.
        coils: number of simulated coils.
        noise_variance: of the real and of the imaginary part of each sample.
        simulate: whether k-space is simulated from the magnitudes even if the dataset brings its
            own; default: no. Measured k-space is undersampled as it was acquired, with the coils
            and the noise of the scanner.
        complex: whether simulated images get a smooth random phase; default: no.
    """

    name = "mri_cartesian"
    unit = "acceleration (all k-space positions / measured ones)"
    levels = (1.0, 64.0)
    presets = (2.0, 4.0, 8.0)

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        mask: Pattern = "equispaced",
        centre_fraction: Annotated[float, Field(ge=0, le=1)] | None = None,
        coils: Coils = 1,
        noise_variance: NotNegative = 1e-4,
        simulate: bool | None = None,
        complex: bool | None = None,
    ):
        super().__init__(level, image_size, coils, noise_variance, complex)
        self.simulate = bool(simulate)
        self.pattern: Pattern = mask
        self.centre_fraction = default_centre(level) if centre_fraction is None else centre_fraction
        self.fixed: Tensor | None = None
        self.sampled(self.shape)  # refuses a mask that cannot be drawn

    @classmethod
    def has_complex_images(cls, brought: Kind | None, **options: Any) -> bool:
        """Return whether k-space is the dataset's own, or simulated with a phase."""
        own = brought == "kspace" and not options.get("simulate")
        return own or super().has_complex_images(brought, **options)

    def takes(self, kind: Kind) -> bool:
        """Return whether this is k-space, and is not to be simulated."""
        return kind == "kspace" and not self.simulate

    def adopt(self, kind: Kind | None) -> Physics:
        """Prepare for k-space that the dataset brings: images are complex."""
        self.complex_image = self.complex_image or (kind is not None and self.takes(kind))
        return self

    def bind(self, measured: Measured) -> Physics:
        """Return a copy for the images of these measurements, with their sensitivities."""
        bound = super().bind(measured)
        assert isinstance(bound, MRICartesian)
        bound.maps, bound.coils = None, measured.values.shape[1]
        return bound

    def acquired(
        self, values: Complex64[Tensor, "b coils h w"]
    ) -> Complex64[Tensor, "b coils h w"]:
        """Undersample what was acquired; its noise is the scanner's own."""
        return self.keep(values)

    @cached_property
    def norm_squared(self) -> float:
        """The greatest eigenvalue of A^T A: 1, or estimated for simulated coils."""
        return 1.0 if self.maps is not None or self.measured is not None else super().norm_squared

    def response(self, like: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "*b h w"]:
        """Return the convolution that A^T A is closest to; see `Physics.response`.

        With sensitivities of each image, that is the response of the mask times the
        autocorrelation of the maps, relative to the part of the image that they cover: the mean of
        A^T A along its diagonals (T. Chan, SIAM J. Sci. Stat. Comput. 9, 1988).
        """
        if self.measured is None:
            return super().response(like)
        key = like.shape[-2], like.shape[-1], like.dtype, like.device
        if key not in self._responses:
            maps = self.sensitivities(like)
            power = torch.fft.fft2(maps).abs().square().sum(1, keepdim=True)
            overlap = torch.fft.ifft2(power).conj() / power.mean((-2, -1), keepdim=True)
            mask = torch.fft.ifftshift(self.sampled((key[0], key[1]))).to(maps)
            self._responses[key] = torch.fft.ifft2(mask) * overlap
        return self._responses[key]

    def centre_side(self) -> int:
        """Return the side of the largest square around DC that is fully sampled."""
        mask = self.sampled(self.shape)
        rows, columns = (n // 2 for n in self.shape)
        for half in range(1, min(rows, columns) + 1):
            if not mask[rows - half : rows + half, columns - half : columns + half].all():
                return 2 * (half - 1)
        return 2 * min(rows, columns)

    @property
    def white(self) -> bool:
        """Whether the noise of the measured positions is white and Gaussian."""
        return True

    @property
    def mask(self) -> Bool[Tensor, "1 1 h w"]:
        """True at the measured positions."""
        return self.sampled(self.shape)[None, None]

    def sampled(self, shape: tuple[int, int]) -> Bool[Tensor, "h w"]:
        """Return the mask for k-space of any shape."""
        if self.fixed is not None:
            return self.fixed
        return sample(self.pattern, shape, self.level, self.centre_fraction)

    def encode(self, images: Complex64[Tensor, "b coils h w"]) -> Complex64[Tensor, "b coils h w"]:
        """Transform each coil's image, and keep the measured positions."""
        return self.keep(fourier(images))

    def decode(
        self, y: Complex64[Tensor, "b coils h w"], weighted: bool = False
    ) -> Complex64[Tensor, "b coils h w"]:
        """Transform back; `weighted` changes nothing, because all samples cover the same area."""
        return inverse_fourier(self.keep(y))

    def spectrum(self, shape: tuple[int, int]) -> Float[Tensor, "h wr"] | None:
        """Return, for one coil and real images, how often a frequency or its mirror is measured."""
        if self.coils > 1 or self.complex_image:
            return None
        return _mirrored(self.sampled(shape))

    def A_normal(self, x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b 1 h w"]:
        """Apply A^T A without moving the origin back and forth."""
        shape = (x.shape[-2], x.shape[-1])
        if self.spectrum(shape) is not None and not x.is_complex():
            return super().A_normal(x)
        maps, mask = self.sensitivities(x), on_device(_shifted(self.sampled(shape)), x.device)
        combined = self.combine(torch.fft.ifft2(torch.where(mask, torch.fft.fft2(maps * x), 0)))
        return combined if self.complex_image else combined.real

    def keep(self, kspace: Complex64[Tensor, "b coils h w"]) -> Complex64[Tensor, "b coils h w"]:
        """Set unmeasured positions to 0; a product would leave negative zeros."""
        mask = on_device(self.sampled((kspace.shape[-2], kspace.shape[-1])), kspace.device)
        return torch.where(mask, kspace, 0)

    def add_noise(
        self, y: Complex64[Tensor, "b coils h w"], noise: Noise
    ) -> Complex64[Tensor, "b coils h w"]:
        """Add noise to the measured positions; none is drawn for the others."""
        if not self.noise_variance:
            return y
        where = on_device(_positions(self.sampled((y.shape[-2], y.shape[-1]))), y.device)
        flat = y.flatten(-2)
        noisy = super().add_noise(flat.index_select(-1, where), noise)
        return torch.zeros_like(flat).index_copy_(-1, where, noisy).view_as(y)


def fourier(images: Complex64[Tensor, "*b h w"]) -> Complex64[Tensor, "*b h w"]:
    """Transform with unitary scaling, the origin in the middle on both sides."""
    before, after = _ramps((images.shape[-2], images.shape[-1]), str(images.device))
    return torch.fft.fft2(images * before, norm="ortho") * after


def inverse_fourier(kspace: Complex64[Tensor, "*b h w"]) -> Complex64[Tensor, "*b h w"]:
    """Undo `fourier`."""
    before, after = _ramps((kspace.shape[-2], kspace.shape[-1]), str(kspace.device))
    return torch.fft.ifft2(kspace * after.conj(), norm="ortho") * before.conj()


@lru_cache(maxsize=16)
def _positions(mask: Bool[Tensor, "h w"]) -> Int64[Tensor, " n"]:
    """Return where a mask is True, counted row by row: a GPU would have to wait for the number."""
    return torch.nonzero(mask.flatten())[:, 0]


@lru_cache(maxsize=16)
def _shifted(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Move DC to the corner."""
    return torch.fft.ifftshift(mask)


@lru_cache(maxsize=16)
def _mirrored(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "h wr"]:
    """Average a mask over k and -k, in the order of `rfft2`: A^T A on real images."""
    corner = torch.fft.ifftshift(mask.float())
    mirror = corner.flip(0, 1).roll((1, 1), (0, 1))
    return ((corner + mirror) / 2)[:, : mask.shape[1] // 2 + 1]


@lru_cache(maxsize=16)
def _ramps(
    shape: tuple[int, int], device: str
) -> tuple[Complex64[Tensor, "h w"], Complex64[Tensor, "h w"]]:
    """Return the phases that move the origin from a corner to the middle, before and after an FFT.

    With c = n // 2, (k - c)(m - c) = k m - k c - c m + c c: equivalent to rolling the array twice,
    which takes longer than the FFT.
    """
    before = torch.ones(1, 1, dtype=torch.complex128)
    after = torch.ones(1, 1, dtype=torch.complex128)
    for axis, size in enumerate(shape):
        middle = size // 2
        index = torch.arange(size).view((-1, 1) if axis == 0 else (1, -1))
        # Whole turns are removed in integer arithmetic, before they cost precision.
        before = before * _turn(index * middle % size, size)
        after = after * _turn((index * middle - middle**2) % size, size)
    return before.to(device, torch.complex64), after.to(device, torch.complex64)


def _turn(steps: Int64[Tensor, "h w"], size: int) -> Complex128[Tensor, "h w"]:
    return torch.exp(2j * torch.pi * steps.double() / size)


def measured(
    kspace: Complex64[Tensor, "coils h w"],
    level: float,
    *,
    mask: Pattern = "equispaced",
    centre_fraction: float | None = None,
    calibration: int = 24,
) -> tuple[MRICartesian, Complex64[Tensor, "1 coils h w"]]:
    """Make the physics of k-space that a scanner measured, and undersample it.

    Args:
        kspace: with DC in the middle; positions where every coil is 0 count as not acquired.
        level: acceleration of what was acquired, zero-padding not counted; 1 keeps all of it.
        mask: see `MRICartesian`.
        centre_fraction: see `MRICartesian`.
        calibration: side of the fully sampled centre, from which ESPIRiT estimates the maps.

    Returns:
        the physics, whose images are complex and whose `noise_std` is estimated from the rim of
        k-space, and y, whose noise is the scanner's own.

    Raises:
        UserError: SigPy is not installed, or an acceleration that cannot be drawn.
    """
    shape = (kspace.shape[-2], kspace.shape[-1])
    values = kspace.cpu().numpy()
    brought = Measured(
        "kspace", values[None], np.array([noise_std(values)], np.float32), [""], np.arange(1),
        sensitivities(values, calibration)[None],
    )  # fmt: skip
    centre = 0.0 if level == 1 else centre_fraction
    physics = MRICartesian(level, shape, mask=mask, centre_fraction=centre).bind(brought)
    assert isinstance(physics, MRICartesian)
    physics.fixed = _within((kspace != 0).any(0).cpu(), physics)
    return physics, physics.keep(kspace[None])


def _within(acquired: Bool[Tensor, "h w"], physics: MRICartesian) -> Bool[Tensor, "h w"]:
    """Draw the mask on the region of k-space around DC that a scanner acquired."""
    window = []
    for axis, size in enumerate(acquired.shape):
        indices = torch.nonzero(acquired.any(1 - axis))[:, 0]
        half = max(size // 2 - int(indices.min()), int(indices.max()) + 1 - size // 2)
        window.append(slice(max(size // 2 - half, 0), size // 2 + half))
    mask = torch.zeros_like(acquired)
    part = acquired[window[0], window[1]]
    mask[window[0], window[1]] = physics.sampled((part.shape[0], part.shape[1]))
    return mask & acquired
