"""Multi-scale SSIM: Wang, Simoncelli and Bovik, Asilomar 2003; window and constants of `ssim`."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bench.metrics.base import Metric
from bench.metrics.ssim import WINDOW, ssim_terms

# Exponents of the scales from fine to coarse: section 4 of the paper.
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class MsSsim(Metric):
    """MS-SSIM, data range 1."""

    label, direction = "MS-SSIM", "higher"

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score each image."""
        return multi_scale_ssim(x_hat, x)


def multi_scale_ssim(
    x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Multiply luminance at the coarsest scale with contrast and structure at each.

    For images below 112 pixels, as many scales are used as leave room for the window, with their
    exponents rescaled to the same sum.
    """
    fitting = sum(min(x.shape[-2:]) >> scale >= WINDOW for scale in range(len(SCALES)))
    exponents = [weight * sum(SCALES) / sum(SCALES[:fitting]) for weight in SCALES[:fitting]]
    similarity = x.new_ones(len(x))
    for scale, exponent in enumerate(exponents):
        if scale:
            x_hat, x = avg_pool2d(x_hat, 2), avg_pool2d(x, 2)
        luminance, contrast = ssim_terms(x_hat, x, x.new_ones(len(x)))
        term = luminance * contrast if scale == fitting - 1 else contrast
        # A negative base has no real power, and at 0 its slope is infinite.
        similarity = similarity * term.mean((1, 2, 3)).clamp(min=1e-4) ** exponent
    return similarity
