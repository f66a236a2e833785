"""Image quality per image, under named conventions.

A metric is a file here, or a class of a user's package. PSNR, SSIM and NMSE are computed in every
run, others if a benchmark file names them.

| convention | data range | averaged over |
|---|---|---|
| `image` | 1, since images lie in [0, 1] | the image; scikit-image's definitions |
| `volume` | the volume's maximum | PSNR: the volume, SSIM: each slice (fastMRI, arXiv 1811.08839) |
| `roi` | 1 | foreground pixels only |

Reconstructions are neither clipped nor rescaled here. Every score of a reconstruction with a pixel
that is not finite is NaN, and so is a score that is undefined for its image.
"""

import inspect
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from bench.errors import UserError
from bench.metrics.base import CONVENTIONS, Metric, mean_square, ratio
from bench.metrics.ssim import WINDOW, ssim_map, ssim_terms
from bench.registry import Registry, label_of
from bench.score_columns import PERFECT, STANDARD, ScoreColumn, is_free
from bench.spec import STANDARD_METRICS, column_of

__all__ = [
    "CONVENTIONS", "METRICS", "PERFECT", "STANDARD_METRICS", "WINDOW", "Metric", "columns",
    "describe", "evaluate", "find", "foreground", "name_of", "residual", "ssim_map", "ssim_terms",
]  # fmt: skip

FOREGROUND = 0.05

METRICS: Registry[type[Metric]] = Registry(
    "metric", ("bench.metrics",), Metric, "a class that extends bench.metrics.Metric"
)


def find(given: str | type[Metric]) -> type[Metric]:
    """Find a metric by its name, dotted path or entry point; a class is returned after a check.

    Raises:
        UserError: it does not exist, cannot be imported, or is not a metric.
    """
    metric = METRICS.find(given)
    if inspect.isabstract(metric):
        raise UserError(f"{given}: is abstract; a metric defines image(self, x_hat, x)")
    return metric


def name_of(given: str | type[Metric]) -> str:
    """Return the name of a metric's column."""
    return column_of(label_of(given))


def describe(further: Sequence[str] = ()) -> dict[str, ScoreColumn]:
    """Describe the columns of scores of a run, by name, as report and dashboard show them.

    Args:
        further: the metrics that its benchmark file names besides the standard ones.

    Raises:
        UserError: a metric is unknown or cannot be imported.
    """
    for given in further:
        if not is_free(name_of(given)):
            raise UserError(f"{given}: {name_of(given)!r} names another column; rename the class")
    found = {name_of(one): find(one) for one in (*STANDARD_METRICS, *further)}
    return {
        **{name: metric.column(name) for name, metric in found.items()},
        "data_residual": STANDARD["data_residual"],
    }


def evaluate(
    x_hat: Float[Tensor, "b 1 h w"],
    x: Float[Tensor, "b 1 h w"],
    convention: str = "image",
    *,
    volumes: Sequence[str] | None = None,
    mask: Bool[Tensor, "b 1 h w"] | None = None,
    metrics: Sequence[str | type[Metric]] = STANDARD_METRICS,
) -> dict[str, Float[Tensor, " b"]]:
    """Score reconstructions against the ground truth.

    Args:
        x_hat: reconstructions.
        x: ground truth, magnitude in [0, 1].
        convention: one of `CONVENTIONS`.
        volumes: for `volume`: which volume each image belongs to; default: all one volume.
        mask: for `roi`: the foreground; default: `foreground(x)`.
        metrics: names, paths or classes; those not defined for the convention are left out.

    Returns:
        for each metric, by its column's name, scores of shape (b,): `psnr` in dB, at most
        `PERFECT`, `ssim`, and under `image` also `nmse`, |x_hat - x|^2 / |x|^2. NaN for a
        reconstruction with a pixel that is not finite, and for undefined scores: `nmse` of an
        image of zeros, `volume` of a volume of zeros, `roi` of an image without foreground.

    Raises:
        ValueError: unknown convention, unequal shapes, or images smaller than the SSIM window.
        UserError: a metric is unknown, or does not return one number per image.
    """
    if x_hat.shape != x.shape:
        raise ValueError(f"reconstruction {tuple(x_hat.shape)} and image {tuple(x.shape)} differ")
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r} (known: {', '.join(CONVENTIONS)})")
    finite = mean_square(x_hat, x).isfinite()
    if not finite.all():
        x_hat = x_hat.where(finite.view(-1, 1, 1, 1), torch.nan)
    further: tuple[Tensor, ...] = ()
    if convention == "volume":
        group = _group(volumes or [""] * len(x))
        further = (group, torch.stack([x[group == g].max() for g in group]))
    elif convention == "roi":
        further = (foreground(x) if mask is None else mask,)
    scores = {}
    for given in metrics:
        metric = METRICS.build(given)
        if score := getattr(metric, convention, None):
            pair = (x_hat, x) if metric.takes_float32 else (x_hat.double(), x.double())
            scores[name_of(given)] = _checked(given, score(*pair, *further), len(x))
    return {name: values.where(finite, torch.nan) for name, values in scores.items()}


def _checked(given: object, values: object, count: int) -> Tensor:
    if not isinstance(values, Tensor) or values.shape != (count,):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise UserError(
            f"{label_of(given)}: a metric returns one number per image ({count},), not {shape}"
        )
    return values.double()


def columns(
    x_hat: Float[Tensor, "b 1 h w"],
    x: Float[Tensor, "b 1 h w"],
    volumes: Sequence[str],
    further: Sequence[str | type[Metric]] = (),
) -> dict[str, Float[Tensor, " b"]]:
    """Score under every convention: `psnr`, `ssim`, `nmse`, `psnr_volume`, ..., `ssim_roi`, then
    the further metrics.
    """
    scores = {}
    for metrics in filter(None, (STANDARD_METRICS, tuple(further))):
        for convention in CONVENTIONS:
            found = evaluate(x_hat, x, convention, volumes=volumes, metrics=metrics)
            for name, value in found.items():
                scores[name if convention == "image" else f"{name}_{convention}"] = value
    return scores


def residual(predicted: Shaped[Tensor, "b ..."], y: Shaped[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """Compare A(x_hat) with the measurements: |A x_hat - y| / |y|, NaN where y is zero."""
    error, whole = (values.abs().double().flatten(1).norm(dim=1) for values in (predicted - y, y))
    return ratio(error, whole)


def foreground(x: Float[Tensor, "b 1 h w"]) -> Bool[Tensor, "b 1 h w"]:
    """Mark the pixels brighter than 5 % of their image's maximum."""
    return x > FOREGROUND * x.amax((1, 2, 3), keepdim=True)


def _group(volumes: Sequence[str]) -> Tensor:
    order = {name: index for index, name in enumerate(dict.fromkeys(volumes))}
    return torch.tensor([order[name] for name in volumes])
