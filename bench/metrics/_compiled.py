"""Squared errors and SSIM in one pass over the pixels, compiled by Numba, in double precision.

Sums over the rows of SSIM's window are kept running: each step adds one row and drops another. The
compiler turns every loop along a row into vector instructions.
"""

import inspect

import numpy as np
from numba import njit

from bench.metrics.ssim import WINDOW


def _mean_square(a, b, inside):  # type: ignore[no-untyped-def]  # read by Numba
    """Average (a - b)^2 over each image (n, h, w), or over the pixels of a mask if it has any."""
    count, height, width = a.shape
    found = np.empty(count)
    masked = inside.shape[0] > 0
    for k in range(count):
        total, counted = 0.0, 0
        for row in range(height):
            u, v = a[k, row], b[k, row]
            if masked:
                for j in range(width):
                    if inside[k, row, j]:
                        total += (np.float64(u[j]) - np.float64(v[j])) ** 2
                        counted += 1
            else:
                for j in range(width):
                    total += (np.float64(u[j]) - np.float64(v[j])) ** 2
                counted += width
        found[k] = total / counted if counted else np.nan
    return found


def _move_down(columns, u, v, gone_u, gone_v):  # type: ignore[no-untyped-def]
    """Add a row to the sums of a, b, a^2 + b^2 and a b over each column, and drop another."""
    for j in range(columns.shape[1]):
        x, y = np.float64(u[j]), np.float64(v[j])
        z, w = np.float64(gone_u[j]), np.float64(gone_v[j])
        columns[0, j] += x - z
        columns[1, j] += y - w
        columns[2, j] += (x * x + y * y) - (z * z + w * w)
        columns[3, j] += x * y - z * w


def _row_ssim(columns, threes, weight, c1, c2):  # type: ignore[no-untyped-def]
    """Add up SSIM at the positions along a row, by their weights.

    Sums over seven columns are made of two over three, which `threes` has room for, and one more:
    a running sum would have to wait for each addition before the next.
    """
    wide = len(weight)
    for j in range(wide + 3):
        threes[0, j] = columns[0, j] + columns[0, j + 1] + columns[0, j + 2]
        threes[1, j] = columns[1, j] + columns[1, j + 1] + columns[1, j + 2]
        threes[2, j] = columns[2, j] + columns[2, j + 1] + columns[2, j + 2]
        threes[3, j] = columns[3, j] + columns[3, j + 1] + columns[3, j + 2]
    share, sample = 1.0 / WINDOW**2, WINDOW**2 / (WINDOW**2 - 1.0)
    total = 0.0
    for j in range(wide):
        mu = share * (threes[0, j] + threes[0, j + 3] + columns[0, j + 6])
        mv = share * (threes[1, j] + threes[1, j + 3] + columns[1, j + 6])
        square = share * (threes[2, j] + threes[2, j + 3] + columns[2, j + 6])
        product = share * (threes[3, j] + threes[3, j + 3] + columns[3, j + 6])
        cross, squares = mu * mv, mu * mu + mv * mv
        covariance, variances = sample * (product - cross), sample * (square - squares)
        total += weight[j] * (
            ((2 * cross + c1) * (2 * covariance + c2)) / ((squares + c1) * (variances + c2))
        )
    return total


def _mean_ssim(a, b, c1, c2, inside):  # type: ignore[no-untyped-def]  # read by Numba
    """Average SSIM over the positions of its window, 7x7, that lie inside the image.

    Args:
        a: images (n, h, w).
        b: the other images.
        c1: (n,), the constant of the luminance.
        c2: (n,), that of contrast and structure.
        inside: (n, h - 6, w - 6), the positions to average over; empty: all.
    """
    count, height, width = a.shape
    wide = width - WINDOW + 1
    masked = inside.shape[0] > 0
    found = np.empty(count)
    columns, threes, weight = np.empty((4, width)), np.empty((4, width)), np.ones(wide)
    nothing = np.zeros(width, a.dtype)
    for k in range(count):
        columns[:] = 0.0
        total, counted = 0.0, 0
        for row in range(height):
            gone = row - WINDOW
            gone_a, gone_b = (a[k, gone], b[k, gone]) if gone >= 0 else (nothing, nothing)
            move_down(columns, a[k, row], b[k, row], gone_a, gone_b)
            if gone < -1:
                continue
            if masked:
                weight[:] = inside[k, gone + 1]
                counted += inside[k, gone + 1].sum()
            else:
                counted += wide
            total += row_ssim(columns, threes, weight, c1[k], c2[k])
        found[k] = total / counted if counted else np.nan
    return found


# `unwrap`, since Numba cannot read a function that a type checker has wrapped. Sums in another
# order may use several lanes of the processor.
exact = njit(cache=True, nogil=True, error_model="numpy")
reordered = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
move_down, row_ssim, mean_square = (
    reordered(inspect.unwrap(one)) for one in (_move_down, _row_ssim, _mean_square)
)
mean_ssim = exact(inspect.unwrap(_mean_ssim))
