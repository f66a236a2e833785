"""Non-Cartesian MRI: Fourier samples anywhere in k-space, by FINUFFT (Barnett et al., 2019)."""

import math
from abc import abstractmethod
from functools import cached_property
from typing import Any

import finufft
import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float, Float64, Shaped
from torch import Tensor

from bench.physics._constants import on_device
from bench.physics._mri import MRI

ACCURACY = 1e-6  # relative, of FINUFFT's single precision
READOUT_OVERSAMPLING = 2  # samples along a readout, per Nyquist interval


class NonCartesian(MRI):
    """Samples along a trajectory; y has shape (b, coils, samples).

    The transform runs on the CPU whatever the device, in one thread per call: several threads would
    sum in an order that changes from call to call.
    """

    @abstractmethod
    def trajectory(
        self,
    ) -> tuple[Float64[np.ndarray, "samples 2"], Float64[np.ndarray, " samples"]]:
        """Return the samples' positions, and the area of k-space that each covers.

        Positions are (row, column) in cells of the Cartesian grid, from -n/2 to n/2; areas are in
        such cells too.
        """

    @cached_property
    def samples(self) -> tuple[Float64[np.ndarray, "samples 2"], Float[Tensor, " samples"]]:
        """Positions and areas of `trajectory`, computed once."""
        positions, areas = self.trajectory()
        return positions, torch.from_numpy(areas.astype(np.float32))

    @property
    def mask(self) -> Bool[Tensor, "1 1 h w"]:
        """True at the grid positions nearest to samples."""
        mask = torch.zeros(self.shape, dtype=torch.bool)
        cells = [
            torch.from_numpy(np.round(coordinates).astype(int) + n // 2).clamp(0, n - 1)
            for coordinates, n in zip(self.samples[0].T, self.shape, strict=True)
        ]
        mask[cells[0], cells[1]] = True
        return mask[None, None]

    def encode(
        self, images: Complex64[Tensor, "b coils h w"]
    ) -> Complex64[Tensor, "b coils samples"]:
        """Transform each coil's image.

        Raises:
            ValueError: images of another size than the physics was made for.
        """
        if tuple(images.shape[-2:]) != self.shape:
            raise ValueError(f"{self.name}: made for {self.shape}, not {tuple(images.shape[-2:])}")
        return _Nufft.apply(images, self.samples[0])

    def decode(
        self, y: Complex64[Tensor, "b coils samples"], weighted: bool = False
    ) -> Complex64[Tensor, "b coils h w"]:
        """Apply the adjoint transform, to density-compensated samples if `weighted`."""
        if weighted:
            y = y * on_device(self.samples[1], y.device)
        return _NufftAdjoint.apply(y, self.samples[0], self.shape)

    @property
    @abstractmethod
    def fraction(self) -> float:
        """The samples' share of those that sample a disc of k-space fully."""

    def fill(self, y: Complex64[Tensor, "b coils samples"]) -> Complex64[Tensor, "b coils h w"]:
        """Transform density-compensated samples, scaled by their share of k-space."""
        return self.fraction * self.decode(y, weighted=True)

    def A_normal(self, x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b 1 h w"]:
        """Apply A^T A, a convolution that does not wrap around, by FFTs of twice the size.

        Fessler et al., IEEE TSP 53, 2005.
        """
        kernel = on_device(self.kernel, x.device)
        spectra = torch.fft.fft2(self.sensitivities(x) * x, s=kernel.shape) * kernel
        images = torch.fft.ifft2(spectra)[..., : x.shape[-2], : x.shape[-1]]
        combined = self.combine(images)
        return combined if self.complex_image else combined.real

    @cached_property
    def kernel(self) -> Complex64[Tensor, "h2 w2"]:
        """The transform of the trajectory's point spread function, on a grid of twice the size."""
        double = (2 * self.shape[0], 2 * self.shape[1])
        positions = self.samples[0] * 2  # in cells of the doubled grid
        ones = torch.ones(1, 1, len(positions), dtype=torch.complex64)
        point_spread = _adjoint(ones, positions, double)[0, 0] * (
            2 / math.sqrt(math.prod(self.shape))
        )
        return torch.fft.fft2(torch.fft.ifftshift(point_spread))


class _Nufft(torch.autograd.Function):
    """y_m = sum_r x_r exp(-2 pi i k_m r) / sqrt(h w), differentiable in x."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, positions: np.ndarray) -> Tensor:
        ctx.positions, ctx.shape = positions, tuple(images.shape[-2:])
        return _forward(images, positions)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _adjoint(grads[0], ctx.positions, ctx.shape), None


class _NufftAdjoint(torch.autograd.Function):
    """The adjoint of `_Nufft`, differentiable in y."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, positions: np.ndarray, shape: tuple[int, int]) -> Tensor:
        ctx.positions = positions
        return _adjoint(y, positions, shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _forward(grads[0], ctx.positions), None, None


def _radians(positions: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    return [
        np.ascontiguousarray(2 * np.pi * coordinates / n, dtype=np.float32)
        for coordinates, n in zip(positions.T, shape, strict=True)
    ]


def _array(tensor: Tensor) -> Complex64[np.ndarray, "..."]:
    return tensor.detach().to("cpu", torch.complex64).resolve_conj().contiguous().numpy()


def _forward(images: Tensor, positions: np.ndarray) -> Tensor:
    shape = (images.shape[-2], images.shape[-1])
    flat = _array(images).reshape(-1, *shape)
    samples = finufft.nufft2d2(
        *_radians(positions, shape), flat, eps=ACCURACY, isign=-1, nthreads=1
    )
    samples = torch.from_numpy(np.atleast_2d(samples) / np.float32(np.sqrt(np.prod(shape))))
    return samples.reshape(*images.shape[:-2], -1).to(images.device)


def _adjoint(y: Tensor, positions: np.ndarray, shape: tuple[int, int]) -> Tensor:
    flat = _array(y).reshape(-1, y.shape[-1])
    images = finufft.nufft2d1(
        *_radians(positions, shape), flat, shape, eps=ACCURACY, isign=1, nthreads=1
    )
    scaled = torch.from_numpy(images / np.float32(np.sqrt(np.prod(shape))))
    return scaled.reshape(*y.shape[:-1], *shape).to(y.device)
