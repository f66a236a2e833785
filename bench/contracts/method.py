"""The contract of a method."""

import inspect
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import search_spaces
from bench import methods, physics, training
from bench.contracts.base import (
    BrokenError,
    CannotCheckError,
    Checks,
    demand,
    loose_tensors,
    smooth_images,
)
from bench.data import ImageSet
from bench.physics import Physics
from bench.spec import Budget

SIDE = 16
# One of each kind that methods support, with a level.
TASKS = {
    "gaussian_noise": 0.05,
    "gaussian_blur": 1.0,
    "super_resolution": 2,
    "mri_cartesian": 2,
    "ct_sparse_view": 12,
}
# Iterations stop when every image of a batch has converged, so a batch is slightly more accurate.
BATCH_TOLERANCE = 0.02


class Method:
    """Checks of a method.

    Args:
        given: its name, dotted path or class, a function that builds it, or a network.
        config: keywords; default: those of its search space.
    """

    def __init__(self, given: methods.Given, **config: Any):
        self.method = methods.find(given)
        self.config = config
        self.x = smooth_images(2, (SIDE, SIDE))

    def checks(self) -> Checks:
        """List the checks; all others need the first."""
        return [
            ("it can be built with its defaults", self.builds),
            ("its search space lies within what its constructor and training allow", self.space),
            ("it is called with measurements and physics alone", self.is_called),
            ("it gives one finite image for each measurement", self.reconstructs),
            ("it does so at both ends of its search space", self.reconstructs_at_the_ends),
            ("an image's result does not depend on the others", self.is_alone),
            ("it leaves the measurements as they are", self.leaves_y),
            ("it is deterministic, as declared", self.is_deterministic),
            ("gradients reach all of its weights", self.gradients),
            ("a training step runs", self.trains),
            ("its tensors are parameters or buffers, which move with it", self.movable),
            ("what it has learned can be stored and read again", self.is_stored),
            ("it runs on a GPU", self.on_gpu),
        ]

    def task(self) -> Physics:
        """Build a physics that the method supports."""
        for name, level in TASKS.items():
            if self.method.supports(name):
                return physics.create(name, level, SIDE)
        kind = self.method.supported_physics
        if inspect.isabstract(kind):
            raise BrokenError(f"none of our degradations is a {kind.__name__}")
        return physics.create(kind, kind.presets[1], SIDE)

    def defaults(self) -> dict[str, Any]:
        """Return the configuration of its first trial."""
        return {**search_spaces.defaults(self.method.space(self.config)), **self.config}

    def build(self, **config: Any) -> tuple[nn.Module, Physics, Tensor]:
        """Build it as a run would; return it with its physics and measurements."""
        operator = self.task()
        torch.manual_seed(0)
        model = training.build(self.method, {**self.defaults(), **config}, operator)
        methods.prepare(model, self.x, operator, ["a", "b"])
        return model, operator, operator.measure(self.x, ["a", "b"])

    def builds(self) -> None:
        """Build it."""
        if self.method.missing_extra is not None:
            raise CannotCheckError(f"it needs pip install -e '.[{self.method.missing_extra}]'")
        self.build()

    def space(self) -> None:
        """Check all choices and both ends of every range."""
        fixed = {"perceptual": "none"} if self.method.learned else {}
        training.check_space(self.method, {**fixed, **self.config})

    def is_called(self) -> None:
        """Check the signature of `forward`: a method never sees the truth."""
        model, operator, y = self.build()
        try:
            inspect.signature(model.forward).bind(y, operator)
        except TypeError as error:
            raise BrokenError(f"forward(y, physics): {error}") from None

    @cached_property
    def _first(self) -> tuple[bool, Tensor]:
        """Reconstruct with the defaults; return whether y is unchanged, and the images."""
        model, operator, y = self.build()
        before = y.clone()
        x_hat = _reconstruct(model, y, operator)
        return torch.equal(before, y), x_hat

    def _is_image(self, x_hat: Tensor) -> None:
        demand(
            x_hat.shape == self.x.shape,
            f"it returns {tuple(x_hat.shape)}, not {tuple(self.x.shape)}",
        )
        demand(x_hat.dtype == torch.float32, f"it returns {x_hat.dtype}, not float32")
        demand(torch.isfinite(x_hat).all(), "it returns numbers that are not finite")

    def reconstructs(self) -> None:
        """Check shape, type and values of its result."""
        self._is_image(self._first[1])

    def reconstructs_at_the_ends(self) -> None:
        """Check the result with every parameter at its ends, the others at their defaults."""
        for key, value in self._ends():
            try:
                model, operator, y = self.build(**{key: value})
                self._is_image(_reconstruct(model, y, operator))
            except BrokenError as reason:
                raise BrokenError(f"{key} = {value}: {reason}") from None

    def _ends(self) -> Iterator[tuple[str, Any]]:
        for key, entry in self.method.space(self.config).items():
            if key in self.method.options:  # not the options of training
                ends = entry.get("choices") or (entry["low"], entry["high"])
                for value in {ends[0], ends[-1]} - {entry["default"]}:
                    yield key, value

    def is_alone(self) -> None:
        """Reconstruct a batch, and its images one by one."""
        model, operator, y = self.build()
        alone = torch.cat([_reconstruct(model, one[None], operator) for one in y])
        error = (self._first[1] - alone).abs().max()
        demand(error <= BATCH_TOLERANCE, f"a pixel differs by {error:.3g}")

    def leaves_y(self) -> None:
        """Check that it writes nothing into the measurements."""
        demand(self._first[0], "it writes into y, which later methods need unchanged")

    def is_deterministic(self) -> None:
        """Check that another global seed changes nothing, if it is declared deterministic."""
        if not self.method.deterministic:
            raise CannotCheckError("it is not declared deterministic")
        model, operator, y = self.build()
        torch.manual_seed(1)
        again = _reconstruct(model, y, operator)
        demand(torch.equal(self._first[1], again), "another global seed gives another image")

    def _learned(self) -> None:
        if not self.method.learned:
            raise CannotCheckError(f"it is {self.method.kind}, not trained by steps")

    def gradients(self) -> None:
        """Check that no weight is left out of training."""
        self._learned()
        model, operator, y = self.build()
        model.train()(y, operator).sub(self.x**2).square().mean().backward()
        weights = {name: w for name, w in model.named_parameters() if w.requires_grad}
        demand(weights, "it has no weights")
        without = [name for name, weight in weights.items() if weight.grad is None]
        demand(not without, f"no gradient reaches {', '.join(without)}")
        slopes = {name: w.grad for name, w in weights.items() if w.grad is not None}
        wild = [name for name, slope in slopes.items() if not torch.isfinite(slope).all()]
        demand(not wild, f"the gradient is not finite for {', '.join(wild)}")

    def trains(self) -> None:
        """Train it for two steps."""
        self._learned()
        few = ImageSet(self.x.numpy(), ["a", "b"], ["a", "b"])
        training.fit(
            self.method, {**self.defaults(), "loss": "mse"}, few, few, self.task(),
            Budget(steps=2, batch_size=2, reports=1), 0, device="cpu", precision="fp32",
        )  # fmt: skip

    def movable(self) -> None:
        """Check that all its tensors move with it to another device."""
        loose = loose_tensors(self.build()[0])
        demand(not loose, f"{', '.join(loose)}: use register_buffer")

    def is_stored(self) -> None:
        """Build it anew, with the state of one that was prepared, as a run's models are read."""
        model, operator, y = self.build()
        again = training.build(self.method, self.defaults(), operator)
        try:
            again.load_state_dict(model.state_dict())
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise BrokenError(f"a new one does not take its state ({reason})") from None
        if self.method.deterministic:
            same = torch.equal(_reconstruct(again.eval(), y, operator), self._first[1])
            demand(same, "with the same state it returns other images")

    def on_gpu(self) -> None:
        """Check that its result is on the device of the measurements, and the same."""
        if not torch.cuda.is_available():
            raise CannotCheckError("this machine has no GPU")
        model, operator, y = self.build()
        here = _reconstruct(model, y, operator)
        there = _reconstruct(model.to("cuda"), y.cuda(), operator.to("cuda"))
        demand(there.is_cuda, "images from measurements on the GPU are on the CPU")
        # The mean, since single pixels differ more after many iterations.
        error = (here - there.cpu()).abs().mean()
        demand(error <= BATCH_TOLERANCE, f"its pixels differ by {error:.3g} from the CPU's")


@torch.no_grad()
def _reconstruct(model: nn.Module, y: Tensor, operator: Physics) -> Tensor:
    x_hat: Tensor = model.eval()(y, operator)
    return x_hat
