"""How the way of launching kernels is chosen; captures themselves need a GPU (test_gpu.py)."""

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from bench import physics
from bench.errors import UserError
from bench.methods import Reconstructor
from bench.methods.batch_norm import BatchNorm
from bench.physics import Physics
from bench.spec import Budget
from bench.training import Recipe, launching
from bench.training.batches import Batch
from bench.training.optimisation import Trainer

OPERATOR = physics.create("gaussian_noise", 0.05, 8)
X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(X, X + 0.1, OPERATOR)


class Net(Reconstructor):
    """A convolution with moments that each pass in training moves."""

    kind = "learned"

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm = nn.Conv2d(1, 1, 3, padding=1), BatchNorm(1)

    def forward(self, y: Tensor, operator: Physics) -> Tensor:
        return self.norm(self.body(y))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """Take the CPU for a GPU, with captures and times that a test chooses."""
    state: dict = {"captures": 0, "factor": 1.0, "fast": 1.0, "fails": False}

    def capture(network: nn.Module, batch: Batch, bf16: bool) -> Callable[..., Tensor]:
        state["captures"] += 1
        network(batch.y, batch.physics)  # as the passes that warm up do
        if state["fails"]:
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda y: state["factor"] * network(y, batch.physics)

    def seconds(network: nn.Module, batch: Batch, bf16: bool) -> float:
        return state["fast"] if isinstance(network, launching.Replayed) else 2.0

    monkeypatch.setattr(launching, "launches", lambda device: True)
    monkeypatch.setattr(launching, "capture", capture)
    monkeypatch.setattr(launching, "seconds", seconds)
    monkeypatch.setattr(launching, "_chosen", {})
    monkeypatch.delenv(launching.VARIABLE, raising=False)
    yield state


def test_a_cpu_is_not_tried() -> None:
    network = Net()
    chosen, choice = launching.launched(network, BATCH, False)
    assert chosen is network and "on a CPU" in choice.reason
    trainer = Trainer(
        network, Recipe(), Budget(steps=5, batch_size=4), 1, torch.device("cpu"), "fp32"
    )
    trainer.step(1, BATCH)
    assert trainer.launch is not None and trainer.launch.way == "eager"
    assert trainer.parallel is network


def test_the_faster_way_is_taken_once_for_all_and_logged(
    gpu: dict, caplog: pytest.LogCaptureFixture
) -> None:
    network = Net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with caplog.at_level(logging.INFO):
        replayed, choice = launching.launched(network, BATCH, False)
    assert choice.way == "graphs" and isinstance(replayed, launching.Replayed)
    assert "Net: graphs, since a pass takes 1000.00 ms as a graph and 2000.00 ms" in caplog.text
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    gpu["fast"] = 9.0  # is not measured again
    assert launching.launched(Net(), BATCH, False)[1].way == "graphs"
    assert launching.launched(Net(), BATCH, True)[1].way == "eager"  # another precision
    captures = gpu["captures"]
    assert launching.launched(Net(), BATCH, True)[1].way == "eager"
    assert gpu["captures"] == captures


def test_a_graph_that_fails_is_wrong_or_slow_is_not_taken(gpu: dict) -> None:
    for changes, reason in (
        ({"fails": True}, "it cannot be captured .operation not permitted"),
        ({"factor": 1.2}, "a captured pass gives other numbers"),
        ({"fast": 1.95}, "1950.00 ms as a graph"),
    ):
        gpu.update(changes)
        launching._chosen.clear()
        network = Net()
        chosen, choice = launching.launched(network, BATCH, False)
        assert chosen is network and choice.way == "eager"
        assert reason.replace(".operation", "(operation") in choice.reason
        gpu.update({"fails": False, "factor": 1.0})
    network = Net()
    network.forward = lambda y, operator: _with_penalty(network, y, operator)  # type: ignore
    launching._chosen.clear()
    assert "penalty" in launching.launched(network, BATCH, False)[1].reason
    assert network.penalty is None


def _with_penalty(network: Net, y: Tensor, operator: Physics) -> Tensor:
    network.penalty = y.mean()
    return Net.forward(network, y, operator)


def test_the_user_decides_if_he_wants(gpu: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu["fast"] = 9.0
    for wanted in ("graphs", "eager"):
        monkeypatch.setenv(launching.VARIABLE, wanted)
        assert launching.launched(Net(), BATCH, False)[1].way == wanted
    monkeypatch.setenv(launching.VARIABLE, "fast")
    with pytest.raises(UserError, match="'fast' is neither auto, eager nor graphs"):
        launching.launched(Net(), BATCH, False)


def test_another_shape_or_operator_is_computed_anew(gpu: dict) -> None:
    gpu["factor"] = 1.001
    network = Net()
    replayed, _ = launching.launched(network, BATCH, False)
    network.eval()
    plain = network(BATCH.y, OPERATOR)
    torch.testing.assert_close(replayed(BATCH.y, OPERATOR), 1.001 * plain)
    assert torch.equal(replayed(BATCH.y[:2], OPERATOR), network(BATCH.y[:2], OPERATOR))
    other = physics.create("gaussian_noise", 0.05, 8)
    assert torch.equal(replayed(BATCH.y, other), plain)
