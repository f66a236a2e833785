"""Validation curves of networks: was the number of steps enough?

A network that still improves at the end of its training is not a bad network. Imports neither
PyTorch nor Ray: report and dashboard both take words and numbers from here.
"""

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
    for cell, curve in curves.groupby("cell"):
        table = curve.pivot_table(index="step", columns="seed", values="psnr").dropna()
        if len(table) < 4:
            continue
        step = table.index.to_numpy(dtype=float)
        best = table.cummax().mean(axis=1).to_numpy()
        earlier = best[step <= (1 - LAST) * step[-1] + 0.5]
        before = earlier[-1] if len(earlier) else best[0]
        gain = float(best[-1] - before)
        longer = _project(step, best, step[-1] * np.array(LONGER))
        lines[cell] = {
            "steps": int(step[-1]),
            "psnr": float(best[-1]),
            "gain": gain,
            **{f"psnr_{k}x": float(one) for k, one in zip(LONGER, longer, strict=True)},
            "rising": gain > ENOUGH,
        }
    names = ["steps", "psnr", "gain", *(f"psnr_{k}x" for k in LONGER), "rising"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=names)


def _project(
    step: Float64[np.ndarray, " n"], psnr: Float64[np.ndarray, " n"], at: np.ndarray
) -> Float64[np.ndarray, " m"]:
    """Continue a rising curve by psnr = a - b step^-c, fitted by least squares.

    The first validations, in which the course is often another, are left out if six others remain.
    """
    skipped = min(len(step) // 4, max(len(step) - 6, 0))
    step, psnr = step[skipped:], psnr[skipped:]
    best, found = np.inf, np.full(len(at), psnr[-1])
    for exponent in EXPONENTS:
        basis = np.stack([np.ones_like(step), -((step / step[-1]) ** -exponent)], axis=1)
        (a, b), *_ = np.linalg.lstsq(basis, psnr, rcond=None)
        error = float(((basis @ [a, b] - psnr) ** 2).sum())
        if b >= 0 and error < best:
            best = error
            # The curve continues from its last value, not from the fit's.
            found = psnr[-1] + b * (1 - (at / step[-1]) ** -exponent)
    return found
