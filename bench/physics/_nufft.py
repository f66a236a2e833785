"""Non-Cartesian MRI: Fourier samples anywhere in k-space.

By FINUFFT (Barnett, Magland and af Klinteberg, SIAM J. Sci. Comput. 41, 2019), or on a GPU by
cuFINUFFT (Shih et al., IPDPSW 2021), where that is installed (extra `gpu`).
"""

import logging
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cache, cached_property, partial
from typing import Any, Literal

import finufft
import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float, Float64, Shaped
from torch import Tensor

from bench.physics._constants import on_device
from bench.physics._mri import MRI

ACCURACY = 1e-6  # relative, of FINUFFT's single precision
READOUT_OVERSAMPLING = 2  # samples along a readout, per Nyquist interval
logger = logging.getLogger(__name__)
Transform = Literal["nufft2d1", "nufft2d2"]
Shape = tuple[int, ...]
Points = tuple[Float[Tensor, " samples"], ...]


class NonCartesian(MRI):
    """Samples along a trajectory; y has shape (b, coils, samples).

    On the CPU a transform runs in one thread: several would sum in an order that changes from call
    to call. Images on a GPU are copied to the CPU for it, unless cuFINUFFT is installed.
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

    @cached_property
    def points(self) -> Points:
        """The samples' positions in radians per pixel, along rows and columns; computed once."""
        return tuple(
            torch.from_numpy((2 * np.pi * coordinates / n).astype(np.float32))
            for coordinates, n in zip(self.samples[0].T, self.shape, strict=True)
        )

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
        return _Nufft.apply(images, self.points)

    def decode(
        self, y: Complex64[Tensor, "b coils samples"], weighted: bool = False
    ) -> Complex64[Tensor, "b coils h w"]:
        """Apply the adjoint transform, to density-compensated samples if `weighted`."""
        if weighted:
            y = y * on_device(self.samples[1], y.device)
        return _NufftAdjoint.apply(y, self.points, self.shape)

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
        ones = torch.ones(1, 1, len(self.points[0]), dtype=torch.complex64)
        point_spread = _adjoint(ones, self.points, double)[0, 0] * (
            2 / math.sqrt(math.prod(self.shape))
        )
        return torch.fft.fft2(torch.fft.ifftshift(point_spread))


class _Nufft(torch.autograd.Function):
    """y_m = sum_r x_r exp(-2 pi i k_m r) / sqrt(h w), differentiable in x."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, points: Points) -> Tensor:
        ctx.points, ctx.shape = points, tuple(images.shape[-2:])
        return _forward(images, points)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _adjoint(grads[0], ctx.points, ctx.shape), None


class _NufftAdjoint(torch.autograd.Function):
    """The adjoint of `_Nufft`, differentiable in y."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, points: Points, shape: tuple[int, int]) -> Tensor:
        ctx.points = points
        return _adjoint(y, points, shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _forward(grads[0], ctx.points), None, None


def _forward(images: Tensor, points: Points) -> Tensor:
    shape = (images.shape[-2], images.shape[-1])
    samples = _transform("nufft2d2", images, points, shape, (len(points[0]),))
    return samples.view(*images.shape[:-2], -1)


def _adjoint(y: Tensor, points: Points, shape: tuple[int, int]) -> Tensor:
    return _transform("nufft2d1", y, points, (y.shape[-1],), shape).view(*y.shape[:-1], *shape)


def _transform(
    name: Transform, values: Tensor, points: Points, inside: Shape, outside: Shape
) -> Complex64[Tensor, "n *outside"]:
    """Apply a transform, divided by the root of the number of pixels, to each of the values.

    Args:
        name: as both libraries call it: 2d2 from images to samples, 2d1 its adjoint.
        values: shape (..., *inside).
        points: see `NonCartesian.points`.
        inside: shape of what is transformed.
        outside: shape of the result.
    """
    flat = values.detach().to(torch.complex64).resolve_conj().reshape(-1, *inside).contiguous()
    sign, pixels = (-1, inside) if name == "nufft2d2" else (1, outside)
    scale = np.float32(np.sqrt(math.prod(pixels)))
    on_gpu = _gpu_transform(name, flat.device)
    if on_gpu is not None:
        result = torch.empty(len(flat), *outside, dtype=flat.dtype, device=flat.device)
        there = [on_device(one, flat.device) for one in points]
        on_gpu(*there, flat, out=result, eps=ACCURACY, isign=sign)
        return result / float(scale)
    arrays = np.empty((len(flat), *outside), np.complex64)
    here = [one.numpy() for one in points]
    getattr(finufft, name)(
        *here, flat.cpu().numpy(), out=arrays, eps=ACCURACY, isign=sign, nthreads=1
    )
    return torch.from_numpy(arrays / scale).to(flat.device)


def _gpu_transform(name: Transform, device: torch.device) -> Callable[..., Any] | None:
    """Return a transform for tensors on a GPU; None for the CPU, or without cuFINUFFT."""
    library = _cufinufft() if device.type == "cuda" else None
    if library is None:
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    stream = torch.cuda.current_stream(device).cuda_stream
    return partial(getattr(library, name), gpu_device_id=index, gpu_stream=stream)


@cache
def _cufinufft() -> Any | None:
    try:
        import cufinufft
    except (ImportError, OSError, RuntimeError) as error:  # not there, or its libraries are not
        logger.info(
            "non-Cartesian transforms run on the CPU (pip install reconbench[gpu]): %s", error
        )
        return None
    return cufinufft
