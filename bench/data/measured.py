"""k-space as a scanner measured it, coil by coil, for operators that start from it."""

from pathlib import Path

import numpy as np
from jaxtyping import Complex64

from bench.data import hdf5, npy
from bench.data.arrays import choose, kspace_of
from bench.data.kspace import magnitude
from bench.data.prepare import Unusable
from bench.errors import UserError


def load_kspace(
    path: Path, slice_number: int | None = None, key: str | None = None, axes: str = "auto"
) -> Complex64[np.ndarray, "coils h w"]:
    """Read the k-space of one slice, scaled so that the brightest pixel of its image is 1.

    Args:
        path: a NumPy, HDF5 or MATLAB file.
        slice_number: default: the one in the middle.
        key: the array; default: by a usual name, else the largest.
        axes: a letter for each axis, s(lice), c(oil), h(eight), w(idth).

    Raises:
        UserError: no such file, or no k-space in it.
    """
    try:
        if path.suffix.lower() in npy.SUFFIXES:
            volume = kspace_of(*npy.open_array(path, key), axes)
        else:
            with hdf5.opened(path) as (arrays, _):
                chosen = choose(arrays, key)
                volume = kspace_of(hdf5.values_of(arrays[chosen]), chosen, axes)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Unusable as reason:
        raise UserError(f"{path}: {reason}") from None
    except (OSError, ValueError):
        raise UserError(f"{path}: no NumPy, HDF5 or MATLAB file that holds k-space") from None
    number = len(volume) // 2 if slice_number is None else slice_number
    if not 0 <= number < len(volume):
        raise UserError(f"{path}: there is no slice {number}; it has {len(volume)}")
    coils = volume[number]
    if not np.isfinite(coils).all() or not coils.any():
        raise UserError(f"{path}: slice {number} holds NaN, infinite values or only zeros")
    return coils / magnitude(coils[None]).max()
