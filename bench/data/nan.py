"""NaN and infinite values: where they mean "outside", and where they are damage."""

import numpy as np
from jaxtyping import Bool, Float32

# NaN is outside the object if at least this share of it is connected to the border of the slice.
AT_BORDER = 0.99


def is_finite(values: Float32[np.ndarray, "h w"]) -> bool:
    """Return whether no value is NaN or infinite."""
    return bool(np.isfinite(values.sum(dtype=np.float64)))


def filled(values: Float32[np.ndarray, "h w"], by: float) -> Float32[np.ndarray, "h w"]:
    """Replace NaN and infinite values by a number."""
    return np.where(np.isfinite(values), values, np.float32(by))


def reaches_border(bad: Bool[np.ndarray, "h w"]) -> bool:
    """Return whether nearly all marked pixels are connected to the border of the image."""
    from scipy.ndimage import label  # 0.2 s, which every process of a reader would spend

    if not bad.any():
        return True
    labels = label(bad)[0]
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    at_border = np.isin(labels, np.unique(edges[edges > 0]))
    return bool(at_border.sum() >= AT_BORDER * bad.sum())


def has_faults(values: Float32[np.ndarray, "h w"]) -> bool:
    """Return whether any value is infinite, or NaN that is not outside."""
    if is_finite(values):
        return False
    return bool(np.isinf(values).any()) or not reaches_border(np.isnan(values))
