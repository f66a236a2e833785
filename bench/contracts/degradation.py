"""The contract of a degradation."""

import math
from typing import Any

import torch
from torch import Tensor

from bench import physics
from bench.contracts.base import (
    BrokenError,
    CannotCheckError,
    Checks,
    demand,
    loose_tensors,
    smooth_images,
)
from bench.errors import UserError
from bench.physics import Physics

TOLERANCE = 1e-5
IDS = list("abcdef")


class Degradation:
    """Checks of a degradation at one level.

    Args:
        given: its name, dotted path or class.
        level: default: the second of its `presets`.
        shape: of the images.
        options: of its constructor.
    """

    def __init__(
        self,
        given: str | type[Physics],
        level: float | None = None,
        shape: tuple[int, int] = (24, 20),
        **options: Any,
    ):
        self.kind = physics.find(given)
        self.level, self.shape, self.options = level, shape, options

    def checks(self) -> Checks:
        """List the checks; all others need the first."""
        return [
            ("it states its unit, its levels and its presets, and can be built", self.states),
            ("a level out of its range is refused", self.refuses_levels),
            ("A keeps the number of images and gives finite numbers", self.measures),
            ("A is linear", self.is_linear),
            ("|<Ax, y> - <x, A*y>| <= 1e-5 |Ax||y|", self.adjoint),
            ("gradients run through A as through A*", self.gradients),
            ("a measurement depends on the image and its id alone", self.by_id),
            ("A_dagger gives one real image for each", self.estimates),
            ("its tensors are buffers, which move with it", self.movable),
            ("a GPU measures the same", self.on_gpu),
        ]

    def build(self) -> Physics:
        """Build a new instance."""
        level = self.kind.presets[1] if self.level is None else self.level
        return physics.create(self.kind, level, self.shape, **self.options)

    def images(self, count: int = len(IDS)) -> Tensor:
        """Draw images of the shape."""
        return smooth_images(count, self.shape)

    def states(self) -> None:
        """Check the class attributes."""
        missing = [name for name in ("unit", "levels", "presets") if not hasattr(self.kind, name)]
        demand(not missing, f"it has no {', '.join(missing)}")
        low, high = self.kind.levels
        demand(len(self.kind.presets) == 3, "presets must be three levels")
        outside = [preset for preset in self.kind.presets if not low <= preset <= high]
        demand(not outside, f"presets {outside} lie outside its levels, {low:g} to {high:g}")
        self.build()

    def refuses_levels(self) -> None:
        """Check that levels outside its range are refused."""
        low, high = self.kind.levels
        for level in (low - 1, high + 1, math.nan):
            try:
                physics.create(self.kind, level, self.shape, **self.options)
            except UserError:
                continue
            raise BrokenError(f"level {level:g} is accepted; pass the level to Physics.__init__")

    def measures(self) -> None:
        """Check what A returns."""
        y = self.build().A(self.images())
        demand(isinstance(y, Tensor), f"A returns {type(y).__name__}, not a tensor")
        demand(len(y) == len(IDS), f"A returns {len(y)} measurements of {len(IDS)} images")
        demand(torch.isfinite(y).all(), "A returns numbers that are not finite")

    def is_linear(self) -> None:
        """Check A(a x + b z) = a A x + b A z."""
        operator = self.build()
        if not operator.linear:
            raise CannotCheckError("it is declared as not linear")
        x, z = self.images() - 0.3, smooth_images(len(IDS), self.shape, 1)
        whole, parts = operator.A(2 * x - 3 * z), 2 * operator.A(x) - 3 * operator.A(z)
        error = (whole - parts).norm() / parts.norm().clamp(min=1e-12)
        demand(
            error <= 10 * TOLERANCE,
            f"|A(2x - 3z) - 2Ax + 3Az| is {error:.1g} of |2Ax - 3Az|; say linear = False",
        )

    def adjoint(self) -> None:
        """Check the adjoint on random images and measurements."""
        operator = self.build()
        if not operator.linear:
            raise CannotCheckError("it is declared as not linear")
        x = self.images() - 0.5
        measured = operator.A(x)
        y = _like(measured)
        back = operator.A_adjoint(y)
        demand(
            back.shape == x.shape, f"A_adjoint returns {tuple(back.shape)}, not {tuple(x.shape)}"
        )
        demand(back.dtype == x.dtype, f"A_adjoint returns {back.dtype}, not {x.dtype}")
        left, right = (measured.conj() * y).real.double().sum(), (x * back).double().sum()
        error = (left - right).abs() / (measured.norm() * y.norm()).clamp(min=1e-12)
        demand(error <= TOLERANCE, f"the difference is {error:.1g} |Ax||y|")

    def gradients(self) -> None:
        """Check that automatic differentiation gives the adjoint."""
        operator = self.build()
        if not operator.linear:
            raise CannotCheckError("it is declared as not linear")
        x = self.images(1).requires_grad_()
        y = operator.A(x)
        target = _like(y.detach())
        (gradient,) = torch.autograd.grad((y.conj() * target).real.sum(), x)
        wanted = operator.A_adjoint(target)
        error = (gradient - wanted).norm() / wanted.norm().clamp(min=1e-12)
        demand(error <= 10 * TOLERANCE, f"they differ by {error:.1g} |A*y|")

    def by_id(self) -> None:
        """Check that order, batch size, global seeds and other objects change nothing."""
        operator, x = self.build(), self.images()
        together = operator.measure(x, IDS)
        order = [3, 0, 5, 1, 2, 4]
        shuffled = operator.measure(x[order], [IDS[i] for i in order])
        demand(torch.equal(together[order], shuffled), "another order changes the measurements")
        alone = torch.cat([operator.measure(x[i : i + 1], [IDS[i]]) for i in range(len(x))])
        demand(
            torch.equal(together, alone),
            "a batch is measured differently from its images one by one",
        )
        state = torch.get_rng_state()
        torch.manual_seed(123)
        again = self.build().measure(x, IDS)
        torch.set_rng_state(state)
        demand(
            torch.equal(together, again),
            "another instance, or another global seed, changes the measurements",
        )
        if not torch.equal(operator.A(x), together):
            other = operator.measure(x, [f"{name}'" for name in IDS])
            demand(not torch.equal(together, other), "images of other ids get the same noise")

    def estimates(self) -> None:
        """Check what A_dagger returns."""
        operator, x = self.build(), self.images()
        estimate = operator.A_dagger(operator.measure(x, IDS))
        demand(
            estimate.shape == x.shape, f"it returns {tuple(estimate.shape)}, not {tuple(x.shape)}"
        )
        demand(estimate.dtype == torch.float32, f"it returns {estimate.dtype}, not float32")
        demand(torch.isfinite(estimate).all(), "it returns numbers that are not finite")

    def movable(self) -> None:
        """Check that all its tensors move with it to another device."""
        operator = self.build()
        operator.A_dagger(operator.measure(self.images(), IDS))
        loose = loose_tensors(operator)
        demand(not loose, f"{', '.join(loose)}: use register_buffer")

    def on_gpu(self) -> None:
        """Check that the measurement and the estimate do not depend on the device."""
        if not torch.cuda.is_available():
            raise CannotCheckError("this machine has no GPU")
        here, there, x = self.build(), self.build().to("cuda"), self.images()
        y, moved = here.measure(x, IDS), there.measure(x.cuda(), IDS)
        demand(moved.is_cuda, "measurements of images on the GPU are on the CPU")
        demand(torch.allclose(y, moved.cpu(), atol=1e-5), "the measurements differ")
        estimate = there.A_dagger(moved).cpu()
        demand(torch.allclose(here.A_dagger(y), estimate, atol=1e-4), "the estimates differ")


def _like(measured: Tensor) -> Tensor:
    """Draw a random measurement."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(measured.shape, dtype=measured.dtype, generator=generator)
