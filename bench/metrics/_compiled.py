"""Squared errors and SSIM in one pass over the pixels, compiled by Numba, in double precision.

Sums over SSIM's window are kept running: each step adds one pixel and drops one, so that the size
of the window costs nothing.
"""

import inspect

import numpy as np
from numba import njit


def _mean_square(a, b, inside):  # type: ignore[no-untyped-def]  # read by Numba
    """Average (a - b)^2 over each image (n, h, w), or over the pixels of a mask if it has any."""
    count, height, width = a.shape
    found = np.empty(count)
    masked = inside.shape[0] > 0
    for k in range(count):
        total, places = 0.0, 0
        for row in range(height):
            u, v = a[k, row], b[k, row]
            if masked:
                for j in range(width):
                    if inside[k, row, j]:
                        total += (np.float64(u[j]) - np.float64(v[j])) ** 2
                        places += 1
            else:
                for j in range(width):
                    total += (np.float64(u[j]) - np.float64(v[j])) ** 2
                places += width
        found[k] = total / places if places else np.nan
    return found


def _advance(columns, sums, u, v, gone_u, gone_v, window):  # type: ignore[no-untyped-def]
    """Move the window down by a row, and along it: sums of a, b, a^2 + b^2 and a b.

    `columns` are the sums over the rows of the window, by column; `sums` those over the window.
    """
    a = b = s = p = 0.0
    for j in range(columns.shape[1]):
        x, y, z, w = (
            np.float64(u[j]),
            np.float64(v[j]),
            np.float64(gone_u[j]),
            np.float64(gone_v[j]),
        )
        ca = columns[0, j] + (x - z)
        cb = columns[1, j] + (y - w)
        cs = columns[2, j] + ((x * x + y * y) - (z * z + w * w))
        cp = columns[3, j] + (x * y - z * w)
        columns[0, j], columns[1, j], columns[2, j], columns[3, j] = ca, cb, cs, cp
        if j >= window:
            left = j - window
            a += ca - columns[0, left]
            b += cb - columns[1, left]
            s += cs - columns[2, left]
            p += cp - columns[3, left]
        else:
            a += ca
            b += cb
            s += cs
            p += cp
        if j >= window - 1:
            k = j - window + 1
            sums[0, k], sums[1, k], sums[2, k], sums[3, k] = a, b, s, p


def _formula(sums, weight, share, sample, c1, c2):  # type: ignore[no-untyped-def]
    """Add up SSIM at the places of a row, by their weights."""
    sa, sb, ss, sp = sums[0], sums[1], sums[2], sums[3]
    total = 0.0
    for j in range(len(weight)):
        mu, mv = sa[j] * share, sb[j] * share
        cross = mu * mv
        squares = mu * mu + mv * mv
        covariance = sample * (sp[j] * share - cross)
        variances = sample * (ss[j] * share - squares)
        total += weight[j] * (
            ((2 * cross + c1) * (2 * covariance + c2)) / ((squares + c1) * (variances + c2))
        )
    return total


def _mean_ssim(a, b, c1, c2, window, inside):  # type: ignore[no-untyped-def]  # read by Numba
    """Average SSIM over the positions of a window that lies inside the image.

    Args:
        a: images (n, h, w).
        b: the other images.
        c1: (n,), the constant of the luminance.
        c2: (n,), that of contrast and structure.
        window: its side, odd.
        inside: (n, h - window + 1, w - window + 1), the positions to average over; empty: all.
    """
    count, height, width = a.shape
    wide = width - window + 1
    masked = inside.shape[0] > 0
    share = 1.0 / window**2
    sample = window**2 / (window**2 - 1.0)
    found = np.empty(count)
    columns, sums, weight = np.empty((4, width)), np.empty((4, wide)), np.ones(wide)
    nothing = np.zeros(width, a.dtype)
    for k in range(count):
        columns[:] = 0.0
        total, places = 0.0, 0.0
        for row in range(height):
            gone = row - window
            gone_a, gone_b = (a[k, gone], b[k, gone]) if gone >= 0 else (nothing, nothing)
            advance(columns, sums, a[k, row], b[k, row], gone_a, gone_b, window)
            if row < window - 1:
                continue
            if masked:
                for j in range(wide):
                    weight[j] = inside[k, row - window + 1, j]
            total += formula(sums, weight, share, sample, c1[k], c2[k])
            places += weight.sum()
        found[k] = total / places if places else np.nan
    return found


# `unwrap`, since Numba cannot read a function that a type checker has wrapped. Sums in another
# order may use several lanes of the processor.
exact = njit(cache=True, nogil=True, error_model="numpy")
reordered = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
advance = exact(inspect.unwrap(_advance))
formula, mean_square = (reordered(inspect.unwrap(one)) for one in (_formula, _mean_square))
mean_ssim = exact(inspect.unwrap(_mean_ssim))
