"""Image quality per image, under named conventions.

| convention | data range | averaged over |
|---|---|---|
| `image` | 1, since images lie in [0, 1] | the image; scikit-image's definitions |
| `volume` | the volume's maximum | PSNR: the volume, SSIM: each slice (fastMRI, arXiv 1811.08839) |
| `roi` | 1 | foreground pixels only |

SSIM: Wang et al., IEEE TIP 13(4), 2004, with a 7x7 uniform window, K1 = 0.01, K2 = 0.03, sample
covariance, averaged over the positions where the window lies inside the image. Predictions are
taken as they are: nothing is clipped or rescaled here.

PSNR ends at `PERFECT`, 100 dB: an error of 1e-5 of the data range is what float32 leaves of an
operator and its inverse. Every score of a reconstruction with a pixel that is no finite number is
NaN, and so is a score that its image leaves undefined.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn.functional import avg_pool2d

WINDOW = 7
FOREGROUND = 0.05
PERFECT = 100.0  # dB
CONVENTIONS = ("image", "volume", "roi")


def evaluate(
    x_hat: Float[Tensor, "b 1 h w"],
    x: Float[Tensor, "b 1 h w"],
    convention: str = "image",
    *,
    volumes: Sequence[str] | None = None,
    mask: Bool[Tensor, "b 1 h w"] | None = None,
) -> dict[str, Float[Tensor, " b"]]:
    """Score reconstructions against the ground truth.

    Args:
        x_hat: reconstructions.
        x: ground truth, magnitude in [0, 1].
        convention: one of `CONVENTIONS`.
        volumes: for `volume`: which volume each image belongs to; default: all one volume.
        mask: for `roi`: the foreground; default: `foreground(x)`.

    Returns:
        `psnr` in dB, at most `PERFECT`, and `ssim`, each of shape (b,); under `image` also
        `nmse`, |x_hat - x|^2 / |x|^2. NaN for a reconstruction with a pixel that is not finite;
        undefined, and NaN too, are `nmse` of an image of zeros, `volume` of a volume of zeros,
        and `roi` of an image without foreground.

    Raises:
        ValueError: unknown convention, unequal shapes, or images smaller than the SSIM window.
    """
    if x_hat.shape != x.shape:
        raise ValueError(f"reconstruction {tuple(x_hat.shape)} and image {tuple(x.shape)} differ")
    x_hat, x = x_hat.double(), x.double()
    x_hat = x_hat.where(x_hat.isfinite().all((1, 2, 3), keepdim=True), torch.nan)
    error = (x_hat - x).square()
    if convention == "image":
        return {
            "psnr": _psnr(error.mean((1, 2, 3)), 1.0),
            "ssim": ssim_map(x_hat, x, torch.ones(len(x))).mean((1, 2, 3)),
            "nmse": _ratio(error.sum((1, 2, 3)), x.square().sum((1, 2, 3))),
        }
    if convention == "volume":
        group = _group(volumes or [""] * len(x))
        peak = torch.stack([x[group == g].max() for g in group])
        mse = torch.stack([error[group == g].mean() for g in group])
        return {"psnr": _psnr(mse, peak), "ssim": ssim_map(x_hat, x, peak).mean((1, 2, 3))}
    if convention == "roi":
        inside = foreground(x) if mask is None else mask
        ssim = ssim_map(x_hat, x, torch.ones(len(x)))
        border = WINDOW // 2
        centres = inside[..., border:-border, border:-border]
        return {
            "psnr": _psnr(_masked_mean(error, inside), 1.0),
            "ssim": _masked_mean(ssim, centres),
        }
    raise ValueError(f"unknown convention {convention!r} (known: {', '.join(CONVENTIONS)})")


def columns(
    x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"], volumes: Sequence[str]
) -> dict[str, Float[Tensor, " b"]]:
    """Score under every convention: `psnr`, `ssim`, `nmse`, `psnr_volume`, ..., `ssim_roi`."""
    scores = evaluate(x_hat, x)
    for convention in CONVENTIONS[1:]:
        for name, value in evaluate(x_hat, x, convention, volumes=volumes).items():
            scores[f"{name}_{convention}"] = value
    return scores


def residual(predicted: Shaped[Tensor, "b ..."], y: Shaped[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """Compare A(x_hat) with the measurements: |A x_hat - y| / |y|, NaN where y is zero."""
    error, whole = (values.abs().double().flatten(1).norm(dim=1) for values in (predicted - y, y))
    return _ratio(error, whole)


def foreground(x: Float[Tensor, "b 1 h w"]) -> Bool[Tensor, "b 1 h w"]:
    """Mark the pixels brighter than 5 % of their image's maximum."""
    return x > FOREGROUND * x.amax((1, 2, 3), keepdim=True)


def ssim_map(
    x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"], data_range: Float[Tensor, " b"]
) -> Float[Tensor, "b 1 hi wi"]:
    """Compute SSIM at every position of the window that lies inside the image.

    Raises:
        ValueError: images smaller than the window.
    """
    luminance, contrast = ssim_terms(x_hat, x, data_range)
    return luminance * contrast


def ssim_terms(
    x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"], data_range: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b 1 hi wi"], Float[Tensor, "b 1 hi wi"]]:
    """Compute the two factors of SSIM: luminance, and contrast with structure.

    Raises:
        ValueError: images smaller than the window.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels")
    peak = data_range.to(x).view(-1, 1, 1, 1)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_a, mean_b, square_a, square_b, product = (
        avg_pool2d(image, WINDOW, stride=1)
        for image in (x_hat, x, x_hat.square(), x.square(), x_hat * x)
    )
    variance_a = sample * (square_a - mean_a.square())
    variance_b = sample * (square_b - mean_b.square())
    covariance = sample * (product - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance, (2 * covariance + c2) / (variance_a + variance_b + c2)


def _psnr(mse: Float[Tensor, " b"], peak: float | Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    ratio = _ratio(mse, torch.as_tensor(peak).to(mse).expand_as(mse) ** 2)
    return (-10 * torch.log10(ratio)).clamp(max=PERFECT)


def _ratio(values: Float[Tensor, " b"], to: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    return (values / to).where(to > 0, torch.nan)


def _masked_mean(
    values: Float[Tensor, "b 1 h w"], mask: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    return (values * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def _group(volumes: Sequence[str]) -> Tensor:
    order = {name: index for index, name in enumerate(dict.fromkeys(volumes))}
    return torch.tensor([order[name] for name in volumes])
