"""Multi-scale SSIM as a loss, with the window and constants of `bench.metrics`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bench.metrics import WINDOW, ssim_terms

# Of the scales from fine to coarse: Wang, Simoncelli and Bovik, Asilomar 2003, section 4.
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Return 1 - MS-SSIM: luminance at the coarsest scale, contrast and structure at each.

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
    return 1 - torch.mean(similarity)
