"""Peak signal-to-noise ratio, as scikit-image defines it; for a volume, as fastMRI does."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bench.metrics.base import Metric, mean_square, ratio, volume_means
from bench.score_columns import PERFECT


class Psnr(Metric):
    """PSNR in dB, at most `PERFECT`."""

    label, unit, direction, decimals = "PSNR", "dB", "higher", 2
    takes_float32 = True

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score with data range 1."""
        return _psnr(mean_square(x_hat, x), 1.0)

    def volume(
        self,
        x_hat: Float[Tensor, "b 1 h w"],
        x: Float[Tensor, "b 1 h w"],
        group: Int[Tensor, " b"],
        peak: Float[Tensor, " b"],
    ) -> Float[Tensor, " b"]:
        """Score the volume that each image belongs to."""
        return _psnr(volume_means(mean_square(x_hat, x), group), peak)

    def roi(
        self,
        x_hat: Float[Tensor, "b 1 h w"],
        x: Float[Tensor, "b 1 h w"],
        inside: Bool[Tensor, "b 1 h w"],
    ) -> Float[Tensor, " b"]:
        """Score the foreground, with data range 1."""
        return _psnr(mean_square(x_hat, x, inside), 1.0)


def _psnr(mse: Float[Tensor, " b"], peak: float | Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    relative = ratio(mse, torch.as_tensor(peak).to(mse).expand_as(mse) ** 2)
    return (-10 * torch.log10(relative)).clamp(max=PERFECT)
