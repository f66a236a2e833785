"""Super-resolution: y is the image with fewer pixels, by one of three named downsamplers.

All three are separable, y = R x C^T with a matrix for the rows and one for the columns, so that
the adjoint R^T y C is exact.
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from bench.errors import UserError
from bench.physics._constants import on_device
from bench.physics.base import Physics, Size, full_precision
from bench.ranges import NotNegative

Downsampler = Literal["bicubic", "area", "kspace_crop"]


class SuperResolution(Physics):
    """Downsampling by a whole factor.

    Args:
        level: factor along each side.
        image_size: pixels along each side of the full image, or (height, width). A side that the
            factor does not divide is rounded up: 33 pixels become 17.
        downsampler: `bicubic` (antialiased, as PIL and PyTorch resize), `area` (mean of a square
            of pixels) or `kspace_crop` (the centre of k-space, as a scanner acquires it).
        noise_variance: of the noise added to the small image.
    """

    name = "super_resolution"
    unit = "factor along each side"
    levels = (2, 16)
    presets = (2, 4, 8)
    whole = True

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        downsampler: Downsampler = "bicubic",
        noise_variance: NotNegative = 0.0,
    ):
        super().__init__(level, image_size, noise_variance)
        self.factor = int(level)
        self.downsampler: Downsampler = downsampler
        if min(self.shape) < 2 * self.factor:
            raise UserError(
                f"{self.name}: level {level:g} leaves less than 2 pixels of {min(self.shape)}"
            )

    @full_precision
    def A(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 hs ws"]:
        """Downsample."""
        rows, columns = (on_device(self._matrix(n), x.device).to(x) for n in x.shape[-2:])
        # Image by image: on some processors the product of a batch is rounded differently, but an
        # image's measurement must not depend on its batch.
        return torch.stack([rows @ image @ columns.T for image in x])

    @full_precision
    def A_adjoint(self, y: Float[Tensor, "b 1 hs ws"]) -> Float[Tensor, "b 1 h w"]:
        """Apply the transposed matrices."""
        rows, columns = (on_device(self._matrix(n), y.device).to(y) for n in self.full_size(y))
        return rows.T @ y @ columns

    @full_precision
    def A_dagger(self, y: Float[Tensor, "b 1 hs ws"]) -> Float[Tensor, "b 1 h w"]:
        """Enlarge: bicubic interpolation, or zero-filling of k-space for `kspace_crop`."""
        size = self.full_size(y)
        if self.downsampler != "kspace_crop":
            return interpolate(y, size, mode="bicubic")
        return self.zero_fill(y)

    @full_precision
    def zero_fill(self, y: Float[Tensor, "b 1 hs ws"]) -> Float[Tensor, "b 1 h w"]:
        """Enlarge by padding the Fourier transform with zeros.

        Pixels of `bicubic` and `area` are centred on the pixels that they replace; with a cropped
        k-space they are at the first of them.
        """
        size = self.full_size(y)
        shift = 0.0 if self.downsampler == "kspace_crop" else (self.factor - 1) / 2
        rows, columns = (
            on_device(sinc_matrix(small, full, shift), y.device).to(y)
            for small, full in zip(y.shape[-2:], size, strict=True)
        )
        return rows @ y @ columns.T

    @full_precision
    def invert_normal(
        self, right: Float[Tensor, "b 1 h w"], mu: Float[Tensor, "#b 1 1 1"]
    ) -> Float[Tensor, "b 1 h w"]:
        """Solve (A^T A + mu) x = right exactly, by the singular vectors of both matrices."""
        (rows, down), (columns, across) = (
            singular(self.downsampler, n, math.ceil(n / self.factor)) for n in right.shape[-2:]
        )
        rows, down, columns, across = (
            on_device(one, right.device).to(right) for one in (rows, down, columns, across)
        )
        inside = rows.T @ right @ columns
        # In the null space of A the inverse is 1 / mu.
        change = inside * (1 / (down[:, None] * across + mu) - 1 / mu)
        return right / mu + rows @ change @ columns.T

    def _matrix(self, full: int) -> Float[Tensor, "small full"]:
        return matrix(self.downsampler, full, math.ceil(full / self.factor))

    def full_size(self, y: Float[Tensor, "b 1 hs ws"]) -> tuple[int, int]:
        """Return the size of the image of which y is the measurement."""
        small = tuple(math.ceil(n / self.factor) for n in self.shape)
        if tuple(y.shape[-2:]) == small:
            return self.shape
        return y.shape[-2] * self.factor, y.shape[-1] * self.factor


@lru_cache(maxsize=16)
def matrix(downsampler: Downsampler, full: int, small: int) -> Float[Tensor, "small full"]:
    """Return the matrix that downsamples a line of `full` pixels to `small`."""
    if downsampler == "kspace_crop":
        return sinc_matrix(full, small)
    unit = torch.eye(full, dtype=torch.float64)[None, None]
    mode = {"mode": "bicubic", "antialias": True} if downsampler == "bicubic" else {"mode": "area"}
    return interpolate(unit, (small, full), **mode)[0, 0].float()


@lru_cache(maxsize=16)
def singular(
    downsampler: Downsampler, full: int, small: int
) -> tuple[Float[Tensor, "full small"], Float[Tensor, " small"]]:
    """Return the right singular vectors of the matrix of a line, and squared singular values."""
    _, values, vectors = torch.linalg.svd(
        matrix(downsampler, full, small).double(), full_matrices=False
    )
    return vectors.T.float().contiguous(), values.square().float()


@lru_cache(maxsize=16)
def sinc_matrix(before: int, after: int, shift: float = 0.0) -> Float[Tensor, "after before"]:
    """Return the matrix that crops or zero-fills a line's Fourier transform, keeping its mean.

    The result is moved on by `shift` of its own pixels.
    """
    from scipy.signal import resample  # half a second, which every worker would spend

    lines = resample(np.eye(before), after, axis=0)
    if shift:
        spectrum = np.fft.rfft(lines, axis=0)
        turn = np.exp(-2j * np.pi * shift * np.fft.rfftfreq(after))[:, None]
        lines = np.fft.irfft(spectrum * turn, after, axis=0)
    return torch.from_numpy(lines).float()
