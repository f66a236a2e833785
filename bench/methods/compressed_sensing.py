"""Total variation tuned on training images: the estimate that learned methods may start from."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench.methods.classical._admm import LEAST_NOISE, TOLERANCE, solve
from bench.methods.classical._transforms import Gradient
from bench.physics import Physics

TUNED_ON = 8  # training images at most
COARSE = (0.1, 0.3, 0.9, 2.7)  # weights tried first
FINER = (3**0.5, 3**0.25)  # ratios of those tried beside the best so far
ROUGH = 1e-2  # tolerance of these solutions
KEPT = 2**27  # bytes of solutions that are kept


class CompressedSensing(nn.Module):
    """TV (see `bench.methods.classical.tv`) with the weight that is best on training images.

    Attributes:
        weight: in units of `natural_weight`.
        error: root mean square of its difference to the training images.
        alone: whether no step has trained the network that starts from it: see `until_trained`.
    """

    weight: Tensor
    error: Tensor
    alone: Tensor

    def __init__(self, weight: float = 0.7):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))
        self.register_buffer("error", torch.tensor(0.05))
        self.register_buffer("alone", torch.tensor(True))

    @torch.no_grad()
    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Choose the weight by the mean PSNR over some training images; see `Reconstructor`."""
        x = images[:TUNED_ON].to(self.weight.device)
        physics = physics.part(slice(len(x)))
        y = physics.measure(x, ids[: len(x)])
        errors = {weight: self._errors(x, y, physics, weight) for weight in COARSE}
        for finer in FINER:
            best = min(errors, key=lambda weight: float(errors[weight].log().mean()))
            for weight in (best / finer, best * finer):
                errors[weight] = self._errors(x, y, physics, weight)
        best = min(errors, key=lambda weight: float(errors[weight].log().mean()))
        self.weight = torch.full_like(self.weight, best)
        error = (self(y, physics).abs() - x).square().mean().sqrt()
        self.error = error.clamp(min=LEAST_NOISE).to(self.error)

    @staticmethod
    def _errors(x: Tensor, y: Tensor, physics: Physics, weight: float) -> Float[Tensor, " n"]:
        """Return each image's mean squared error."""
        x_hat = tv_solution(y, physics, weight, ROUGH)
        return (x_hat.abs() - x).square().mean((1, 2, 3)).clamp(min=1e-12)

    def data_weight(self, physics: Physics) -> float:
        """Return the mu of the Bayesian update of its result by the measurement.

        With noise of variance s^2 in y and an error of variance e^2 in x_tv, white both, the best
        linear estimate is x_tv + (A^T A + s^2 / e^2)^-1 A^T (y - A x_tv).
        """
        noise = max(physics.noise_std, LEAST_NOISE)
        return noise**2 / float(self.error) ** 2

    def until_trained(
        self, x_hat: Float[Tensor, "b 1 h w"], start: Float[Tensor, "b 1 h w"], training: bool
    ) -> Float[Tensor, "b 1 h w"]:
        """Return a network's result; before its first training step, what it started from."""
        if training:
            self.alone.fill_(False)
            return x_hat
        return torch.where(self.alone, start, x_hat)

    @torch.no_grad()
    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct images of few edges."""
        return tv_solution(y, physics, float(self.weight))


_solutions: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()
_kept: ContextVar[bool] = ContextVar("kept", default=True)


@contextmanager
def solved_anew() -> Iterator[None]:
    """Compute all solutions within anew, so that their cost is that of images not seen before."""
    before = _kept.set(False)
    try:
        yield
    finally:
        _kept.reset(before)


def tv_solution(
    y: Shaped[Tensor, "b ..."], physics: Physics, weight: float, tolerance: float = TOLERANCE
) -> Shaped[Tensor, "b 1 h w"]:
    """Reconstruct images of few edges; see `solve`.

    The trials of a cell start from the same solutions, so the latest ones are kept, except within
    `solved_anew`. They are found by y and A^T y, which no two operators have in common.
    """
    if not _kept.get():
        return solve(y, physics, Gradient(), weight, tolerance)
    operator = type(physics), physics.level, physics.noise_std, y.device
    key = (_digest(y), _digest(physics.A_adjoint(y)), *operator, weight, tolerance)
    kept = _solutions.pop(key, None)
    x = solve(y, physics, Gradient(), weight, tolerance) if kept is None else kept
    _solutions[key] = x
    total = sum(one.nbytes for one in _solutions.values())
    while total > KEPT:
        total -= _solutions.popitem(last=False)[1].nbytes
    return x.clone()


def _digest(values: Tensor) -> bytes:
    return hashlib.sha256(values.detach().cpu().contiguous().numpy().tobytes()).digest()
