"""Weakly convex ridge regulariser, trained as a denoiser, in a reconstruction that converges.

Goujon, Neumayer and Unser, SIAM J. Imaging Sci. 17, 2024 (arXiv 2308.10542); its convex
forerunner: IEEE TCI 9, 2023 (arXiv 2211.12461). For the noise level s,

    R(x) = sum_i sum_pixels psi(a_i(s) W_i x) / a_i(s)^2,

with filters W_i that are a composition of small convolutions, of norm 1 together, and one profile
psi with psi'' >= -rho, rho < 1, for all of them. So R is rho-weakly convex, and denoising,
argmin_x 1/2 |x - y|^2 + R(x), is a convex problem. It is trained through its solution, which is
differentiated implicitly. Reconstructions are argmin_{0 <= x <= 1} 1/2 |A x - y|^2 + lambda R(x),
by accelerated gradient descent.

Simpler than published: psi' is one odd linear spline with few knots, denser at 0, instead of the
difference of two with 101 knots; log a_i is linear in log s instead of a spline; boundaries are
periodic, so that the norm of the filters is known exactly.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Complex, Float, Shaped
from pydantic import Field
from torch import Tensor, nn

from bench.methods.classical._admm import bounded, keep, natural_weight
from bench.methods.learned._prior import Prior
from bench.methods.learned.base import Width
from bench.physics import Physics
from bench.physics._solvers import conjugate_gradients
from bench.ranges import Odd, Weight

RHO = 0.95  # of the weak convexity: denoising is even strongly convex
KNOTS = (0.1, 0.25, 0.6, 1.5, 4.0)  # of psi', in units of 1 / a
FIRST_SLOPE = 20.0  # of psi' up to the first knot, before training; then it is 0
TRAINING_STEPS, TRAINING_TOLERANCE = 50, 2e-3  # of a denoising problem
IMPLICIT_STEPS, IMPLICIT_TOLERANCE = 20, 2e-2  # of its derivative
STEPS, TOLERANCE = 300, 1e-4  # of a reconstruction

Parts = Float[Tensor, "b p h w"]  # images, or real and imaginary parts of complex ones


class WCRR(Prior):
    """Ridge regulariser of 60 filters of 13x13; 13,025 parameters.

    Real and imaginary parts of a complex image are penalised separately.

    Args:
        filters: number of filters; 60 as published.
        hidden: channels of the convolution before; 8 as published, after half as many.
        kernel_size: side of each of the three convolutions; 5 as published.
        weight: lambda, in units of `natural_weight` per noise level: 1 is close to the best one
            for noise of that level.
        relative_level: the noise level s of R in a reconstruction, relative to that of
            `A_dagger(y)`.
    """

    learning_rates: ClassVar[dict[str, float]] = {"log_scales": 3.0, "profile": 3.0}
    recipe: ClassVar[dict[str, Any]] = {"loss": "l1", "optimiser": "adam", "weight_decay": 0.0}

    def __init__(
        self,
        filters: Width = 60,
        hidden: Annotated[int, Field(ge=2, le=256)] = 8,
        kernel_size: Odd = 5,
        weight: Weight = 1.0,
        relative_level: Annotated[float, Field(gt=0, le=100)] = 1.0,
    ):
        super().__init__()
        channels = [1, hidden // 2, hidden, filters]
        self.kernels = nn.ParameterList(
            torch.randn(out, into, kernel_size, kernel_size) / (into * kernel_size**2) ** 0.5
            for into, out in pairwise(channels)
        )
        self.log_scales = nn.Parameter(torch.zeros(2, filters))  # of a s, at s = 1, and its slope
        self.profile = Profile()
        self.weight, self.relative_level = weight, relative_level

    def regulariser(self, level: Float[Tensor, "b 1 1 1"], shape: tuple[int, int]) -> "Regulariser":
        """Build R for noise levels and images of a shape."""
        offset, slope = self.log_scales.view(2, 1, 1, -1, 1, 1)
        levels = level[..., None]
        scales = torch.exp(offset + slope * levels.log()) / levels
        return Regulariser(self.responses(shape), scales, self.profile)

    def responses(self, shape: tuple[int, int]) -> Complex[Tensor, "f h wr"]:
        """Return the filters' frequency responses; the greatest sum of their squares is 1."""
        first, *rest = (torch.fft.rfft2(kernel, s=shape) for kernel in self._zero_mean())
        total = first
        for layer in rest:
            total = torch.einsum("oihw,ijhw->ojhw", layer, total)
        power = (total.real.square() + total.imag.square()).sum((0, 1)).amax()
        return total[:, 0] / power.clamp(min=1e-12).sqrt()

    def _zero_mean(self) -> list[Tensor]:
        """Return the kernels, the first ones without their means: a constant costs nothing."""
        first, *rest = self.kernels
        return [first - first.mean((2, 3), keepdim=True), *rest]

    def denoise(
        self, image: Float[Tensor, "b 1 h w"], level: Float[Tensor, "b 1 1 1"]
    ) -> Float[Tensor, "b 1 h w"]:
        """Solve argmin_x 1/2 |x - image|^2 + R(x)."""
        with torch.autocast(image.device.type, enabled=False):
            problem = Problem(
                self.regulariser(level, (image.shape[-2], image.shape[-1])),
                lambda x: x, image, 1.0, 1.0,
            )  # fmt: skip
            return problem.solve(image, lambda x: x, TRAINING_STEPS, TRAINING_TOLERANCE)

    def reconstruct(
        self, y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Solve argmin_x 1/2 |A x - y|^2 + lambda R(x) with 0 <= x <= 1 for real images."""
        with torch.autocast(y.device.type, enabled=False):
            b = physics.A_adjoint(y)
            start = b if b.is_complex() else physics.A_dagger(y).clamp(0, 1)
            problem = self.problem(y, physics)
            solved = problem.solve(to_parts(start), self._bounds(b), STEPS, TOLERANCE)
            return to_images(solved, b)

    def problem(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> "Problem":
        """Set up the reconstruction of measurements."""
        b = physics.A_adjoint(y)
        level = self.level(self.relative_level)
        levels = torch.full((1, 1, 1, 1), level, device=b.device)
        strength = self.weight * natural_weight(physics, b) / level
        return Problem(
            self.regulariser(levels, (b.shape[-2], b.shape[-1])),
            lambda x: to_parts(physics.A_normal(to_images(x, b))),
            to_parts(b), strength, physics.norm_squared,
        )  # fmt: skip

    @staticmethod
    def _bounds(like: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the projection onto the images allowed."""
        return (lambda x: x) if like.is_complex() else bounded


class Profile(nn.Module):
    """psi, even and twice differentiable but for its knots: psi' is a linear spline.

    With slopes s_1, s_2, ... between the knots and 0 beyond, psi'(t) is the sum of
    (s_k - s_{k+1}) t, t limited to the k-th knot on either side.
    """

    knots: ClassVar[Sequence[float]] = KNOTS

    def __init__(self) -> None:
        super().__init__()
        slopes = torch.zeros(len(KNOTS))
        slopes[0] = FIRST_SLOPE
        self.log_slopes = nn.Parameter((slopes + RHO).log())

    @property
    def slopes(self) -> Float[Tensor, " k"]:
        """psi'' between the knots: at least -RHO."""
        return self.log_slopes.exp() - RHO

    @property
    def bends(self) -> Float[Tensor, " k"]:
        """By how much psi'' falls at each knot."""
        slopes = self.slopes
        return slopes - torch.cat([slopes[1:], slopes.new_zeros(1)])

    def value(self, t: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Return psi."""
        total = torch.zeros_like(t)
        for knot, bend in zip(KNOTS, self.bends, strict=True):
            limited = t.clamp(-knot, knot)
            total = total + bend * limited * (t - 0.5 * limited)
        return total

    def slope(self, t: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Return psi'."""
        total = torch.zeros_like(t)
        for knot, bend in zip(KNOTS, self.bends, strict=True):
            total = torch.addcmul(total, bend, t.clamp(-knot, knot))
        return total

    def curvature(self, t: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Return psi''."""
        size = t.abs()
        total = torch.zeros_like(t)
        for knot, bend in zip(KNOTS, self.bends, strict=True):
            total = torch.addcmul(total, bend, (size < knot).to(t))
        return total


class Regulariser:
    """R, for given noise levels and images of one shape.

    Args:
        responses: of the filters.
        scales: a_i.
        profile: psi.
    """

    def __init__(
        self,
        responses: Complex[Tensor, "f h wr"],
        scales: Float[Tensor, "#b 1 f 1 1"],
        profile: Profile,
    ):
        self.scales, self.profile = scales, profile
        self.forth, self.back = scales * responses, responses.conj() / scales

    def value(self, x: Parts) -> Float[Tensor, " b"]:
        """Return R."""
        return (self.profile.value(self._filter(x)) / self.scales**2).sum((1, 2, 3, 4))

    def gradient(self, x: Parts) -> Parts:
        """Return the gradient of R."""
        return self._filter_back(self.profile.slope(self._filter(x)))

    def hessian(self, x: Parts) -> Callable[[Parts], Parts]:
        """Return the Hessian of R at x, as a function of the image that it is applied to."""
        curvature = self.profile.curvature(self._filter(x))
        return lambda v: self._filter_back(curvature * self._filter(v))

    @cached_property
    def steepest(self) -> float:
        """The greatest second derivative."""
        return max(float(self.profile.slopes.detach().max()), 0.0)

    def _filter(self, x: Parts) -> Float[Tensor, "b p f h w"]:
        """Return a_i W_i x."""
        return torch.fft.irfft2(torch.fft.rfft2(x)[:, :, None] * self.forth, s=x.shape[-2:])

    def _filter_back(self, features: Float[Tensor, "b p f h w"]) -> Parts:
        """Return the sum of W_i^T features_i / a_i."""
        total = (torch.fft.rfft2(features) * self.back).sum(2)
        return torch.fft.irfft2(total, s=features.shape[-2:])


class Problem:
    """J(x) = 1/2 |A x - y|^2 + strength R(x), less 1/2 |y|^2.

    Args:
        regulariser: R.
        normal: A^T A.
        b: A^T y.
        strength: of R.
        norm_squared: the greatest eigenvalue of A^T A.
    """

    def __init__(
        self,
        regulariser: Regulariser,
        normal: Callable[[Tensor], Tensor],
        b: Parts,
        strength: float,
        norm_squared: float,
    ):
        self.regulariser, self.normal, self.b = regulariser, normal, b
        self.strength, self.norm_squared = strength, norm_squared

    @property
    def step(self) -> float:
        """One over a bound on J's second derivatives."""
        return 1 / (self.norm_squared + self.strength * self.regulariser.steepest)

    def value(self, x: Parts) -> Float[Tensor, " b"]:
        """Return J."""
        misfit = (x * (0.5 * self.normal(x) - self.b)).sum((1, 2, 3))
        return misfit + self.strength * self.regulariser.value(x)

    def gradient(self, x: Parts) -> Parts:
        """Return the gradient of J."""
        return self.normal(x) - self.b + self.strength * self.regulariser.gradient(x)

    def solve(
        self, start: Parts, project: Callable[[Tensor], Tensor], most: int, tolerance: float
    ) -> Parts:
        """Minimise J from a first guess; differentiable in the weights of R.

        At the minimiser the gradient g(x, weights) is 0, so that dx = -(dg/dx)^-1 dg, where
        pixels at a bound stay there.
        """
        with torch.no_grad():
            weak = self.strength * RHO
            x = descend(self.gradient, start, self.step, weak, project, most, tolerance)
        if not self.regulariser.scales.requires_grad:
            return x
        free = ((project(x + 1e-6) != x) & (project(x - 1e-6) != x)).to(x)
        solution: Tensor = _Solution.apply(self.gradient(x) * free, x, self._curvature(x, free))
        return solution

    @torch.no_grad()
    def _curvature(self, x: Parts, free: Tensor) -> Callable[[Tensor], Tensor]:
        """Return J's Hessian at x, as a function, the identity for pixels at a bound."""
        hessian = self.regulariser.hessian(x)

        def apply(v: Tensor) -> Tensor:
            moved = free * v
            return v - moved + free * (self.normal(moved) + self.strength * hessian(moved))

        return apply


class _Solution(torch.autograd.Function):
    """x, as a function of the gradient at x, of which it is the zero."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, x: Tensor, hessian: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.hessian = hessian
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        change = conjugate_gradients(
            ctx.hessian, grads[0], steps=IMPLICIT_STEPS, tolerance=IMPLICIT_TOLERANCE
        )
        return -change, None, None


def descend(
    gradient: Callable[[Tensor], Tensor],
    x: Parts,
    step: float,
    weak: float,
    project: Callable[[Tensor], Tensor],
    most: int,
    tolerance: float,
) -> Parts:
    """Minimise J by projected gradient descent, accelerated as long as that is safe.

    A plain step lowers J. Nesterov's momentum (Beck and Teboulle, SIAM J. Imaging Sci. 2, 2009)
    leads from z to z' instead, where J(z') <= J(z) + <g(z'), z' - z> + weak/2 |z' - z|^2, J being
    weakly convex. Unless this bound is below J(z), momentum starts anew, and the step is a plain
    one. So J falls at every z, convex or not.

    Args:
        gradient: g, for a batch of images.
        x: first guesses.
        step: one over the Lipschitz constant of g.
        weak: J + weak/2 |x|^2 is convex.
        project: onto the convex set of images allowed.
        most: iterations.
        tolerance: stop at an image when a step is at most this fraction of it.
    """
    x = project(x)
    done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    z, momentum = x, x.new_ones(len(x), 1, 1, 1)
    slope = gradient(z)
    for _ in range(most):
        before, x = x, keep(done, x, project(z - step * slope))
        done |= (x - z).flatten(1).norm(dim=1) <= tolerance * x.flatten(1).norm(dim=1)
        if done.all():
            break
        grown = 0.5 + (0.25 + momentum**2).sqrt()
        ahead = project(x + (momentum - 1) / grown * (x - before))
        new, move = gradient(ahead), ahead - z
        bound = (move * (new + 0.5 * weak * move)).sum((1, 2, 3), keepdim=True)
        unsafe = (bound > 0) & (momentum > 1)
        if unsafe.any():
            grown, ahead = torch.where(unsafe, 1.0, grown), torch.where(unsafe, x, ahead)
            new = gradient(ahead)
        z, momentum, slope = ahead, grown, new
    return x


def to_parts(x: Shaped[Tensor, "b 1 h w"]) -> Parts:
    """Make real and imaginary parts of complex images two channels; real images stay."""
    return torch.cat([x.real, x.imag], dim=1) if x.is_complex() else x


def to_images(parts: Parts, like: Tensor) -> Shaped[Tensor, "b 1 h w"]:
    """Undo `to_parts`, for images of the type of `like`."""
    return torch.complex(parts[:, :1], parts[:, 1:]) if like.is_complex() else parts
