"""What in a reconstruction the measurement supports, and what was invented or lost.

The error e = x_hat - x is split by P = A^T A (A^T A + mu)^-1, mu = `CUT`^2 times the greatest
eigenvalue of A^T A: P e is what the measurement shows well (singular values far above `CUT` times
the greatest one), e - P e what it hardly shows, as in the null space of A. An error there is made
up, or something that was left out: no measurement contradicts it. See Bhadra et al., "On
hallucinations in tomographic image reconstruction", IEEE TMI 40(11), 2021.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bench import metrics
from bench.physics import Physics, regularised_inverse
from bench.physics.base import root_mean_square

CUT = 0.1
STEPS, TOLERANCE = 30, 1e-3  # of conjugate gradients, where no transform inverts A^T A
COLUMNS = ("data_residual", "error_seen", "error_unseen", "residual_to_noise")


def columns(
    x_hat: Float[Tensor, "b 1 h w"],
    x: Float[Tensor, "b 1 h w"],
    y: Shaped[Tensor, "b ..."],
    physics: Physics,
) -> dict[str, Float[Tensor, " b"]]:
    """Compute the columns of the rows that tell how far a reconstruction can be trusted.

    Args:
        x_hat: reconstructions.
        x: the ground truth.
        y: the measurements.
        physics: the operator of these images.

    Returns:
        `data_residual`, |A x_hat - y| / |y|; `error_seen` and `error_unseen`, |P e| / |x| and
        |e - P e| / |x|; `residual_to_noise`, the root mean square of A x_hat - y by the standard
        deviation of the noise: 1 if it fits the measurement as well as the truth does, less if it
        fits the noise. All are NaN where A is not known, or where magnitudes lack the phase; where
        A is not linear, all but the first.
    """
    found = dict.fromkeys(COLUMNS, torch.full((len(x),), torch.nan, device=x.device))
    if physics.measured is not None or getattr(physics, "complex_image", False):
        return found
    predicted = physics.A(x_hat)
    found["data_residual"] = metrics.residual(predicted, y)
    if not physics.linear:
        return found
    error, size = x_hat - x, x.flatten(1).norm(dim=1)
    mu = CUT**2 * physics.norm_squared
    unseen = mu * regularised_inverse(physics, error, mu, STEPS, TOLERANCE)
    # Where a mask measures nothing, there is neither signal nor noise.
    share = 1.0 if physics.mask is None else float(physics.mask.float().mean())
    noise = physics.noise_std * share**0.5
    fits = [root_mean_square(one) / noise if noise > 0 else torch.nan for one in predicted - y]
    return found | {
        "error_seen": (error - unseen).flatten(1).norm(dim=1) / size,
        "error_unseen": unseen.flatten(1).norm(dim=1) / size,
        "residual_to_noise": torch.tensor(fits, device=x.device),
    }
