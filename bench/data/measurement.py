"""What was measured of images, where the dataset brings it: a paired image, or raw k-space."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float32, Int64, Shaped
from torch import Tensor

from bench.errors import UserError

Kind = Literal["image", "kspace"]


@dataclass(frozen=True)
class Measured:
    """The measurement of each image of a set, read from its file when it is used.

    The arrays are those of the whole dataset, which its parts share; a memory-mapped one is sent
    to another process by the name of its file.

    Attributes:
        kind: "image", float32 of shape (N, 1, H, W), or "kspace", complex64 of shape
            (N, coils, H, W), DC in the middle.
        values: what was measured, in the units of the images.
        noise: standard deviation of the noise in each, of its real and imaginary part separately.
        digests: a hash of each.
        index: positions of this set's images in these arrays.
        maps: the coils' sensitivities for k-space, of the same shape.
    """

    kind: Kind
    values: Shaped[np.ndarray, "all c h w"]
    noise: Float32[np.ndarray, " all"]
    digests: list[str]
    index: Int64[np.ndarray, " n"]
    maps: Complex64[np.ndarray, "all c h w"] | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def noise_std(self) -> float:
        """The median over the images."""
        return float(np.median(self.noise[self.index]))

    def take(self, index: Sequence[int] | slice) -> "Measured":
        """Select images by position, without reading them."""
        chosen = index if isinstance(index, slice) else np.asarray(index, dtype=np.int64)
        return replace(self, index=self.index[chosen])

    def read(self, device: torch.device | str = "cpu") -> Tensor:
        """Read the measurements of shape (n, c, h, w)."""
        return torch.from_numpy(_rows(self.values, self.index)).to(device)

    def read_maps(self, device: torch.device | str = "cpu") -> Tensor:
        """Read the coils' sensitivities of shape (n, c, h, w)."""
        assert self.maps is not None
        return torch.from_numpy(_rows(self.maps, self.index)).to(device)

    def mirrored(self, which: Bool[Tensor, " n"]) -> "Measured":
        """Read the measurements, and mirror some of the images left-right."""
        chosen = which.cpu().numpy()
        values, maps = _rows(self.values, self.index), None
        if self.kind == "kspace":
            values[chosen] = _mirrored_kspace(values[chosen])
        else:
            values[chosen] = values[chosen][..., ::-1]
        if self.maps is not None:
            maps = _rows(self.maps, self.index)
            maps[chosen] = maps[chosen][..., ::-1]
        return replace(
            self, values=values, maps=maps, noise=self.noise[self.index],
            digests=[self.digests[i] for i in self.index], index=np.arange(len(self.index)),
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence["Measured"]) -> "Measured":
        """Read several sets into one."""
        maps = [_rows(part.maps, part.index) for part in parts if part.maps is not None]
        return Measured(
            parts[0].kind,
            np.concatenate([_rows(part.values, part.index) for part in parts]),
            np.concatenate([part.noise[part.index] for part in parts]),
            [part.digests[i] for part in parts for i in part.index],
            np.arange(sum(map(len, parts))),
            np.concatenate(maps) if maps else None,
        )

    def digest(self) -> str:
        """Name what was measured of these images."""
        return ",".join(self.digests[i] for i in self.index)

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        for name in ("values", "maps"):
            if isinstance(state[name], np.memmap):
                state[name] = str(state[name].filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("values", "maps"):
            if isinstance(state[name], str):
                state[name] = opened(Path(state[name]))
        vars(self).update(state)


def opened(file: Path) -> np.ndarray:
    """Map a file of measurements into memory.

    Raises:
        UserError: this machine does not have it.
    """
    if not file.exists():
        raise UserError(
            f"{file}: the measured data of this dataset are not there; if the run uses several "
            "machines, set RECONBENCH_CACHE to a folder that all of them share"
        )
    mapped: np.ndarray = np.load(file, mmap_mode="r")
    return mapped


def _rows(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Copy some of the arrays of a file, mapped for this one reading.

    The pages that are read then do not count as memory of this process for ever.
    """
    found: np.ndarray = (
        opened(Path(array.filename))[index]
        if isinstance(array, np.memmap) and array.filename is not None
        else array[index]
    )
    return np.ascontiguousarray(found)


def _mirrored_kspace(
    kspace: Complex64[np.ndarray, "*n h w"],
) -> Complex64[np.ndarray, "*n h w"]:
    """Mirror the image of k-space left-right: k becomes -k, and a shift by a pixel if w is even."""
    width = kspace.shape[-1]
    middle = width // 2
    columns = (2 * middle - np.arange(width)) % width
    shift = 2 * middle + 1 - width
    ramp = np.exp(2j * np.pi * shift * (np.arange(width) - middle) / width)
    return (kspace[..., columns] * ramp).astype(np.complex64)
