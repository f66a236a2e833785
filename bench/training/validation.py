"""Validations of a network in training, and the weights that were best in one."""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench import metrics
from bench.data import ImageSet
from bench.metrics import Metric
from bench.physics import Physics
from bench.training.batches import as_tensor, estimate

CHUNK = 16  # images that are reconstructed at once
AT_ONCE = 2**22  # on a GPU: numbers of their measurements, if that is more images


@dataclass(frozen=True)
class Validation:
    """The result of a validation: means over the validation images.

    Attributes:
        step: optimiser steps so far.
        psnr: in dB.
        ssim: see `bench.metrics`.
        score: the objective, negated if lower is better, so that a greater score is better.
    """

    step: int
    psnr: float
    ssim: float
    score: float


@torch.no_grad()
def reconstruct(
    model: nn.Module,
    y: Shaped[Tensor, "n ..."],
    physics: Physics,
    estimates: Shaped[Tensor, "n ..."] | None = None,
) -> Shaped[Tensor, "n 1 h w"]:
    """Reconstruct measurements a few at a time, in evaluation mode and float32.

    A GPU is given more at once, or fewer again if its memory does not suffice.

    Args:
        model: the reconstructor.
        y: measurements.
        physics: the operator of these measurements.
        estimates: what `estimate` returned for y; default: the model computes it.
    """
    model.eval()
    size = _size(y)
    while True:
        try:
            found = []
            for begin in range(0, len(y), size):
                part = slice(begin, begin + size)
                given = () if estimates is None else (estimates[part],)
                found.append(model(y[part], physics.part(part), *given))
            return torch.cat(found)
        except torch.OutOfMemoryError:
            if size <= CHUNK:
                raise
            found.clear()
            torch.cuda.empty_cache()
            size = max(CHUNK, size // 4)


def _size(y: Shaped[Tensor, "n ..."]) -> int:
    """Return how many measurements are reconstructed at once."""
    return max(CHUNK, AT_ONCE // max(y[0].numel(), 1)) if y.is_cuda else CHUNK


def magnitude(x: Shaped[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return what is scored: the magnitude of complex images, and real ones as they are."""
    return x.abs() if x.is_complex() else x


class Validator:
    """Scores a model on the validation images, measured once."""

    def __init__(
        self, val: ImageSet, physics: Physics, device: torch.device, objective: str | type[Metric]
    ):
        self.objective = objective
        self.sign = metrics.find(objective).column(metrics.name_of(objective)).sign
        self.device = device
        self.x = as_tensor(val).to(device)
        self.physics = physics.of(val)
        self.y = self.physics.measure(self.x, val.ids)
        self.estimates: Tensor | None = None
        self.estimated = False

    def __call__(self, model: nn.Module, step: int) -> Validation:
        """Score a model as it is after a step."""
        wanted = dict.fromkeys(["psnr", "ssim", self.objective])
        if not self.estimated:
            self.estimates, self.estimated = estimate(model, self.y, self.physics), True
        x_hat = magnitude(reconstruct(model, self.y, self.physics, self.estimates))
        scores = metrics.evaluate(x_hat, self.x, metrics=list(wanted))
        psnr, ssim = scores["psnr"].mean().item(), scores["ssim"].mean().item()
        values = scores[metrics.name_of(self.objective)]
        # Images without a defined objective are left out; a reconstruction with NaN makes it NaN.
        score = math.nan if math.isnan(psnr) else self.sign * values[~values.isnan()].mean().item()
        return Validation(step, psnr, ssim, score)


class BestWeights:
    """The weights that were best on validation, and every validation so far.

    Attributes:
        final: whether they are from the training with its own loss, not from the pretraining.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] | None = None
        self.psnr, self.ssim, self.step, self.final = -math.inf, math.nan, 0, False
        self.score = -math.inf
        self.history: list[Validation] = []

    def note(self, progress: Validation, model: nn.Module, final: bool) -> None:
        """Record a validation, and the weights if they are the best so far."""
        self.history.append(progress)
        self.consider(progress, model, final)

    def consider(self, progress: Validation, model: nn.Module, final: bool) -> None:
        """Keep a model's weights if they are better."""
        if not math.isnan(progress.score) and (final, progress.score) > (self.final, self.score):
            self.psnr, self.ssim, self.step = progress.psnr, progress.ssim, progress.step
            self.score, self.final = progress.score, final
            self.weights = {
                key: value.detach().clone() for key, value in model.state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain data and tensors."""
        return {**vars(self), "history": [astuple(one) for one in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; before there were objectives, the score was the PSNR."""
        vars(self).update({"score": state["psnr"], **state})
        self.history = [
            Validation(step, psnr, ssim, *(score or [psnr]))
            for step, psnr, ssim, *score in state["history"]
        ]
