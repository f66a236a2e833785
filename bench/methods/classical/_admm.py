"""Sparse reconstruction: argmin_x 1/2 |A x - y|^2 + lambda |K x|, by ADMM.

Split Bregman or ADMM (Goldstein and Osher, SIAM J. Imaging Sci. 2, 2009; Boyd et al., 2011): with
d = K x and 0 <= z = x <= 1 as variables of their own, every step is in closed form but one,

    (A^T A + mu K^T K + mu) x = A^T y + mu K^T (d - u) + mu (z - v).

If the Fourier transform diagonalises A^T A, this is a division. Otherwise it takes a few steps of
conjugate gradients, started from the previous x and preconditioned by the division that would be
exact if A^T A were a convolution with its point response.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from bench.methods.classical._transforms import SparsifyingTransform
from bench.physics import Physics
from bench.physics._constants import on_device
from bench.physics._solvers import conjugate_gradients, filtered, self_adjoint

# mu = PENALTY lambda for a weak lambda: coefficients are cut off at 1 / PENALTY grey levels. With
# a strong lambda (much noise) a smaller mu converges faster. Chosen on template slices, with five
# physics.
PENALTY, STRONG = 20.0, 3.0
RELAXATION = 1.7  # Eckstein and Bertsekas, Math. Programming 55, 1992
TOLERANCE, MOST_STEPS = 1e-3, 200
INNER_STEPS, INNER_TOLERANCE = 4, 0.1
CACHED = 2**19  # numbers processed at a time: they should fit into the processor's cache
# Least noise assumed: a model is never exact, and some weight is needed to fill missing samples.
LEAST_NOISE = 1e-3
# One number for all images, or one for each.
Strength = float | Float[Tensor, "b 1 1 1"]


def natural_weight(physics: Physics, like: Shaped[Tensor, "b 1 h w"]) -> float:
    """Return a lambda close to the best one: the standard deviation of A^T n at a pixel."""
    return max(physics.noise_std, LEAST_NOISE) * _gain(physics, like) ** 0.5


def penalty(strength: Strength, physics: Physics, like: Shaped[Tensor, "b 1 h w"]) -> Strength:
    """Return ADMM's mu for a lambda."""
    return PENALTY * strength / (1 + STRONG * strength / _gain(physics, like))


def _gain(physics: Physics, like: Shaped[Tensor, "b 1 h w"]) -> float:
    """Return the mean eigenvalue of A^T A; 1 if A measures nothing, where any number will do."""
    return physics.response(like)[..., 0, 0].abs().flatten()[0].item() or 1.0


