"""Sparse reconstruction: argmin_x 1/2 |A x - y|^2 + lambda |K x|, by ADMM.

Split Bregman or ADMM (Goldstein and Osher, SIAM J. Imaging Sci. 2, 2009; Boyd et al., 2011): with
d = K x and 0 <= z = x <= 1 as variables of their own, every step is in closed form but one,

    (A^T A + mu K^T K + mu) x = A^T y + mu K^T (d - u) + mu (z - v).

Where the Fourier transform diagonalises A^T A this is a division. Else a few steps of conjugate
gradients are taken, preconditioned by the division that would be right if A^T A were the
convolution that it makes of a point, and started from the x before.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bench.methods.classical._frames import Frame
from bench.physics import Physics

# mu = PENALTY lambda: coefficients are cut off at 1 / PENALTY, in grey levels of [0, 1].
PENALTY = 20.0
INNER_STEPS, INNER_TOLERANCE = 4, 0.1
# Below this no noise is believed: a model is never exact, and some weight is needed to fill in.
LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class Solution:
    """A solution and how it was reached.

    Attributes:
        x: images; real ones lie in [0, 1].
        steps: iterations made.
        objectives: of the images after each iteration, where asked for.
    """

    x: Shaped[Tensor, "b 1 h w"]
    steps: int
    objectives: list[Float[Tensor, " b"]]


def natural_weight(physics: Physics, like: Shaped[Tensor, "b 1 h w"]) -> float:
    """Give a lambda near which the best one lies: the standard deviation of A^T n at a pixel."""
    gain = physics.response(like)[0, 0].abs().item()
    return max(physics.noise_std, LEAST_NOISE) * gain**0.5


def solve(
    y: Shaped[Tensor, "b ..."],
    physics: Physics,
    frame: Frame,
    weight: float,
    tolerance: float = 2e-3,
    most: int = 200,
    trace: bool = False,
) -> Solution:
    """Reconstruct images that are sparse in a frame.

    Args:
        y: measurements.
        physics: a linear operator.
        frame: K and its norm.
        weight: lambda, in units of `natural_weight`.
        tolerance: stop when neither x nor d - K x changes x by more than this fraction.
        most: stop after so many iterations in any case.
        trace: whether to record the objective.
    """
    b = physics.A_adjoint(y)
    bound = not b.is_complex()
    strength = weight * natural_weight(physics, b)
    mu = PENALTY * strength
    threshold = torch.full((1, 1, 1, 1), 1 / PENALTY, device=b.device)
    update = _Update(physics, frame, mu, b)
    x = update(b, torch.zeros_like(b))
    u = torch.zeros_like(frame.analyse(x))
    v = torch.zeros_like(x)
    objectives = []
    step = 0
    for step in range(1, most + 1):
        image = frame.analyse(x)
        d = frame.shrink(image + u, threshold)
        u = u + image - d
        right = b + mu * frame.synthesise(d - u)
        if bound:
            z = (x + v).clamp(0, 1)
            v = v + x - z
            right = right + mu * (z - v)
        else:
            right = right + mu * x
        before, x = x, update(right, x)
        if trace:
            objectives.append(objective(_bounded(x), y, physics, frame, strength))
        change = (x - before).flatten(1).norm(dim=1)
        gap = (d - image).flatten(1).norm(dim=1)
        if (torch.maximum(change, gap) <= tolerance * x.flatten(1).norm(dim=1)).all():
            break
    return Solution(_bounded(x), step, objectives)


def objective(
    x: Shaped[Tensor, "b 1 h w"],
    y: Shaped[Tensor, "b ..."],
    physics: Physics,
    frame: Frame,
    strength: float,
) -> Float[Tensor, " b"]:
    """Evaluate 1/2 |A x - y|^2 + strength |K x|."""
    misfit = (physics.A(x) - y).abs().square().flatten(1).sum(1)
    return 0.5 * misfit + strength * frame.norm(frame.analyse(x))


def _bounded(x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b 1 h w"]:
    return x if x.is_complex() else x.clamp(0, 1)


class _Update:
    """Solves (A^T A + mu K^T K + mu) x = right."""

    def __init__(self, physics: Physics, frame: Frame, mu: float, like: Tensor):
        self.physics, self.frame, self.mu = physics, frame, mu
        shape = (like.shape[-2], like.shape[-1])
        exact = None if like.is_complex() else physics.spectrum(shape)
        self.exact = exact is not None
        gram = frame.gram(shape).to(like.device)
        if like.is_complex():
            spectrum = torch.fft.fft2(physics.response(like)).real
        else:
            gram = gram[:, : shape[1] // 2 + 1]
            spectrum = (
                torch.fft.rfft2(physics.response(like)).real
                if exact is None
                else exact.to(like.device)
            )
        self.inverse = 1 / (spectrum.clamp(min=0) + mu * gram + mu)

    def __call__(self, right: Tensor, start: Tensor) -> Tensor:
        if self.exact:
            return self._divide(right)
        x = start
        residual = right - self._apply(x)
        enough = INNER_TOLERANCE**2 * _power(residual)
        step = self._divide(residual)
        slope = _inner(residual, step)
        for turn in range(INNER_STEPS):
            image = self._apply(step)
            length = slope / _inner(step, image).clamp(min=1e-30)
            x = x + length * step
            residual = residual - length * image
            if turn + 1 == INNER_STEPS or (_power(residual) <= enough).all():
                break
            divided = self._divide(residual)
            previous, slope = slope, _inner(residual, divided)
            step = divided + slope / previous.clamp(min=1e-30) * step
        return x

    def _apply(self, x: Tensor) -> Tensor:
        penalty = self.frame.synthesise(self.frame.analyse(x)) + x
        return self.physics.A_normal(x) + self.mu * penalty

    def _divide(self, x: Tensor) -> Tensor:
        if x.is_complex():
            return torch.fft.ifft2(torch.fft.fft2(x) * self.inverse)
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.inverse, s=x.shape[-2:])


def _inner(a: Tensor, b: Tensor) -> Tensor:
    product = (a.conj() * b).real if a.is_complex() else a * b
    return product.sum((1, 2, 3), keepdim=True)


def _power(a: Tensor) -> Tensor:
    return _inner(a, a)
