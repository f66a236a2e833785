"""The Python interface: what a researcher does in a notebook."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import config
from skimage.data import shepp_logan_phantom
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import resize
from torch import nn

import bench
from bench.errors import UserError
from bench.metrics import Metric

DOCUMENTED = ("bench.api", "bench.opened", "bench.model")


@pytest.mark.parametrize("room", DOCUMENTED)
def test_the_examples_of_docstrings(room: str) -> None:
    assert doctest.testmod(import_module(room), optionflags=doctest.ELLIPSIS).failed == 0


def test_every_public_name_has_an_example() -> None:
    examples = doctest.DocTestFinder()
    for name in set(bench.__all__) - {"methods", "physics", "Task", "Model", "Run"}:
        (found,) = [test for test in examples.find(getattr(bench, name)) if test.examples]
        assert found.name == name


def images(count: int = 30, size: int = 32) -> np.ndarray:
    phantom = resize(shepp_logan_phantom(), (size, size), anti_aliasing=True)
    rolled = [np.roll(phantom, (k % 5, k // 5), (0, 1)) for k in range(count)]
    return np.clip(np.stack(rolled) * np.linspace(0.7, 1, count)[:, None, None], 0, 1)


@pytest.fixture(scope="module")
def denoising() -> bench.Task:
    return bench.task(bench.load(images()), "gaussian_noise", 0.02, n_train=12)


class Worst(Metric):
    """The worst pixel."""

    label, direction = "Worst", "lower"

    def image(self, x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (x_hat - x).abs().amax((1, 2, 3))


class Tiny(nn.Module):
    """A network of one convolution, called with A_dagger(y)."""

    def __init__(self, width: int = 4):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def test_scores_are_those_of_scikit_image(denoising: bench.Task) -> None:
    model = bench.fit("tv", denoising, weight=0.2)
    scores = bench.evaluate(model, denoising, metrics=[Worst])
    y = model.measure(denoising.test.images, denoising.test.ids)
    x_hat = model(y)
    for line, x, found in zip(scores.itertuples(), denoising.test.images, x_hat, strict=True):
        assert line.psnr == pytest.approx(peak_signal_noise_ratio(x, found, data_range=1), abs=1e-4)
        assert line.Worst == pytest.approx(np.abs(x - found).max())
    assert list(scores.image) == denoising.test.ids
    nothing = bench.evaluate(bench.fit("degraded", denoising), denoising)
    assert nothing.psnr.mean() == pytest.approx(-10 * np.log10(0.02), abs=0.3)
    assert scores.psnr.mean() > nothing.psnr.mean() + 2


def test_a_class_and_a_network_train(denoising: bench.Task) -> None:
    torch.manual_seed(0)
    network = Tiny(6)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    seen = []
    by_class = bench.fit(Tiny, denoising, steps=20, width=5, report=seen.append)
    by_instance = bench.fit(network, denoising, steps=20)
    assert [one.step for one in seen] == [one.step for one in by_class.fit.history]
    assert by_class.fit.parameters == sum(w.numel() for w in Tiny(5).parameters())
    nothing = bench.evaluate(bench.fit("degraded", denoising), denoising).psnr.mean()
    for model in (by_class, by_instance):
        assert bench.evaluate(model, denoising).psnr.mean() > nothing
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])  # the caller's own is left alone


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda task: bench.fit("unte", task), "unknown method 'unte'; did you mean 'unet'"),
        (lambda task: bench.fit("tv", task, wieght=1), "did you mean 'weight'"),
        (lambda task: bench.load(np.full((2, 8, 8), 255.0)), "values from 255 to 255; scale them"),
        (lambda task: bench.load("nowhere"), "nowhere: no such"),
        (lambda task: bench.load(images(), windw=[0, 1]), "not of an array: windw"),
        (lambda task: bench.load(images(), subjects=["a"]), "30 of them, but 1 subjects"),
        (lambda task: bench.task(bench.load(images(2)), "gaussian_noise", 1), "2 images of 2"),
        (lambda task: bench.task(bench.load(images()), "mri_cartesian", 4, coils=-1), "coils"),
        (lambda task: bench.run({"methods": ["tv"]}), "degradations: Field required"),
        (lambda task: bench.open_run("."), "holds no run"),
    ],
)
def test_mistakes_are_one_clear_line(denoising: bench.Task, call, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        call(denoising)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)  # of the command line


def test_images_of_a_wrong_shape() -> None:
    config.update("jaxtyping_disable", True)  # of the tests' own checks, which come first
    try:
        with pytest.raises(UserError, match=r"of shape \(2, 3, 8, 8\), not \(number, 1, height"):
            bench.load(np.zeros((2, 3, 8, 8)))
    finally:
        config.update("jaxtyping_disable", False)


def test_names_are_loaded_when_they_are_asked_for() -> None:
    code = (
        "import sys, reconbench; heavy = ('torch', 'ray', 'streamlit', 'pandas');"
        "print([m for m in heavy if m in sys.modules]);"
        "import bench; reconbench.fit, reconbench.open_run;"
        "import reconbench.physics; assert reconbench.physics is bench.physics;"
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["[]", "['torch', 'pandas']"]


def test_other_modules_of_our_names_do_not_hide_ours(tmp_path: Path) -> None:
    for name in ("bench", "dashboard", "search_spaces"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('this is the user\\'s own')\n")
    shown = subprocess.run(
        [sys.executable, "-m", "reconbench", "degradations"], cwd=tmp_path, text=True,
        capture_output=True, check=False, env={"PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "gaussian_noise" in shown.stdout
