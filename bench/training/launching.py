"""How the kernels of a network in training are launched: one by one, or replayed as a CUDA graph.

A small network spends its time on launches: hundreds of kernels a step, of microseconds each. As a
graph, forward and backward pass are one launch each. Not every network can be captured (one that
asks the GPU for a number cannot), so each is tried once, and the faster way is taken.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from bench.errors import UserError
from bench.methods import Reconstructor
from bench.physics import Physics
from bench.training.batches import Batch

VARIABLE = "RECONBENCH_LAUNCH"  # "auto", "eager" or "graphs"
TIMED, WORTH = 10, 0.95  # passes; a graph is taken if it needs less than this share of the time
TOLERANCE = 0.05  # of results and gradients in bf16, relative

Way = Literal["eager", "graphs"]
logger = logging.getLogger(__name__)
_chosen: dict[tuple[object, ...], "Choice"] = {}


class Choice(NamedTuple):
    """How a network is launched, and why."""

    way: Way
    reason: str


class Replayed(nn.Module):
    """A network whose captured passes are replayed; anything but such a batch, it computes anew.

    Args:
        network: the network.
        passes: its captured passes, a function of the tensors of a batch.
        batch: with which they were captured.
    """

    def __init__(self, network: nn.Module, passes: Callable[..., Tensor], batch: Batch):
        super().__init__()
        self.network, self.physics = network, batch.physics
        self._passes = [passes]  # in a list, or its weights would be counted twice
        self.shapes = [one.shape for one in tensors_of(batch)]

    def forward(self, *given: Tensor | Physics) -> Tensor:
        """Reconstruct; see `Reconstructor.forward`."""
        y, physics, *estimate = given
        tensors = [one for one in (y, *estimate) if isinstance(one, Tensor)]
        if physics is self.physics and [one.shape for one in tensors] == self.shapes:
            return self._passes[0](*tensors)
        result: Tensor = self.network(*given)
        return result


class _Bound(nn.Module):
    """A network as a function of tensors alone."""

    def __init__(self, network: nn.Module, physics: Physics):
        super().__init__()
        self.network, self.physics = network, [physics]

    def forward(self, y: Tensor, *estimate: Tensor) -> Tensor:
        """Reconstruct."""
        result: Tensor = self.network(y, self.physics[0], *estimate)
        return result


def tensors_of(batch: Batch) -> list[Tensor]:
    """Return what a network receives of a batch, without its physics."""
    return [batch.y] if batch.estimate is None else [batch.y, batch.estimate]


def launched(network: nn.Module, batch: Batch, bf16: bool) -> tuple[nn.Module, Choice]:
    """Choose how a network is launched, by trying both ways on a GPU; see `VARIABLE`.

    The network is left as it was.

    Args:
        network: in training, on the device of the batch.
        batch: the first one of its training.
        bf16: whether it is trained in bf16.

    Returns:
        the network, or one that replays it, and the choice.

    Raises:
        UserError: the variable has another value.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in ("auto", "eager", "graphs"):
        raise UserError(f"{VARIABLE}: {wanted!r} is neither auto, eager nor graphs")
    if not launches(batch.y.device):
        return network, Choice("eager", "there are no launches on a CPU")
    if wanted == "eager":
        return network, Choice("eager", f"{VARIABLE} says so")
    if batch.physics.measured is not None:
        return network, Choice("eager", "each batch has its own operator")
    key = _key(network, batch, bf16)
    known = _chosen.get(key)
    if known is not None and known.way == "eager":
        return network, known
    devices = [batch.y.device] if batch.y.is_cuda else []
    with torch.random.fork_rng(devices):
        replayed, choice = _tried(network, batch, bf16, wanted == "graphs" or known is not None)
    if known is None:
        _chosen[key] = choice
        logger.info("%s: %s, since %s", type(network).__name__, choice.way, choice.reason)
    return replayed, choice


def launches(device: torch.device) -> bool:
    """Return whether a device is told by the CPU what to compute."""
    return device.type == "cuda"


def _key(network: nn.Module, batch: Batch, bf16: bool) -> tuple[object, ...]:
    """Name a network on a kind of GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    weights = tuple((name, tuple(one.shape)) for name, one in network.named_parameters())
    shapes = tuple(tuple(one.shape) for one in tensors_of(batch))
    return gpu, type(network), weights, shapes, type(batch.physics), batch.physics.level, bf16


def _tried(network: nn.Module, batch: Batch, bf16: bool, at_once: bool) -> tuple[nn.Module, Choice]:
    """Capture a network and compare; `at_once`: take the graph if it is right, however fast."""
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        wanted = _results(network, batch, bf16)
        if isinstance(network, Reconstructor) and network.penalty is not None:
            return network, Choice("eager", "its penalty is no result of the captured pass")
        replayed = Replayed(network, capture(network, batch, bf16), batch)
        network.load_state_dict(kept)
        found = _results(replayed, batch, bf16)
        if not all(map(_alike, found, wanted)):
            return network, Choice("eager", "a captured pass gives other numbers")
        if at_once:
            return replayed, Choice("graphs", "it was chosen")
        slow, fast = (seconds(one, batch, bf16) for one in (network, replayed))
    except Exception as error:  # a capture may end in any
        said = " ".join(str(error).split())[:200]
        return network, Choice("eager", f"it cannot be captured ({said})")
    finally:
        network.load_state_dict(kept)
        network.zero_grad(set_to_none=True)
        take_penalty(network)
    reason = f"a pass takes {1e3 * fast:.2f} ms as a graph and {1e3 * slow:.2f} ms without"
    if fast < WORTH * slow:
        return replayed, Choice("graphs", reason)
    return network, Choice("eager", reason)


def capture(network: nn.Module, batch: Batch, bf16: bool) -> Callable[..., Tensor]:
    """Capture forward and backward pass for batches of this shape."""
    bound = _Bound(network, batch.physics).train()
    examples = tuple(one.detach().clone() for one in tensors_of(batch))
    # Casts of weights must be part of the graph.
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16, cache_enabled=False):
        passes: Any = torch.cuda.make_graphed_callables(bound, examples)
    captured: Callable[..., Tensor] = passes
    return captured


def seconds(network: nn.Module, batch: Batch, bf16: bool) -> float:
    """Time forward and backward pass on the GPU."""
    for count in (3, TIMED):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            _results(network, batch, bf16)
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / TIMED


def _results(network: nn.Module, batch: Batch, bf16: bool) -> list[Tensor]:
    """Return the reconstruction of a batch and the gradient of its squared error."""
    torch.manual_seed(0)  # of dropout
    network.zero_grad(set_to_none=True)
    with torch.autocast(batch.y.device.type, torch.bfloat16, enabled=bf16):
        x_hat = batch.reconstruct(network.train())
    (x_hat - batch.x).square().mean().backward()
    slopes = [one.grad.flatten() for one in network.parameters() if one.grad is not None]
    return [x_hat.detach(), torch.cat(slopes).detach().clone()]


def take_penalty(network: nn.Module) -> Tensor | float:
    """Return what a network's last forward pass adds to its loss; see `Reconstructor.penalty`."""
    if not isinstance(network, Reconstructor) or network.penalty is None:
        return 0.0
    penalty = network.penalty.float()
    network.penalty = None  # it would keep the whole pass in memory
    return penalty


def _alike(one: Tensor, other: Tensor) -> bool:
    error = (one - other).norm() / other.norm().clamp(min=1e-12)
    return bool(error <= TOLERANCE)
