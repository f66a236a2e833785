"""Which k-space positions a Cartesian scan measures; DC is at index n // 2 of each axis.

Every mask has exactly round(positions / acceleration) positions, including those of the fully
sampled centre, so that methods are compared at the acceleration that the task names. The random
seed depends on the mask's parameters alone, so a mask is the same wherever it is drawn.
"""

from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from bench.errors import UserError
from bench.seeds import derive_seed

Lines = Literal["equispaced", "random", "gaussian1d"]
Points = Literal["gaussian2d", "poisson_disc"]
Pattern = Literal["equispaced", "random", "gaussian1d", "gaussian2d", "poisson_disc"]

# Standard deviation of the Gaussian densities, as a fraction of the side.
SPREAD = 0.2
BISECTIONS = 12
# Distance of Poisson-disc samples in the middle, in grid cells; below 1 it is nearly full there.
CLOSEST = 0.5


def default_centre(acceleration: float) -> float:
    """Return fastMRI's centre fraction: 8 % at acceleration 4, 4 % at 8."""
    return 0.32 / acceleration


@lru_cache(maxsize=32)
def sample(
    pattern: Pattern, shape: tuple[int, int], acceleration: float, centre_fraction: float
) -> Bool[Tensor, "h w"]:
    """Draw a mask.

    Args:
        pattern: `equispaced`, `random` or `gaussian1d` choose whole columns (lines along the
            readout); `gaussian2d` and `poisson_disc` choose points.
        shape: height and width of k-space.
        acceleration: positions divided by measured positions.
        centre_fraction: fraction of all positions that the fully sampled centre takes.

    Raises:
        UserError: the centre alone exceeds what the acceleration allows, or nothing is left.
    """
    by_line = pattern in get_args(Lines)
    grid = (1, shape[1]) if by_line else shape
    total = grid[0] * grid[1]
    count = round(total / acceleration)
    centre = _centre(grid, centre_fraction)
    if not count >= 1 or centre.sum() > count:
        raise UserError(
            f"acceleration {acceleration:g} leaves {count} of {total} "
            f"{'lines' if by_line else 'points'}, but the fully sampled centre has "
            f"{int(centre.sum())}; lower the acceleration or centre_fraction"
        )
    rng = np.random.default_rng(
        derive_seed("mask", pattern, *shape, f"{acceleration:g}", f"{centre_fraction:g}")
    )
    extra = count - int(centre.sum())
    if pattern == "equispaced":
        mask = _equispaced(centre[0], extra)[None]
    elif pattern == "poisson_disc":
        mask = _poisson_disc(centre, extra, rng)
    else:
        flat = np.ones(grid)
        mask = centre | _without_replacement(
            np.where(centre, 0, flat if pattern == "random" else _gaussian(grid)), extra, rng
        )
    return torch.from_numpy(np.broadcast_to(mask, shape).copy())


def _centre(grid: tuple[int, int], fraction: float) -> Bool[np.ndarray, "h w"]:
    """Mark the middle: a fraction of the lines, or a rectangle with that fraction of the points."""
    sides = [n if n == 1 else round(n * fraction ** (1 / 2 if 1 not in grid else 1)) for n in grid]
    mask = np.zeros(grid, dtype=bool)
    rows, columns = (
        slice(n // 2 - side // 2, n // 2 - side // 2 + side)
        for n, side in zip(grid, sides, strict=True)
    )
    mask[rows, columns] = True
    return mask


def _equispaced(centre: Bool[np.ndarray, " w"], extra: int) -> Bool[np.ndarray, " w"]:
    """Spread lines evenly over those outside the centre, which wrap around at the border.

    Without a centre, and if the acceleration R divides the width, these are every R-th line,
    including DC.
    """
    width = len(centre)
    start = width // 2 - centre.sum() // 2 + centre.sum()
    outside = np.arange(start, start + width - centre.sum()) % width
    shift = 0.5 if centre.any() else 0.0
    chosen = np.floor((np.arange(extra) + shift) * len(outside) / max(extra, 1)).astype(int)
    mask = centre.copy()
    mask[outside[chosen]] = True
    return mask


def _radius(grid: tuple[int, int]) -> Float64[np.ndarray, "h w"]:
    """Return the distance from DC, 1 at the end of each axis."""
    rows, columns = (np.zeros(1) if n == 1 else (np.arange(n) - n // 2) / (n / 2) for n in grid)
    return np.hypot(rows[:, None], columns)


def _gaussian(grid: tuple[int, int]) -> Float64[np.ndarray, "h w"]:
    return np.exp(-0.5 * (_radius(grid) / (2 * SPREAD)) ** 2)


def _without_replacement(
    density: Float64[np.ndarray, "h w"], count: int, rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """Draw `count` positions, each with odds of its density (Efraimidis and Spirakis, 2006)."""
    with np.errstate(divide="ignore"):
        keys = np.log(rng.random(density.shape)) / density
    mask = np.zeros(density.shape, dtype=bool)
    mask.flat[np.argsort(-keys, axis=None, kind="stable")[:count]] = True
    return mask


def _poisson_disc(
    centre: Bool[np.ndarray, "h w"], extra: int, rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """Throw darts that keep a distance of a + slope r from each other, r the radius.

    Variable-density Poisson-disc sampling (Lustig and Pauly, MRM 2010). Darts land anywhere within
    a grid cell, so that the grid is not visible. The slope is found by bisection; the few surplus
    darts are removed at random.
    """
    radius = _radius(centre.shape)
    order = rng.permutation(centre.size)
    spots = np.indices(centre.shape) + rng.random((2, *centre.shape))
    low, high = 0.0, float(max(centre.shape))
    for _ in range(BISECTIONS):
        slope = (low + high) / 2
        if len(_darts(centre, CLOSEST + slope * radius, order, spots, extra)) >= extra:
            low = slope
        else:
            high = slope
    darts = _darts(centre, CLOSEST + low * radius, order, spots, centre.size)
    # Near acceleration 1 even the densest darts are too few: the rest lands anywhere.
    others = np.setdiff1d(order[~centre.flat[order]], darts)
    mask = centre.copy()
    mask.flat[np.concatenate([rng.permutation(darts), rng.permutation(others)])[:extra]] = True
    return mask


def _darts(
    centre: Bool[np.ndarray, "h w"],
    distance: Float64[np.ndarray, "h w"],
    order: Int64[np.ndarray, " n"],
    spots: Float64[np.ndarray, "2 h w"],
    enough: int,
) -> Int64[np.ndarray, " darts"]:
    """Accept cells in the given order, unless the spot is too close to that of an accepted cell."""
    width = centre.shape[1]
    blocked = centre.copy()
    accepted: list[int] = []
    for pixel in order.tolist():
        row, column = divmod(pixel, width)
        if blocked[row, column]:
            continue
        accepted.append(pixel)
        if len(accepted) > enough:
            break
        reach = distance[row, column]
        around = int(reach) + 1
        near = (
            slice(max(row - around, 0), row + around + 1),
            slice(max(column - around, 0), column + around + 1),
        )
        down, right = spots[0][near] - spots[0, row, column], spots[1][near] - spots[1, row, column]
        blocked[near] |= down**2 + right**2 < reach**2
    return np.array(accepted, dtype=np.int64)
