"""What `reconbench check` tries: every part of ours passes, planted faults are found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench import cli, contracts
from bench.contracts.base import outcomes
from bench.contracts.method import Method
from bench.errors import UserError

OURS = list(contracts.ours())
FEWER = {"dip_tv": {"steps": 10}}  # so many steps are enough to see what it returns


def test_each_kind_has_parts_of_ours() -> None:
    assert {kind for kind, _ in OURS} == set(contracts.KINDS)


@pytest.mark.parametrize(("kind", "name"), OURS, ids=[" ".join(part) for part in OURS])
def test_ours_keep_their_contracts(kind: str, name: str) -> None:
    if name in FEWER:
        found = list(outcomes(name, Method(name, **FEWER[name]).checks()))
    else:
        found = list(contracts.check(name, kind))
    assert found
    assert not [str(one) for one in found if one.result == "failed"]


FAULTY = """
import torch
from torch import nn

from bench.methods import Classical
from bench.metrics import Metric
from bench.physics import Physics
from bench.physics.gaussian_noise import GaussianNoise

class Shifted(Physics):
    unit, levels, presets = "pixels", (0, 8), (1, 2, 4)
    def A(self, x): return x.roll(int(self.level), -1)
    def A_adjoint(self, y): return y.roll(int(self.level), -1)

class Squared(Physics):
    unit, levels, presets = "power", (1, 3), (1, 2, 3)
    def A(self, x): return x.abs() ** self.level
    def A_adjoint(self, y): return y

class Careless(GaussianNoise):
    def add_noise(self, y, noise): return y + self.level**0.5 * torch.randn_like(y)

class Anything(GaussianNoise):
    def __init__(self, level, image_size): super().__init__(min(level, 1.0), image_size)

class Left(GaussianNoise):
    def __init__(self, level, image_size):
        super().__init__(level, image_size)
        self.gain = torch.tensor(2.0)
    def A(self, x): return self.gain * x
    def A_adjoint(self, y): return self.gain * y

class Flat(Classical):
    def forward(self, y, physics): return physics.A_dagger(y)[:, 0]

class TooWide(Classical):
    search_space = {"weight": {"low": 0.0, "high": 1.0, "default": 0.5}}
    def __init__(self, weight: float = 0.5):
        super().__init__()
        if weight < 0.1: raise ValueError("weight is below 0.1")
    def forward(self, y, physics): return physics.A_dagger(y)

class Random(Classical):
    def forward(self, y, physics):
        x = physics.A_dagger(y)
        return x + torch.rand_like(x)

class Greedy(Classical):
    def forward(self, y, physics): return physics.A_dagger(y) - physics.A_dagger(y).mean()

class Writing(Classical):
    def forward(self, y, physics): return physics.A_dagger(y.clamp_(0, 1))

class Peeking(Classical):
    def forward(self, y, physics, x): return x

class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    def forward(self, y, physics): return self.used(physics.A_dagger(y))

def per_image(x_hat, x): return (x_hat - x).square().mean((1, 2, 3))

def towards_black(x_hat, x): return x_hat.square().mean()

class Reversed(Metric):
    label, direction = "error", "higher"
    def image(self, x_hat, x): return (x_hat - x).abs().mean((1, 2, 3))

class Relative(Metric):
    label, direction = "relative", "lower"
    def image(self, x_hat, x): return (x_hat - x).abs().mean((1, 2, 3)) / (x_hat - x).abs().max()
