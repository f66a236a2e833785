"""Validation curves of networks: was the number of steps enough?

A network that still improves at the end of its training is not a bad network. Imports neither
PyTorch nor Ray: report and dashboard both take words and numbers from here.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Float64

COLUMNS = ("cell", "seed", "step", "psnr", "ssim")
LAST = 0.25  # part of the steps at the end, over which the gain is measured
ENOUGH = 0.1  # dB; a network that gains more in that part is still improving
LONGER = (2, 4)  # times the steps, for which the score is projected
EXPONENTS = np.geomspace(0.05, 3, 60)


def gains(curves: pd.DataFrame) -> pd.DataFrame:
    """Measure how much each network still gained at the end of its training.

    Args:
        curves: `COLUMNS`, one line per validation of each refit; PSNR in dB.

    Returns:
        by cell, for those with at least four validations: `steps`, `psnr` (of the best validation
        so far, whose weights are kept, as a mean over the seeds), `gain` (dB in the last quarter of
        the steps), `psnr_2x` and `psnr_4x` (projected for so many times the steps by a power law
        fitted to the curve), and `rising` (whether `gain` is more than `ENOUGH`).
    """
    lines = {}
    for cell, by_seed in _by_cell(curves.dropna(subset=["psnr"])):
        step = by_seed[0][0]
        same = [psnr for steps, psnr in by_seed if np.array_equal(steps, step)]
        if len(step) < 4 or len(same) < len(by_seed):
            continue
        best = np.maximum.accumulate(np.stack(same), axis=1).mean(axis=0)
        earlier = best[step <= (1 - LAST) * step[-1] + 0.5]
        before = earlier[-1] if len(earlier) else best[0]
        gain = float(best[-1] - before)
        longer = _project(step, best, np.array(LONGER, dtype=float))
        lines[cell] = {
            "steps": int(step[-1]),
            "psnr": float(best[-1]),
            "gain": gain,
            **{f"psnr_{k}x": float(one) for k, one in zip(LONGER, longer, strict=True)},
            "rising": gain > ENOUGH,
        }
    names = ["steps", "psnr", "gain", *(f"psnr_{k}x" for k in LONGER), "rising"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=names)


def _by_cell(curves: pd.DataFrame) -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Yield each cell with the steps and PSNR of its refits; arrays, since there are thousands."""
    if curves.empty:
        return
    ordered = curves.sort_values(["cell", "seed", "step"])
    step, psnr = (ordered[name].to_numpy(dtype=float) for name in ("step", "psnr"))
    cell, cells = pd.factorize(ordered["cell"])
    seed, _ = pd.factorize(ordered["seed"])
    changes = np.diff(cell, prepend=-1).astype(bool) | np.diff(seed, prepend=-1).astype(bool)
    starts = np.flatnonzero(changes)
    refits = zip(cell[starts], starts, [*starts[1:], len(ordered)], strict=True)
    for code, own in itertools.groupby(refits, key=lambda refit: refit[0]):
        yield str(cells[code]), [(step[start:end], psnr[start:end]) for _, start, end in own]


def _project(
    step: Float64[np.ndarray, " n"], psnr: Float64[np.ndarray, " n"], at: np.ndarray
) -> Float64[np.ndarray, " m"]:
    """Continue a rising curve to so many times its steps, by psnr = a - b step^-c fitted to it.

    The first validations, in which the course is often another, are left out if six others remain.
    """
    skipped = min(len(step) // 4, max(len(step) - 6, 0))
    step, psnr = step[skipped:] / step[-1], psnr[skipped:]
    course = -(step ** -EXPONENTS[:, None])
    course -= course.mean(axis=1, keepdims=True)
    rise = psnr - psnr.mean()
    b = (course @ rise) / (course**2).sum(axis=1)
    error = ((rise - b[:, None] * course) ** 2).sum(axis=1)
    error[b < 0] = np.inf
    if not np.isfinite(error).any():
        return np.full(len(at), psnr[-1])
    k = int(np.argmin(error))
    # The curve continues from its last value, not from the fit's.
    return psnr[-1] + b[k] * (1 - at ** -EXPONENTS[k])
