"""Parallel-beam CT: line integrals by Joseph's method, as a sparse matrix, and its transpose.

The matrix is large (84 MB for 128 pixels and 180 views, sixteen times as much for 512 pixels). On
the CPU it is mapped from a file of the cache, so that all processes of a machine share one copy.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Float32, Int32, Shaped
from pydantic import Field
from scipy import sparse
from torch import Tensor

from bench import places
from bench.errors import UserError
from bench.physics._constants import on_device
from bench.physics.base import Physics, Size, full_precision

Views = Annotated[int, Field(ge=1, le=2048)]
Filter = Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"]

# The sparse product sums in an order that depends on the number of columns.
COLUMNS = 8
CSR_ARRAYS = ("starts", "columns", "lengths")  # of a matrix in compressed-row format


class ParallelBeam(Physics):
    """Sinograms of shape (b, 1, detectors, views) from views spread evenly over half a turn.

    Lengths are measured in units of the image's longer side; detectors are a pixel wide and cover
    the whole image, corners included.

    Args:
        level: see the subclass.
        image_size: pixels along each side, or (height, width).
        views: number of directions.
        noise_variance: of the noise added to the line integrals.
        filter: window of the ramp filter of `A_dagger`.
    """

    def __init__(
        self, level: float, image_size: Size, views: int, noise_variance: float, filter: Filter
    ):
        super().__init__(level, image_size, noise_variance)
        if views < 1:
            raise UserError(f"{self.name}: views {views} is below 1")
        self.views = views
        self.filter: Filter = filter

    @full_precision
    def A(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 d v"]:
        """Integrate along the rays.

        Raises:
            ValueError: images of another size than the physics was made for.
        """
        if tuple(x.shape[-2:]) != self.shape:
            raise ValueError(f"{self.name}: made for {self.shape}, not {tuple(x.shape[-2:])}")
        forward, transposed = system_matrix(self.shape, self.views, str(x.device))
        rays = _Product.apply(x.flatten(1).T, forward, transposed)
        return rays.T.reshape(len(x), 1, detectors(self.shape), self.views)

    @full_precision
    def A_adjoint(self, y: Float[Tensor, "b 1 d v"]) -> Float[Tensor, "b 1 h w"]:
        """Back-project: multiply by the transposed matrix."""
        forward, transposed = system_matrix(self.shape, self.views, str(y.device))
        pixels = _Product.apply(y.flatten(1).T, transposed, forward)
        return pixels.T.reshape(len(y), 1, *self.shape)

    @full_precision
    def A_dagger(self, y: Float[Tensor, "b 1 d v"]) -> Float[Tensor, "b 1 h w"]:
        """Filtered back-projection with the filter of this object."""
        return self.back_project(y, self.filter)

    @full_precision
    def back_project(
        self, y: Float[Tensor, "b 1 d v"], window: Filter, cutoff: float = 1.0
    ) -> Float[Tensor, "b 1 h w"]:
        """Filtered back-projection (Kak and Slaney, 1988, chapter 3).

        Args:
            y: sinograms.
            window: of the ramp filter.
            cutoff: the window's width, as a fraction of the Nyquist frequency.
        """
        count = y.shape[-2]
        response = on_device(ramp(count, window, cutoff), y.device)[:, None]
        spectrum = torch.fft.rfft(y, n=2 * (len(response) - 1), dim=-2) * response
        filtered = torch.fft.irfft(spectrum, dim=-2)[..., :count, :]
        side = max(self.shape)
        return self.A_adjoint(filtered) * (np.pi * side**2 / self.views)


def detectors(shape: tuple[int, int]) -> int:
    """Return the number of detectors that covers an image from all directions."""
    return int(np.ceil(np.hypot(*shape)))


@lru_cache(maxsize=4)
def system_matrix(shape: tuple[int, int], views: int, device: str) -> tuple[Tensor, Tensor]:
    """Return the matrix from pixels to rays and its transpose, both compressed by rows."""
    arrays = _cached(shape, views) or _compressed(shape, views)
    rays, pixels = detectors(shape) * views, shape[0] * shape[1]
    return (
        _to_torch(arrays, "forward", (rays, pixels), device),
        _to_torch(arrays, "transposed", (pixels, rays), device),
    )


def _cached(shape: tuple[int, int], views: int) -> dict[str, Tensor] | None:
    """Map the arrays of both matrices from the cache, which the first process fills.

    None if the cache cannot be written.
    """
    from safetensors import SafetensorError  # late: other degradations do without
    from safetensors.torch import load_file, save_file

    folder = places.cache_folder()
    if folder is None:
        return None
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    file = folder / f"joseph-{shape[0]}x{shape[1]}-{views}-{code}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(file.with_suffix(".lock")):
            with contextlib.suppress(FileNotFoundError, SafetensorError):  # truncated
                return load_file(file)
            with places.atomic_write(file) as temporary:
                save_file(_compressed(shape, views), temporary)
            return load_file(file)
    except (OSError, UserError):
        return None


def _compressed(shape: tuple[int, int], views: int) -> dict[str, Tensor]:
    """Compute the arrays of the matrix and of its transpose, each compressed by rows."""
    by_view = list(_joseph(shape, views))
    rays, pixels, lengths = (np.concatenate(values) for values in zip(*by_view, strict=True))
    size = (detectors(shape) * views, shape[0] * shape[1])
    matrix = sparse.csr_matrix((lengths, (rays, pixels)), shape=size)
    return {
        f"{name}_{array}": torch.from_numpy(values)
        for name, one in (("forward", matrix), ("transposed", matrix.T.tocsr()))
        for array, values in zip(CSR_ARRAYS, (one.indptr, one.indices, one.data), strict=True)
    }


def _to_torch(
    arrays: dict[str, Tensor], name: str, size: tuple[int, int], device: str
) -> Shaped[Tensor, "rows columns"]:
    starts, columns, lengths = (arrays[f"{name}_{array}"] for array in CSR_ARRAYS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        compressed = torch.sparse_csr_tensor(starts, columns, lengths, size, check_invariants=False)
    return compressed.to(device)


def _joseph(
    shape: tuple[int, int], views: int
) -> Iterator[tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]]:
    """Yield, for each view, ray, pixel and weight of every pixel that a ray meets.

    A ray crosses rows (or columns, whichever it crosses more steeply); at each, the two nearest
    pixels are linearly interpolated: Joseph, IEEE TMI 1, 1982.
    """
    height, width = shape
    count = detectors(shape)
    offset = np.arange(count) - (count - 1) / 2
    side = max(shape)
    for view in range(views):
        cosine, sine = np.cos(np.pi * view / views), np.sin(np.pi * view / views)
        # The ray at s: x cos + y sin = s, x to the right, y up.
        steep = abs(cosine) >= abs(sine)
        steps = np.arange(height if steep else width)
        if steep:
            y = (height - 1) / 2 - steps
            across = (offset[:, None] - y * sine) / cosine + (width - 1) / 2
        else:
            x = steps - (width - 1) / 2
            across = (height - 1) / 2 - (offset[:, None] - x * cosine) / sine
        step_length = 1 / max(abs(cosine), abs(sine)) / side
        limit = width if steep else height
        below = np.floor(across).astype(np.int64)
        for near, weight in ((below, below + 1 - across), (below + 1, across - below)):
            detector, step = np.nonzero((near >= 0) & (near < limit) & (weight > 0))
            other = near[detector, step]
            pixel = step * width + other if steep else other * width + step
            length = weight[detector, step] * step_length
            ray = detector * views + view
            yield ray.astype(np.int32), pixel.astype(np.int32), length.astype(np.float32)


@lru_cache(maxsize=16)
def ramp(count: int, window: Filter, cutoff: float = 1.0) -> Float[Tensor, " frequencies"]:
    """Return the frequency response of the band-limited ramp, at detectors a pixel apart.

    It is the transform of the ramp's samples in space, which preserves the mean (Kak and Slaney,
    equation 61), padded so that filtering does not wrap around.
    """
    size = 1 << int(np.ceil(np.log2(2 * count)))
    distance = np.minimum(np.arange(size), size - np.arange(size))
    samples = np.zeros(size)
    odd = distance % 2 == 1
    samples[odd] = -1 / (np.pi * distance[odd]) ** 2
    samples[0] = 0.25
    frequency = np.fft.rfftfreq(size) / cutoff
    windows = {
        "ramp": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency),
        "cosine": np.cos(np.pi * frequency),
        "hamming": 0.54 + 0.46 * np.cos(2 * np.pi * frequency),
        "hann": 0.5 + 0.5 * np.cos(2 * np.pi * frequency),
    }
    passed = np.where(frequency <= 0.5, windows[window], 0)
    return torch.from_numpy((np.fft.rfft(samples).real * passed).astype(np.float32))


class _Product(torch.autograd.Function):
    """Sparse matrix times columns, differentiable in the columns by the given transpose."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrices = transposed, matrix
        return _product(matrix, columns)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _product(ctx.matrices[0], grads[0]), None, None


def _product(matrix: Tensor, columns: Tensor) -> Tensor:
    """Multiply a fixed number of columns at a time: results must not depend on the batch size."""
    total = columns.shape[1]
    padded = torch.nn.functional.pad(columns.float(), (0, -total % COLUMNS))
    parts = [matrix @ part.contiguous() for part in padded.split(COLUMNS, dim=1)]
    return torch.cat(parts, dim=1)[:, :total]