def solve(
    y: Shaped[Tensor, "b ..."],
    physics: Physics,
    transform: SparsifyingTransform,
    weight: float | Float[Tensor, " b"],
    tolerance: float = TOLERANCE,
    most: int = MOST_STEPS,
    start: Shaped[Tensor, "b 1 h w"] | None = None,
) -> Shaped[Tensor, "b 1 h w"]:
    """Reconstruct images whose transform is sparse.

    Args:
        y: measurements.
        physics: a linear operator.
        transform: K and its norm.
        weight: lambda, in units of `natural_weight`; one for all images or one for each, so that
            several weights are solved at once where y holds each measurement several times.
        tolerance: stop at an image when neither x nor d - K x changes x by more than this fraction,
            whatever the other images of the batch still need; 0 runs a fixed number of iterations.
        most: stop after so many iterations in any case.
        start: first guesses, such as the solutions for other weights; default: the solution of
            the quadratic problem.

    Returns:
        images in [0, 1], or complex ones if the physics has complex images.
    """
    b = physics.A_adjoint(y)
    few = max(1, CACHED // max(transform.analyse(b[:1]).numel(), 2 * y[0].numel()))
    scale = natural_weight(physics, b)
    solved = []
    for begin in range(0, len(b), few):
        part = slice(begin, begin + few)
        each = weight[part].view(-1, 1, 1, 1) if isinstance(weight, Tensor) else weight
        strength = each * scale
        update = Update(physics.part(part), transform, penalty(strength, physics, b), b)
        first = None if start is None else start[part]
        state = iterate(b[part], update, transform, strength, tolerance, most, first)
        solved.append(bounded(state.x))
    return torch.cat(solved)


class State(NamedTuple):
    """The variables of ADMM.

    Attributes:
        x: images.
        image: K x.
        d: the copy of K x that is sparse.
        u: the multiplier of d = K x, divided by mu.
        z: the copy of x that lies in [0, 1]; unused if x is complex.
        v: the multiplier of z = x, divided by mu.
    """

    x: Shaped[Tensor, "b 1 h w"]
    image: Shaped[Tensor, "b k h w"]
    d: Shaped[Tensor, "b k h w"]
    u: Shaped[Tensor, "b k h w"]
    z: Shaped[Tensor, "b 1 h w"]
    v: Shaped[Tensor, "b 1 h w"]


def iterate(
    b: Shaped[Tensor, "b 1 h w"],
    update: "Update",
    transform: SparsifyingTransform,
    strength: Strength,
    tolerance: float,
    most: int,
    start: Shaped[Tensor, "b 1 h w"] | None = None,
) -> State:
    """Run ADMM from given images, or from the solution of the quadratic problem; see `solve`.

    Args:
        b: A^T y.
        update: for this physics, transform and mu.
        transform: K and its norm.
        strength: lambda.
        tolerance: see `solve`, as for the rest.
    """
    x = update(b, torch.zeros_like(b)) if start is None else start
    image = transform.analyse(x)
    d = torch.zeros_like(image) if start is None else image
    state = State(x, image, d, torch.zeros_like(image), bounded(x), torch.zeros_like(x))
    done = torch.zeros(len(b), dtype=torch.bool, device=b.device)
    for _ in range(most):
        before, state = state, advance(state, b, update, transform, strength)
        if done.any():
            state = State(*(keep(done, *pair) for pair in zip(before, state, strict=True)))
        gap = (state.d - before.image).flatten(1).norm(dim=1)
        change = (state.x - before.x).flatten(1).norm(dim=1)
        done |= torch.maximum(change, gap) <= tolerance * state.x.flatten(1).norm(dim=1)
        if done.all():
            break
    return state


def advance(
    state: State,
    b: Shaped[Tensor, "b 1 h w"],
    update: "Update",
    transform: SparsifyingTransform,
    strength: float | Float[Tensor, "#b 1 #h #w"],
) -> State:
    """Take one iteration, differentiable with respect to `strength`.

    Args:
        state: the variables so far.
        b: A^T y.
        update: for this physics, transform and mu.
        transform: K and its norm.
        strength: lambda; one for all images, one for each, or one for each pixel.
    """
    mu = update.mu
    u = state.u + torch.lerp(state.d, state.image, RELAXATION)
    d = transform.shrink(u, strength / mu)
    u = u - d
    right = b + mu * transform.synthesise(d - u)
    z, v = state.z, state.v
    if b.is_complex():
        right = right + mu * state.x
    else:
        v = v + torch.lerp(z, state.x, RELAXATION)
        z = v.clamp(0, 1)
        v = v - z
        right = right + mu * (z - v)
    x = update(right, state.x)
    return State(x, transform.analyse(x), d, u, z, v)


def objective(
    x: Shaped[Tensor, "b 1 h w"],
    y: Shaped[Tensor, "b ..."],
    physics: Physics,
    transform: SparsifyingTransform,
    strength: float,
) -> Float[Tensor, " b"]:
    """Evaluate 1/2 |A x - y|^2 + strength |K x|."""
    misfit = (physics.A(x) - y).abs().square().flatten(1).sum(1)
    return 0.5 * misfit + strength * transform.norm(transform.analyse(x))


def keep(
    done: Bool[Tensor, " b"], before: Shaped[Tensor, "b ..."], after: Shaped[Tensor, "b ..."]
) -> Shaped[Tensor, "b ..."]:
    """Keep the images that have converged as they were, so that none depends on its batch."""
    return torch.where(done.view(-1, *[1] * (after.ndim - 1)), before, after)


def bounded(x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b 1 h w"]:
    """Clip real images to [0, 1]."""
    return x if x.is_complex() else x.clamp(0, 1)


class Update:
    """Solves (A^T A + mu K^T K + mu) x = right; from a start value if the solver is iterative.

    Its backward pass is the same solve.
    """

    def __init__(
        self, physics: Physics, transform: SparsifyingTransform, mu: float | Tensor, like: Tensor
    ):
        self.physics, self.transform, self.mu = physics, transform, mu
        eigenvalues, self.exact = physics.normal_eigenvalues(like)
        gram = on_device(transform.gram((like.shape[-2], like.shape[-1])), like.device)
        self.inverse = 1 / (eigenvalues + mu * gram[:, : eigenvalues.shape[-1]] + mu)

    def __call__(self, right: Tensor, start: Tensor) -> Tensor:
        if self.exact:
            return self._divide(right)
        start = start.detach()
        return start + self_adjoint(self._solve, right - self._apply(start))

    def _solve(self, right: Tensor) -> Tensor:
        return conjugate_gradients(
            self._apply, right, steps=INNER_STEPS, tolerance=INNER_TOLERANCE,
            precondition=self._divide,
        )  # fmt: skip

    def _apply(self, x: Tensor) -> Tensor:
        penalty = self.transform.synthesise(self.transform.analyse(x)) + x
        return self.physics.A_normal(x) + self.mu * penalty

    def _divide(self, x: Tensor) -> Tensor:
        return filtered(x, self.inverse)
