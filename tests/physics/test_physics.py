import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rice

from bench import physics
from bench.errors import UserError

LEVELS = {
    "gaussian_noise": 0.1,
    "rician_noise": 0.01,
    "poisson_noise": 50.0,
    "salt_pepper_noise": 0.1,
}
SIZES = [(16, 16), (15, 15), (16, 21), (33, 20)]


def images(n: int, height: int = 24, width: int = 24) -> torch.Tensor:
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_every_degradation_is_tested_here() -> None:
    assert set(physics.names()) == set(LEVELS)


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("size", SIZES)
def test_adjoint(name: str, size: tuple[int, int]) -> None:
    operator = physics.create(name, LEVELS[name], size[0])
    x = images(2, *size)
    y = operator.A(torch.rand_like(x))
    left = (operator.A(x).conj() * y).sum().abs()
    right = (x * operator.A_adjoint(y)).sum().abs()
    assert abs(left - right) <= 1e-5 * operator.A(x).norm() * y.norm()


@pytest.mark.parametrize("name", LEVELS)
def test_a_measurement_depends_on_the_id_alone(name: str) -> None:
    operator = physics.create(name, LEVELS[name], 24)
    x, ids = images(5), list("abcde")
    together = operator.measure(x, ids)
    order = [3, 0, 4, 1, 2]
    shuffled = operator.measure(x[order], [ids[i] for i in order])
    alone = torch.cat([operator.measure(x[i : i + 1], [ids[i]]) for i in range(5)])
    torch.manual_seed(123)
    again = physics.create(name, LEVELS[name], 24).measure(x, ids)
    assert torch.equal(together[order], shuffled)
    assert torch.equal(together, alone)
    assert torch.equal(together, again)
    assert not torch.equal(operator.measure(x, list("fghij")), together)


@settings(max_examples=10, deadline=None)
@given(variance=st.floats(0.001, 2.0))
def test_noise_power_is_the_level(variance: float) -> None:
    x = images(8, 64, 64)
    y = physics.create("gaussian_noise", variance, 64).measure(x, [str(i) for i in range(8)])
    noise = y - x
    count = noise.numel()
    # A variance estimated from n normal samples has a relative standard error of sqrt(2 / n).
    assert noise.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / count))
    assert abs(noise.mean().item()) < 5 * math.sqrt(variance / count)


def test_clipping() -> None:
    x, ids = images(2), ["a", "b"]
    free = physics.create("gaussian_noise", 0.5, 24).measure(x, ids)
    clipped = physics.create("gaussian_noise", 0.5, 24, clip=True).measure(x, ids)
    assert torch.equal(clipped, free.clamp(0, 1))
    assert free.min() < 0 < 1 < free.max()


@pytest.mark.parametrize("level", [0.0, -0.1, 11.0, math.nan, math.inf])
def test_level_out_of_range(level: float) -> None:
    with pytest.raises(UserError, match=r"gaussian_noise: level .* noise variance"):
        physics.create("gaussian_noise", level, 24)


def test_misspelt() -> None:
    with pytest.raises(UserError, match="did you mean 'gaussian_noise'"):
        physics.create("gausian_noise", 0.1, 24)
    with pytest.raises(UserError, match="did you mean 'clip'"):
        physics.create("gaussian_noise", 0.1, 24, clp=True)


@pytest.mark.parametrize("name", LEVELS)
def test_levels_are_stated_and_kept(name: str) -> None:
    kind = physics.find(name)
    low, high = kind.levels
    assert all(low <= preset <= high for preset in kind.presets)
    with pytest.raises(UserError, match=kind.unit.split()[0]):
        physics.create(name, high * 1.01, 24)


def test_rician_noise_has_the_moments_of_the_rice_distribution() -> None:
    variance, signal = 0.04, 0.3
    x = torch.full((4, 1, 128, 128), signal)
    y = physics.create("rician_noise", variance, 128).measure(x, list("abcd")).double()
    expected = rice(signal / variance**0.5, scale=variance**0.5)
    assert y.mean().item() == pytest.approx(expected.mean(), rel=0.01)
    assert y.var().item() == pytest.approx(expected.var(), rel=0.03)


def test_photons_are_counted() -> None:
    photons, signal = 40.0, 0.6
    x = torch.full((4, 1, 128, 128), signal)
    y = physics.create("poisson_noise", photons, 128).measure(x, list("abcd")).double()
    counts = y * photons
    torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)
    assert counts.mean().item() == pytest.approx(photons * signal, rel=0.01)
    assert counts.var().item() == pytest.approx(photons * signal, rel=0.03)
    black = torch.zeros(1, 1, 8, 8)
    assert torch.equal(physics.create("poisson_noise", photons, 8).measure(black, ["a"]), black)


@pytest.mark.parametrize("fraction", [0.05, 0.3])
def test_salt_and_pepper_replace_the_asked_for_fraction(fraction: float) -> None:
    x = torch.full((4, 1, 128, 128), 0.5)
    y = physics.create("salt_pepper_noise", fraction, 128).measure(x, list("abcd"))
    tolerance = 5 * math.sqrt(fraction / x.numel())
    for value in (0.0, 1.0):
        assert (y == value).double().mean().item() == pytest.approx(fraction / 2, abs=tolerance)
    assert set(y.unique().tolist()) == {0.0, 0.5, 1.0}


def test_as_many_ids_as_images() -> None:
    with pytest.raises(ValueError, match="2 images but 1 ids"):
        physics.create("gaussian_noise", 0.1, 24).measure(images(2), ["a"])