"""


@pytest.mark.parametrize(
    ("name", "check", "reason"),
    [
        ("Shifted", "|<Ax, y> - <x, A*y>|", "the difference is"),
        ("Squared", "A is linear", "say linear = False"),
        ("Careless", "a measurement depends on", "another order"),
        ("Anything", "a level out of its range", "level 11 is accepted"),
        ("Left", "its tensors are buffers", "Left.gain"),
        ("Flat", "it gives one finite image", "(2, 16, 16), not (2, 1, 16, 16)"),
        ("TooWide", "both ends of its search space", "weight is below 0.1"),
        ("Random", "it is deterministic", "another global seed"),
        ("Greedy", "does not depend on the others", "a pixel differs"),
        ("Writing", "it leaves the measurements", "it writes into y"),
        ("Peeking", "with measurements and physics alone", "missing a required argument: 'x'"),
        ("Idle", "gradients reach all", "idle.weight, idle.bias"),
        ("per_image", "one finite number for a batch", "shape (3,)"),
        ("towards_black", "smaller loss than the truth", "half the truth"),
        ("Reversed", "less noise is better", "direction is 'higher'"),
        ("Relative", "does not depend on the others", " and "),
    ],
)
def test_a_planted_fault_is_found(own_package: Path, name: str, check: str, reason: str) -> None:
    (own_package / "faulty.py").write_text(FAULTY)
    found = list(contracts.check(f"faulty:{name}"))
    failed = [one for one in found if one.result == "failed" and check in one.check]
    assert [one for one in failed if reason in one.reason], [str(one) for one in found]
    assert sum(one.result == "passed" for one in found) >= 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("my_pkg.methods.shrunk:Shrunk", "method"),
        ("my_pkg.degradations.quantiser:Quantiser", "degradation"),
        ("my_pkg.losses.log_cosh:log_cosh", "loss"),
        ("my_pkg.readers:asc", "reader"),
        ("my_pkg.metrics.median_error:MedianError", "metric"),
        ("torch.nn:L1Loss", "loss"),
        ("torch.nn.functional:mse_loss", "loss"),
    ],
)
def test_a_users_part_is_checked_as_what_it_is(own_package: Path, path: str, kind: str) -> None:
    given = None if not path.startswith("torch") else kind
    found = list(contracts.check(path, given))
    assert not [str(one) for one in found if one.result == "failed"]
    assert found[0].part == f"{kind} {path}"


@pytest.mark.parametrize(
    ("text", "failed"),
    [(f"{' 1 2' * 8}\n{' 3 4' * 8}\n" * 8, 0), ("no numbers", 2), (None, 3)],
)
def test_a_reader_is_tried_on_a_file(own_package: Path, text: str | None, failed: int) -> None:
    file = own_package / ("a.asc" if text else "a.npy")
    if text:
        file.write_text(text)
    else:
        np.save(file, np.ones(3))
    found = list(contracts.check("my_pkg.readers:asc", file=file))
    assert sum(one.result == "failed" for one in found) == failed
    assert all(one.result != "not checked" for one in found)


def run(capsys: pytest.CaptureFixture, monkeypatch: Any, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["reconbench", "check", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return (int(ended.value.code or 0), *capsys.readouterr())


def test_the_command(own_package: Path, capsys: pytest.CaptureFixture, monkeypatch: Any) -> None:
    (own_package / "faulty.py").write_text(FAULTY)
    status, out, err = run(capsys, monkeypatch, "psnr", "faulty:Shifted", "ssim")
    assert status == 2
    assert "passed  metric psnr: less noise is better" in out
    assert "passed  loss ssim" in out and "passed  metric ssim" in out
    assert "failed  degradation faulty:Shifted: |<Ax, y> - <x, A*y>| <= 1e-5 |Ax||y|" in out
    assert err.startswith("error: check: 2 failed, ")
    assert err.count("\n") == 1
    status, out, err = run(capsys, monkeypatch, "faulty:per_image", "--kind", "metric")
    assert status == 2 and "a metric is a class that extends bench.metrics.Metric" in err
    status, out, err = run(capsys, monkeypatch, "gaussian_blur")
    assert status == 0 and not err and "check: " in out.splitlines()[-1]
    for words, says in (([], "name a part"), (["psrn"], "did you mean 'psnr'")):
        status, _, err = run(capsys, monkeypatch, *words)
        assert status == 2 and says in err


def test_a_network_of_pytorch_is_checked_as_it_is() -> None:
    found = list(contracts.check(nn.Conv2d(1, 1, 3, padding=1)))
    assert not [str(one) for one in found if one.result == "failed"]
    with pytest.raises(UserError, match="not a part of any kind"):
        list(contracts.check(torch.zeros(1)))
