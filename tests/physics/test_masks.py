import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from bench import physics
from bench.errors import UserError
from bench.physics._masks import sample
from bench.physics.mri_cartesian import MRICartesian

LINES = ["equispaced", "random", "gaussian1d"]
POINTS = ["gaussian2d", "poisson_disc"]


@settings(max_examples=60, deadline=None)
@given(
    pattern=st.sampled_from(LINES + POINTS),
    shape=st.tuples(st.integers(20, 70), st.integers(20, 70)),
    acceleration=st.floats(1.5, 8),
)
def test_acceleration_and_centre_are_those_asked_for(
    pattern: str, shape: tuple[int, int], acceleration: float
) -> None:
    fraction = 0.32 / acceleration
    mask = sample(pattern, shape, acceleration, fraction).numpy()
    assert mask.shape == shape
    if pattern in LINES:
        assert (mask == mask[0]).all()
        chosen, width = mask[0], shape[1]
        assert chosen.sum() == round(width / acceleration)
        sides = [round(width * fraction)]
        middles = [chosen[width // 2 - sides[0] // 2 :][: sides[0]]]
    else:
        assert mask.sum() == round(shape[0] * shape[1] / acceleration)
        sides = [round(n * fraction**0.5) for n in shape]
        rows, columns = (
            slice(n // 2 - side // 2, n // 2 - side // 2 + side)
            for n, side in zip(shape, sides, strict=True)
        )
        middles = [mask[rows, columns]]
        # Rounding each side to whole positions moves the area by a little.
        assert middles[0].size / mask.size == pytest.approx(fraction, rel=0.35)
    assert all(middle.all() for middle in middles)


def test_uniform_pattern_of_recon_resnet_is_every_fourth_line() -> None:
    mask = sample("equispaced", (256, 256), 4.0, 0.0)[0]
    assert torch.equal(torch.nonzero(mask)[:, 0], torch.arange(0, 256, 4))
    assert mask[128]


@pytest.mark.parametrize("percent", [5, 10, 15, 30])
@pytest.mark.parametrize("pattern", ["gaussian1d", "gaussian2d"])
def test_variable_density_patterns_of_recon_resnet(pattern: str, percent: int) -> None:
    operator = physics.create("mri_cartesian", 100 / percent, 256, mask=pattern)
    assert operator.mask.double().mean().item() == pytest.approx(percent / 100, abs=0.002)


@pytest.mark.parametrize("pattern", ["gaussian1d", "gaussian2d", "poisson_disc"])
def test_variable_density_falls_outwards(pattern: str) -> None:
    mask = sample(pattern, (128, 128), 4.0, 0.02).numpy()
    radius = np.hypot(*(np.mgrid[:128, :128] - 64)) if pattern in POINTS else None
    if radius is None:
        radius = np.broadcast_to(abs(np.arange(128) - 64.0), mask.shape)
    inner, outer = mask[(radius > 12) & (radius < 30)], mask[(radius > 40) & (radius < 64)]
    assert inner.mean() > 1.5 * outer.mean()


def test_poisson_discs_keep_their_distance_as_sigpys_do() -> None:
    from sigpy.mri import poisson

    ours = sample("poisson_disc", (128, 128), 6.0, 0.01).numpy()
    theirs = poisson((128, 128), 6, calib=(12, 12), seed=0, crop_corner=False).real > 0
    chance = np.random.default_rng(0).permutation(ours.ravel()).reshape(ours.shape)

    def crowding(mask: np.ndarray) -> float:
        points = np.argwhere(mask)
        outside = points[np.hypot(*(points - 64).T) > 40]
        distance = KDTree(points).query(outside, k=2)[0][:, 1]
        return float((distance < 2).mean())

    assert crowding(ours) < 0.15
    assert crowding(theirs) < 0.15
    assert crowding(chance) > 0.5
    radius = np.hypot(*(np.mgrid[:128, :128] - 64))
    for low, high in ((10, 30), (30, 50), (50, 64)):
        ring = (radius >= low) & (radius < high)
        assert ours[ring].mean() == pytest.approx(theirs[ring].mean(), rel=0.25)


def test_nothing_is_left_of_what_is_not_measured() -> None:
    operator = physics.create("mri_cartesian", 4, 32, noise_variance=0.01)
    y = operator.measure(torch.rand(2, 1, 32, 32), ["a", "b"])
    missing = torch.view_as_real(y[~operator.mask.expand_as(y)])
    assert (missing == 0).all()
    assert not torch.signbit(missing).any()


def test_a_centre_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UserError, match=r"acceleration 8 leaves 8 of 64 lines.*centre has 32"):
        physics.create("mri_cartesian", 8, 64, centre_fraction=0.5)
    with pytest.raises(UserError, match="mask: Input should be 'equispaced'"):
        physics.create("mri_cartesian", 8, 64, mask="equispacd")


def test_masks_differ_between_tasks_but_not_between_builds() -> None:
    first, again, other = (
        physics.create("mri_cartesian", level, 64, mask="random").mask for level in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert isinstance(physics.create("mri_cartesian", 4, 64), MRICartesian)
