"""Filters fitted in closed form: they are the least-squares ones, and they help on other images."""

import numpy as np
import pytest
import torch
from torch.nn.functional import pad, unfold

from bench import data, methods, physics
from bench.methods.fitted.stacked_cs import LEVELS, StackedCS, copies
from bench.spec import DatasetSpec


@pytest.fixture(scope="module")
def heads() -> tuple[torch.Tensor, torch.Tensor]:
    """Training and other slices, of other subjects."""
    images = data.load(DatasetSpec(source="template", image_size=32, subjects=18))
    split = data.split(images, 8, 2, 10)
    return torch.tensor(split.train.images), torch.tensor(split.test.images)


def psnr(x_hat: torch.Tensor, x: torch.Tensor) -> float:
    return float(-10 * (x_hat - x).square().mean((1, 2, 3)).log10().mean())


@pytest.mark.parametrize(
    ("name", "level", "options"),
    [
        ("gaussian_noise", 0.05, {}),
        ("mri_cartesian", 4, {"coils": 3}),
        ("ct_sparse_view", 20, {}),
    ],
)
def test_it_beats_the_tv_that_it_corrects_on_other_images(
    heads: tuple[torch.Tensor, torch.Tensor], name: str, level: float, options: dict
) -> None:
    train, test = heads
    operator = physics.create(name, level, 32, **options)
    y = operator.measure(test, [f"test {i}" for i in range(len(test))])
    best_tv = max(
        psnr(methods.create("tv", weight=float(weight))(y, operator), test)
        for weight in np.geomspace(0.2, 2, 5)
    )
    model = methods.create("stacked_cs")
    model.prepare(train, operator, [str(i) for i in range(len(train))])
    assert psnr(model(y, operator), test) > best_tv + 0.1


def test_the_filters_solve_their_least_squares_problem(
    heads: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Those of numpy's solver, with the penalty as further rows, for each context alone."""
    train, _ = heads
    ids = [str(i) for i in range(len(train))]
    operator = physics.create("gaussian_noise", 0.05, 32)
    model = StackedCS(patch=3, ridge=1.0, shrinkage=0.1)
    model.prepare(train, operator, ids)
    x, names = copies(train, ids)
    channels = model.channels(operator.measure(x, names), operator)
    columns = unfold(pad(channels, [1] * 4, mode="replicate"), 3).transpose(1, 2).flatten(0, 1)
    error = (x - channels[:, :1]).flatten()
    context = model.contexts(channels).flatten()
    power = float(columns.double().square().sum(0).mean())
    common = _ridge(columns, error, power)
    for number in range(LEVELS**2):
        mine = columns[context == number]
        rest = error[context == number] - mine @ torch.from_numpy(common).float()
        expected = common + _ridge(mine, rest, 0.1 * power / LEVELS**2)
        np.testing.assert_allclose(model.filters[number].flatten(), expected, atol=1e-3)


def _ridge(columns: torch.Tensor, target: torch.Tensor, weight: float) -> np.ndarray:
    size = columns.shape[1]
    rows = np.vstack([columns.double().numpy(), weight**0.5 * np.eye(size)])
    values = np.concatenate([target.double().numpy(), np.zeros(size)])
    return np.linalg.lstsq(rows, values, rcond=None)[0]


def test_contexts_are_about_equally_large(heads: tuple[torch.Tensor, torch.Tensor]) -> None:
    train, _ = heads
    operator = physics.create("mri_cartesian", 2, 32)
    ids = [str(i) for i in range(len(train))]
    model = methods.create("stacked_cs")
    model.prepare(train, operator, ids)
    found = model.contexts(model.channels(operator.measure(train, ids), operator))
    shares = found.flatten().bincount(minlength=LEVELS**2) / found.numel()
    assert shares.min() > 0.5 / LEVELS**2


def test_few_images_are_turned_and_mirrored_each_with_noise_of_its_own() -> None:
    images = torch.rand(3, 1, 8, 8)
    made, names = copies(images, list("abc"))
    assert len(made) == len(set(names)) == 3 * 8
    assert len({image.numpy().tobytes() for image in made}) == 24
    oblong, _ = copies(torch.rand(3, 1, 8, 6), list("abc"))
    assert oblong.shape == (12, 1, 8, 6)
    assert len(copies(torch.rand(200, 1, 4, 4), [str(i) for i in range(200)])[0]) == 200
