import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rice

from bench import physics
from bench.contracts.base import outcomes
from bench.contracts.degradation import Degradation
from bench.errors import UserError
from bench.physics import Physics
from bench.seeds import derive_seed

# Every degradation, and every option that changes its operator.
OPERATORS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "gaussian_noise": ("gaussian_noise", 0.1, {}),
    "gaussian_noise clipped": ("gaussian_noise", 0.1, {"clip": True}),
    "rician_noise": ("rician_noise", 0.01, {}),
    "poisson_noise": ("poisson_noise", 50.0, {}),
    "salt_pepper_noise": ("salt_pepper_noise", 0.1, {}),
    "gaussian_blur": ("gaussian_blur", 1.5, {}),
    "gaussian_blur wide": ("gaussian_blur", 9.0, {}),
    "gaussian_blur 15x15": ("gaussian_blur", 2.6, {"kernel_size": 15}),
    "motion_blur": ("motion_blur", 5.0, {}),
    "motion_blur oblique": ("motion_blur", 7.3, {"angle": 30.0}),
    "super_resolution bicubic": ("super_resolution", 2, {"noise_variance": 1e-4}),
    "super_resolution area": ("super_resolution", 4, {"downsampler": "area"}),
    "super_resolution kspace_crop": ("super_resolution", 4, {"downsampler": "kspace_crop"}),
    "mri_cartesian equispaced": ("mri_cartesian", 2.0, {"mask": "equispaced"}),
    "mri_cartesian random": ("mri_cartesian", 3.0, {"mask": "random"}),
    "mri_cartesian gaussian1d": ("mri_cartesian", 2.0, {"mask": "gaussian1d"}),
    "mri_cartesian gaussian2d": ("mri_cartesian", 6.667, {"mask": "gaussian2d"}),
    "mri_cartesian poisson_disc": ("mri_cartesian", 4.0, {"mask": "poisson_disc"}),
    "mri_cartesian coils": ("mri_cartesian", 4.0, {"coils": 5}),
    "mri_radial": ("mri_radial", 9, {}),
    "mri_radial coils": ("mri_radial", 9, {"coils": 3}),
    "mri_spiral": ("mri_spiral", 2.0, {}),
    "mri_spiral one": ("mri_spiral", 3.0, {"interleaves": 1, "density_power": 1.0, "coils": 2}),
    "ct_sparse_view": ("ct_sparse_view", 17, {}),
    "ct_low_dose": ("ct_low_dose", 1e4, {"views": 30}),
    "chain": ("chain", 0.05, {}),
    "chain to k-space": (
        "chain",
        4.0,
        {
            "steps": [
                {"name": "motion_blur", "level": 3},
                {"name": "super_resolution", "level": 2},
                {"name": "mri_cartesian"},
            ]
        },
    ),
}
SIZES = [(16, 16), (15, 15), (16, 21), (33, 20)]
every_operator = pytest.mark.parametrize("case", OPERATORS)


def build(case: str, size: int | tuple[int, int]) -> Physics:
    name, level, options = OPERATORS[case]
    return physics.create(name, level, size, **options)


def images(n: int, height: int = 24, width: int = 24) -> torch.Tensor:
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_every_degradation_is_tested_here() -> None:
    """But `paired`, which simulates nothing: see `test_pairs.py`."""
    assert set(physics.names()) - {"paired"} == {name for name, _, _ in OPERATORS.values()}


def test_noise_is_seeded_by_the_name_that_a_class_states() -> None:
    """With another name every measurement of earlier runs would be another."""
    for name, _, _ in OPERATORS.values():
        assert vars(physics.find(name))["name"] == name

    class Mine(physics.find("gaussian_noise")):
        pass

    x = images(1)
    seed = derive_seed("noise", "gaussian_noise", "0.1", "a")
    noise = torch.randn(1, 24, 24, generator=torch.Generator().manual_seed(seed))
    y = physics.create("gaussian_noise", 0.1, 24).measure(x, ["a"])
    torch.testing.assert_close(y[0], x[0] + 0.1**0.5 * noise)
    assert Mine.name == "Mine"
    assert not torch.equal(Mine(0.1, 24).measure(x, ["a"]), y)


@every_operator
@pytest.mark.parametrize("size", SIZES)
def test_every_operator_keeps_the_contract(case: str, size: tuple[int, int]) -> None:
    name, level, options = OPERATORS[case]
    found = list(outcomes(case, Degradation(name, level, size, **options).checks()))
    assert not [str(one) for one in found if one.result == "failed"]
    assert sum(one.result == "passed" for one in found) >= 9


@every_operator
def test_the_estimate_is_an_image_and_better_than_nothing(case: str) -> None:
    operator = build(case, (36, 30))
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, 36), torch.linspace(-1, 1, 30), indexing="ij"
    )
    x = torch.exp(-4 * (rows**2 + columns**2))[None, None]
    estimate = operator.A_dagger(operator.measure(x, ["a"]))
    assert estimate.shape == x.shape
    assert estimate.dtype == torch.float32
    assert (estimate - x).norm() < 1.2 * x.norm()


@every_operator
def test_autocast_leaves_operators_alone(case: str) -> None:
    operator = build(case, 16)
    x = images(2, 16, 16)
    y = operator.A(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(operator.A(x), y)
        inside = operator.A_dagger(y)
    assert torch.equal(inside, operator.A_dagger(y))


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
