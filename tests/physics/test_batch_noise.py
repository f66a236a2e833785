"""Noise of training batches: drawn at once, the same for any number of workers, as strong."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from bench import physics
from bench.physics import BatchNoise, MRICartesian, NoiseLevels, Physics
from bench.physics.gaussian_noise import GaussianNoise

CASES: list[tuple[str, float, dict[str, Any]]] = [
    ("gaussian_noise", 0.05, {}),
    ("rician_noise", 0.05, {}),
    ("poisson_noise", 20, {}),
    ("salt_pepper_noise", 0.2, {}),
    ("gaussian_blur", 1, {"noise_variance": 0.01}),
    ("mri_cartesian", 2, {"coils": 2, "complex": True, "noise_variance": 0.01}),
    ("mri_radial", 6, {"complex": True, "noise_variance": 0.01}),
    ("ct_low_dose", 50, {"views": 12}),
    ("chain", 0.2, {}),
]
X = torch.rand(6, 1, 16, 12, generator=torch.Generator().manual_seed(0))
IDS = list("abcdef")


def noise(seed: int = 0, total: int = 6, mine: slice = slice(None)) -> BatchNoise:
    return BatchNoise(seed, total, mine)


@pytest.mark.parametrize(("name", "level", "options"), CASES, ids=[case[0] for case in CASES])
def test_workers_that_share_a_batch_see_its_noise(name: str, level: float, options: dict) -> None:
    operator = physics.create(name, level, (16, 12), **options)
    whole = operator.measure_batch(X, IDS, noise())
    torch.rand(3)  # somebody else's draws
    assert torch.equal(whole, operator.measure_batch(X, IDS, noise()))
    assert not torch.equal(whole, operator.measure_batch(X, IDS, noise(seed=1)))
    for rank in range(2):
        mine = slice(rank, None, 2)
        part = operator.measure_batch(X[mine], IDS[mine], noise(mine=mine))
        torch.testing.assert_close(part, whole[mine], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "level", "options"), CASES, ids=[case[0] for case in CASES])
def test_it_is_the_noise_of_validation_images(name: str, level: float, options: dict) -> None:
    """One image many times over: mean and spread at each pixel, over all draws."""
    count = 400
    operator = physics.create(name, level, (16, 12), **options)
    x = X[:1].expand(count, -1, -1, -1)
    ids = [str(k) for k in range(count)]
    found, wanted = (
        torch.view_as_real(y).flatten(1) if y.is_complex() else y.flatten(1)
        for y in (operator.measure_batch(x, ids, noise(total=count)), operator.measure(x, ids))
    )
    scale = wanted.std(0).mean()
    assert scale > 0
    assert (found.mean(0) - wanted.mean(0)).abs().mean() < 0.15 * scale
    assert found.std(0).mean() == pytest.approx(float(scale), rel=0.05)
    # Neighbouring images, and neighbouring values, are drawn apart.
    assert len(found.unique(dim=0)) == count


def test_levels_of_a_denoiser_vary_from_image_to_image() -> None:
    y = NoiseLevels((16, 12)).measure_batch(X, IDS, noise())
    assert y.shape == (6, 2, 16, 12)
    levels = y[:, 1, 0, 0]
    assert len(levels.unique()) == 6
    spread = (y[:, :1] - X).flatten(1).std(1)
    torch.testing.assert_close(spread, levels, rtol=0.25, atol=0)


class Old(GaussianNoise):
    """A user's class of before: it takes a generator for each image."""

    def add_noise(self, y: torch.Tensor, noise: Sequence[torch.Generator]) -> torch.Tensor:
        draws = [torch.poisson(torch.ones(y.shape[1:]), noise[k]) for k in range(len(y))]
        assert len(draws) == len(list(noise))
        return y + torch.stack(draws)


class OwnMeasure(GaussianNoise):
    """A user's class that measures by itself."""

    def measure(self, x: torch.Tensor, ids: Sequence[str]) -> torch.Tensor:
        return x + torch.tensor([float(ord(name)) for name in ids]).view(-1, 1, 1, 1)


class OwnCoils(MRICartesian):
    """One that measures by itself, but extends a class that knows of batches."""

    def measure(self, x: torch.Tensor, ids: Sequence[str]) -> torch.Tensor:
        return 2 * super().measure(x, ids)


def test_classes_of_users_need_not_know_of_it() -> None:
    operator: Physics = Old(0.1, (16, 12))
    whole = operator.measure_batch(X, IDS, noise())
    assert torch.equal(whole, operator.measure_batch(X, IDS, noise()))
    part = operator.measure_batch(X[1::2], IDS[1::2], noise(mine=slice(1, None, 2)))
    assert torch.equal(part, whole[1::2])
    assert len((whole - X).flatten(1).unique(dim=0)) == 6
    for own in (OwnMeasure(0.1, (16, 12)), OwnCoils(2.0, (16, 12))):
        assert torch.equal(own.measure_batch(X, IDS, noise()), own.measure(X, IDS))
