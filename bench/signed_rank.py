"""Wilcoxon's signed-rank test of many pairs at once (Biometrics Bulletin 1(6), 1945)."""

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr
from scipy.stats import wilcoxon

EXACT = 50  # subjects up to which the distribution of ranks is the exact one


def p_values(difference: Float64[np.ndarray, "pairs subjects"]) -> Float64[np.ndarray, " pairs"]:
    """Return the two-sided p of each pair over the subjects; 1 with fewer than two of them.

    Zeros count half for either side. With ties, SciPy's exact distribution is conservative.
    """
    pairs, subjects = difference.shape
    if subjects < 2 or not pairs:
        return np.ones(pairs)
    if subjects <= EXACT:
        return _scipys(difference, "exact")
    size = np.abs(difference)
    order = np.argsort(size, axis=1)
    ordered = np.take_along_axis(size, order, axis=1)
    plain = (np.diff(ordered, prepend=0) > 0).all(axis=1)
    # Where no differences are equal or zero, ranks are places in this order. For the thousands of
    # pairs of a task this takes a quarter of SciPy's time.
    ranks = np.arange(1.0, subjects + 1)
    positive = np.take_along_axis(difference > 0, order, axis=1) @ ranks
    p = 2 * ndtr(-np.abs(positive - ranks.sum() / 2) / np.sqrt((ranks**2).sum() / 4))
    if not plain.all():
        p[~plain] = _scipys(difference[~plain], "asymptotic")
    return p


def _scipys(
    difference: Float64[np.ndarray, "pairs subjects"], method: str
) -> Float64[np.ndarray, " pairs"]:
    p = wilcoxon(difference, axis=1, zero_method="zsplit", method=method).pvalue
    return np.nan_to_num(p, nan=1.0)
