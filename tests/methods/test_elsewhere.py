"""Networks of a user's own package, and models in the two shapes that DeepInverse's have."""

from pathlib import Path

import pytest
import torch

import search_spaces
from bench import methods, physics, training
from bench.data import ImageSet
from bench.errors import UserError
from bench.spec import Budget

PACKAGE = '''
import torch
from torch import nn


class Plain(nn.Module):
    """A network of an image, as most are."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1)
        )

    def forward(self, x):
        assert x.shape[-1] % 8 == 0, "three poolings need multiples of 8"
        return self.layers(x)


class Denoiser(Plain):
    """The shape of deepinv.models.DnCNN, DRUNet, ...: an image and its noise level."""

    search_space = {"width": {"choices": [4, 8], "default": 8}}

    def forward(self, x, sigma=None):
        self.seen = sigma
        return x - self.layers(x)


class Reconstructor(nn.Module):
    """The shape of deepinv.models.ArtifactRemoval, MoDL, RAM: measurements and physics."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, y, physics, **more):
        return self.backbone(physics.A_adjoint(y))


def artifact_removal(width: int = 8):
    """A model that takes another as its argument is built by a function."""
    return Reconstructor(Denoiser(width))
'''


def smooth(n: int) -> ImageSet:
    noise = torch.rand(n, 1, 27, 27, generator=torch.Generator().manual_seed(n))
    images = torch.nn.functional.avg_pool2d(noise, 5, stride=1)
    ids = [f"{n}.{i}" for i in range(n)]
    return ImageSet(images.numpy(), ids, ids)


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg" / "__init__.py").write_text("")
    (tmp_path / "my_pkg" / "models.py").write_text(PACKAGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_pkg", "my_pkg.models"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)


@pytest.mark.parametrize("name", ["Plain", "Denoiser", "artifact_removal"])
def test_it_is_trained_like_ours(name: str) -> None:
    path = f"my_pkg.models:{name}"
    operator = physics.create("gaussian_noise", 0.05, 23)
    space = methods.find(path).space()
    config = {**search_spaces.defaults(space), "lr": 3e-3, "width": 8}
    budget = Budget(steps=60, batch_size=4, reports=2)
    fit = training.fit(path, config, smooth(6), smooth(3), operator, budget, 0, precision="fp32")
    assert methods.find(path).learned
    assert fit.psnr > 16  # the noisy image has 13 dB
    assert fit.parameters == (9 * 8 + 8) + (9 * 8 + 1)


def test_its_search_space_is_its_own_or_that_of_its_training() -> None:
    assert set(methods.find("my_pkg.models:Denoiser").space()) == {"width"}
    assert "lr" in methods.find("my_pkg.models:Plain").space()


def test_a_denoiser_is_told_the_noise() -> None:
    model = methods.create("my_pkg.models:Denoiser")
    operator = physics.create("gaussian_noise", 0.04, 23)
    y = operator.measure(torch.tensor(smooth(2).images), ["a", "b"])
    assert model(y, operator).shape == y.shape
    assert model.model.seen == pytest.approx(0.2)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"my_pkg\.models:Nothing: cannot be imported"):
        training.check("my_pkg.models:Nothing", {})
    with pytest.raises(UserError, match="did you mean 'width'"):
        training.check("my_pkg.models:artifact_removal", {"widht": 4})
