"""Linear solvers: conjugate gradients, and the regularised inverse as a differentiable step."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from bench.physics.base import Physics

STEPS, TOLERANCE = 50, 1e-6


def regularised_inverse(
    physics: "Physics",
    right: Shaped[Tensor, "b 1 h w"],
    mu: Float[Tensor, "#b 1 1 1"] | Float[Tensor, ""] | float,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Shaped[Tensor, "b 1 h w"]:
    """Solve (A^T A + mu) x = right, differentiable with respect to `right` and mu.

    It is the data-consistency step of unrolled networks (MoDL: Aggarwal, Mani and Jacob, IEEE TMI
    38, 2019, eq. 10). It is exact where the physics can `invert_normal`, as by FFT. Otherwise it
    takes conjugate gradients, preconditioned by the division that would be exact if A^T A were a
    convolution with its point response. The inverse is self-adjoint, so the backward pass is the
    same solve: differentiation through the iterations would keep them all in memory.

    Args:
        physics: a linear operator.
        right: right-hand sides, real or complex.
        mu: positive; one number, or one for each image.
        steps: most iterations.
        tolerance: stop when every residual is this fraction of its right-hand side.

    Returns:
        float32 or complex64 images, under autocast too.
    """
    weight = mu if isinstance(mu, Tensor) else torch.tensor(mu, device=right.device)
    with torch.autocast(right.device.type, enabled=False):
        solved: Tensor = _RegularisedInverse.apply(
            right if right.is_complex() else right.float(),
            weight.float().view(-1, 1, 1, 1), physics, steps, tolerance,
        )  # fmt: skip
    return solved


class _RegularisedInverse(torch.autograd.Function):
    """x = M r with M = (A^T A + mu)^-1; dx/dr = M and dx/dmu = -M x."""

    @staticmethod
    def forward(
        ctx: Any, right: Tensor, mu: Tensor, physics: "Physics", steps: int, tolerance: float
    ) -> Tensor:
        x = _solve(right, mu, physics, steps, tolerance)
        ctx.save_for_backward(x, mu)
        ctx.options = physics, steps, tolerance
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, mu = ctx.saved_tensors
        grad = _solve(grads[0], mu, *ctx.options)
        grad_mu = -(x.conj() * grad).real.sum((1, 2, 3), keepdim=True).sum_to_size(mu.shape)
        return grad, grad_mu, None, None, None


def self_adjoint(function: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    """Apply a self-adjoint linear function, whose backward pass then is the function itself."""
    result: Tensor = _SelfAdjoint.apply(given, function)
    return result


class _SelfAdjoint(torch.autograd.Function):
    """y = M x with a self-adjoint M; dy/dx = M."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.function = function
        return function(given)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.function(grads[0]), None


def _solve(right: Tensor, mu: Tensor, physics: "Physics", steps: int, tolerance: float) -> Tensor:
    solved = physics.invert_normal(right, mu)
    if solved is not None:
        return solved
    inverse = 1 / (physics.normal_eigenvalues(right)[0] + mu)

    def divide(x: Tensor) -> Tensor:
        return filtered(x, inverse)

    def normal(x: Tensor) -> Tensor:
        return physics.A_normal(x) + mu * x

    return conjugate_gradients(normal, right, steps=steps, tolerance=tolerance, precondition=divide)


def filtered(x: Shaped[Tensor, "b 1 h w"], values: Tensor) -> Shaped[Tensor, "b 1 h w"]:
    """Multiply an image's Fourier transform by values in the order of `fft2`, real: `rfft2`."""
    if x.is_complex():
        return torch.fft.ifft2(torch.fft.fft2(x) * values)
    return torch.fft.irfft2(torch.fft.rfft2(x) * values, s=x.shape[-2:])


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor],
    right: Shaped[Tensor, "b ..."],
    start: Shaped[Tensor, "b ..."] | None = None,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Shaped[Tensor, "b ..."]:
    """Solve `operator(x) = right`, each image of the batch independently.

    An image whose residual is small enough stays as it is, whatever the others still need.

    Hestenes and Stiefel, J. Res. NBS 49, 1952.

    Args:
        operator: Hermitian and positive definite.
        right: right-hand sides.
        start: first guesses; default: 0, which saves one application of the operator.
        steps: most iterations.
        tolerance: stop when every residual is this fraction of its right-hand side.
        precondition: applies an approximate inverse of the operator, Hermitian and positive
            definite too.
    """

    def inner(a: Tensor, b: Tensor) -> Tensor:
        product = (a.conj() * b).real if a.is_complex() else a * b
        return product.flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))

    x, residual = torch.zeros_like(right), right
    if start is not None:
        x, residual = start, right - operator(start)
    direction, slope = residual, None
    power, enough = inner(residual, residual), tolerance**2 * inner(right, right)
    for _ in range(steps):
        done = power <= enough
        if done.all():
            break
        step = residual if precondition is None else precondition(residual)
        before, slope = slope, power if precondition is None else inner(residual, step)
        direction = step if before is None else step + _ratio(slope, before) * direction
        image = operator(direction)
        length = torch.where(done, 0, _ratio(slope, inner(direction, image)))
        x = x + length * direction
        residual = residual - length * image
        power = inner(residual, residual)
    return x


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; the result is 0 where the divisor is 0."""
    return torch.where(denominator > 0, numerator / denominator, 0)
