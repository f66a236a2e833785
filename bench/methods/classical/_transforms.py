"""Transforms in which images are sparse: finite differences and shift-invariant wavelets."""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Complex64, Float, Shaped
from pydantic import AfterValidator, Field
from torch import Tensor


def _discrete(name: str) -> str:
    import pywt  # late, as below: total variation needs no wavelets

    if name not in pywt.wavelist(kind="discrete"):
        raise ValueError("not a discrete wavelet of PyWavelets, such as 'haar'")
    return name


def _orthogonal(name: str) -> str:
    import pywt

    if not pywt.Wavelet(name).orthogonal:
        raise ValueError("not an orthogonal wavelet, such as 'haar'")
    return name


Discrete = Annotated[str, AfterValidator(_discrete)]
Orthogonal = Annotated[Discrete, AfterValidator(_orthogonal)]
Levels = Annotated[int, Field(ge=1, le=10)]


class SparsifyingTransform(ABC):
    """A linear map K from images to coefficients (b, k, h, w), with its norm and shrinkage.

    Boundaries are periodic, so that K^T K is a convolution.
    """

    @abstractmethod
    def analyse(self, x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b k h w"]:
        """Apply K."""

    @abstractmethod
    def synthesise(self, coefficients: Shaped[Tensor, "b k h w"]) -> Shaped[Tensor, "b 1 h w"]:
        """Apply K^T."""

    @abstractmethod
    def gram(self, shape: tuple[int, int]) -> Float[Tensor, "h w"]:
        """Return the eigenvalues of K^T K, in the order of `torch.fft.fft2`."""

    @abstractmethod
    def norm(self, coefficients: Shaped[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        """Return the norm that is penalised."""

    @abstractmethod
    def shrink(
        self,
        coefficients: Shaped[Tensor, "b k h w"],
        threshold: float | Float[Tensor, "#b 1 #h #w"],
    ) -> Shaped[Tensor, "b k h w"]:
        """Apply the proximal map of `threshold` times the norm."""


class Gradient(SparsifyingTransform):
    """Differences to the neighbours above and to the left; their isotropic norm is TV."""

    def analyse(self, x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b 2 h w"]:
        """Take differences."""
        return torch.cat([x - x.roll(1, -2), x - x.roll(1, -1)], dim=1)

    def synthesise(self, coefficients: Shaped[Tensor, "b 2 h w"]) -> Shaped[Tensor, "b 1 h w"]:
        """Return the negative divergence."""
        down, right = coefficients[:, :1], coefficients[:, 1:]
        return down - down.roll(-1, -2) + right - right.roll(-1, -1)

    def gram(self, shape: tuple[int, int]) -> Float[Tensor, "h w"]:
        """Return 4 - 2 cos - 2 cos, the periodic Laplacian's."""
        return _laplacian(shape)

    def norm(self, coefficients: Shaped[Tensor, "b 2 h w"]) -> Float[Tensor, " b"]:
        """Sum the lengths of the gradients."""
        return length_of(coefficients).sum((1, 2, 3))

    def shrink(
        self,
        coefficients: Shaped[Tensor, "b 2 h w"],
        threshold: float | Float[Tensor, "#b 1 #h #w"],
    ) -> Shaped[Tensor, "b 2 h w"]:
        """Shorten each gradient by the threshold."""
        return coefficients * (1 - threshold / length_of(coefficients)).clamp(min=0)


def length_of(vectors: Shaped[Tensor, "b k h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the Euclidean length over the second axis, at least 1e-12: 0 has no derivative."""
    squares = vectors.real.square() + vectors.imag.square() if vectors.is_complex() else vectors**2
    return squares.sum(1, keepdim=True).clamp(min=1e-24).sqrt()


class Wavelets(SparsifyingTransform):
    """The undecimated wavelet transform, scaled so that K^T K = 1.

    Its weighted l1 norm is that of the orthogonal transform, averaged over all shifts of the image
    (Coifman and Donoho, 1995): coefficients of level j have the weight 2^-j, those of the coarsest
    image 0. Applied by FFT.

    Args:
        wavelet: an orthogonal wavelet that PyWavelets knows.
        levels: depth.
    """

    def __init__(self, wavelet: str, levels: int):
        self.wavelet, self.levels = wavelet, levels
        scales = [2.0**-level for level in range(1, levels + 1) for _ in range(3)]
        self.weights = torch.tensor([*scales, 0.0]).view(1, -1, 1, 1)

    def analyse(self, x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b k h w"]:
        """Filter by every subband."""
        if x.is_complex():
            return torch.fft.ifft2(torch.fft.fft2(x) * self._bank(x, x.shape[-1]))
        half = x.shape[-1] // 2 + 1
        return torch.fft.irfft2(torch.fft.rfft2(x) * self._bank(x, half), s=x.shape[-2:])

    def synthesise(self, coefficients: Shaped[Tensor, "b k h w"]) -> Shaped[Tensor, "b 1 h w"]:
        """Filter by every subband's mirror image, and add up."""
        width = coefficients.shape[-1]
        if coefficients.is_complex():
            bank = self._bank(coefficients, width).conj()
            return torch.fft.ifft2((torch.fft.fft2(coefficients) * bank).sum(1, keepdim=True))
        bank = self._bank(coefficients, width // 2 + 1).conj()
        total = (torch.fft.rfft2(coefficients) * bank).sum(1, keepdim=True)
        return torch.fft.irfft2(total, s=coefficients.shape[-2:])

    def gram(self, shape: tuple[int, int]) -> Float[Tensor, "h w"]:
        """Return 1 at every frequency."""
        return torch.ones(shape)

    def norm(self, coefficients: Shaped[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
        """Sum the weighted magnitudes."""
        return (coefficients.abs() * self.weights.to(coefficients.device)).sum((1, 2, 3))

    def shrink(
        self,
        coefficients: Shaped[Tensor, "b k h w"],
        threshold: float | Float[Tensor, "#b 1 #h #w"],
    ) -> Shaped[Tensor, "b k h w"]:
        """Shrink each magnitude by its level's threshold."""
        limit = threshold * self.weights.to(coefficients.device)
        if not coefficients.is_complex():
            return coefficients - coefficients.clamp(-limit, limit)
        magnitude = coefficients.abs()
        return coefficients * (1 - limit / magnitude.clamp(min=1e-12)).clamp(min=0)

    def _bank(self, like: Tensor, columns: int) -> Complex64[Tensor, "k h c"]:
        shape = (like.shape[-2], like.shape[-1])
        return filter_bank(self.wavelet, self.levels, shape)[..., :columns].to(like.device)


@lru_cache(maxsize=8)
def _laplacian(shape: tuple[int, int]) -> Float[Tensor, "h w"]:
    rows, columns = (2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(n)) for n in shape)
    return rows[:, None] + columns


@lru_cache(maxsize=8)
def filter_bank(wavelet: str, levels: int, shape: tuple[int, int]) -> Complex64[Tensor, "k h w"]:
    """Compute frequency responses of the undecimated transform's subbands, coarsest last."""
    import pywt

    low, high = (np.array(taps) / np.sqrt(2) for taps in pywt.Wavelet(wavelet).filter_bank[:2])
    smooth: list[np.ndarray] = [np.ones(n, dtype=complex) for n in shape]
    bands = []
    for level in range(levels):
        step = 2**level
        lows, highs = (
            [_response(taps, step, n) * so_far for n, so_far in zip(shape, smooth, strict=True)]
            for taps in (low, high)
        )
        for rows, columns in ((lows[0], highs[1]), (highs[0], lows[1]), (highs[0], highs[1])):
            bands.append(np.outer(rows, columns))
        smooth = lows
    bands.append(np.outer(*smooth))
    return torch.from_numpy(np.stack(bands).astype(np.complex64))


def _response(taps: np.ndarray, step: int, size: int) -> np.ndarray:
    """Transform a filter whose taps are `step` pixels apart."""
    frequency = np.fft.fftfreq(size)[:, None]
    return np.exp(-2j * np.pi * frequency * step * np.arange(len(taps))) @ taps
