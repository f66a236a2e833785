"""Arrays of one shape, written one after another into a file that is mapped into memory."""

import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy.lib import format


class Spool:
    """Collects arrays in a .npy file, so that not all of them have to be in memory.

    Args:
        folder: for the file, which has a temporary name; None: they stay in memory.

    Attributes:
        shape: of each array; empty before the first.
        count: number of arrays so far.
    """

    def __init__(self, folder: Path | None):
        self.shape: tuple[int, ...] = ()
        self.count = 0
        self._parts: list[np.ndarray] = []
        self._file: Path | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(prefix=".spool.", dir=folder, delete=False) as file:
                self._file = Path(file.name)

    def add(self, arrays: Shaped[np.ndarray, "n ..."]) -> None:
        """Append arrays."""
        if not self.count:
            self.shape, self._type = arrays.shape[1:], arrays.dtype
        if self._file is None:
            self._parts.append(arrays)
        else:
            with self._file.open("ab") as file:
                if not self.count:
                    self._write_header(file)
                file.write(np.ascontiguousarray(arrays).tobytes())
        self.count += len(arrays)

    def close(self) -> Shaped[np.ndarray, "n ..."]:
        """Return all arrays as one, mapped into memory."""
        if self._file is None:
            return np.concatenate(self._parts)
        with self._file.open("r+b") as file:
            self._write_header(file)
        mapped: np.ndarray = np.load(self._file, mmap_mode="r")
        return mapped

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _write_header(self, file: object) -> None:
        """Write the header; NumPy leaves room for a first axis that grows."""
        described = format.dtype_to_descr(self._type)
        header = {"descr": described, "fortran_order": False, "shape": (self.count, *self.shape)}
        format.write_array_header_2_0(file, header)  # type: ignore[arg-type]
