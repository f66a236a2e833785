"""What a physics says of its noise, against y - A x of images that it has not seen."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

import search_spaces
from bench import data, methods, metrics, physics
from bench.spec import DatasetSpec

SIZE = 48
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in physics.names()),
    ("gaussian_noise", {"clip": True}),
    ("super_resolution", {"noise_variance": 0.01}),
    ("mri_cartesian", {"coils": 2, "mask": "gaussian2d"}),
    (
        "chain",
        {
            "steps": [
                {"name": "gaussian_noise", "clip": True},
                {"name": "poisson_noise", "level": 50},
            ]
        },
    ),
    ("chain", {"steps": [{"name": "rician_noise"}, {"name": "mri_cartesian", "level": 4}]}),
]  # fmt: skip


@pytest.fixture(scope="module")
def heads() -> Float[Tensor, "n 1 h w"]:
    """Slices of the template, in an order that has nothing to do with their places in it."""
    images = torch.from_numpy(data.load(DatasetSpec(image_size=SIZE)).images)
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


def simulated(operator: physics.Physics, x: Float[Tensor, "n 1 h w"]) -> float:
    """Measure the noise of many images, at the positions that are measured."""
    noise = operator.measure(x, [f"other {k}" for k in range(len(x))]) - operator.A(x)
    last = operator.steps[-1] if hasattr(operator, "steps") else operator
    if last.mask is not None and noise.shape[-2:] == last.mask.shape[-2:]:
        noise = noise[..., last.mask[0, 0]]
    if noise.is_complex():
        noise = torch.view_as_real(noise)
    return float(noise.double().square().mean()) ** 0.5


def agrees(operator: physics.Physics, heads: Float[Tensor, "n 1 h w"]) -> None:
    wanted = simulated(operator, heads[16:80])
    assert operator.noise_std == pytest.approx(wanted, rel=0.25)
    operator.observe(heads[:16], [f"seen {k}" for k in range(16)])
    assert operator.noise_std == pytest.approx(wanted, rel=0.25)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_physics_knows_its_noise(name: str, options: dict, place: int, heads) -> None:
    operator = physics.create(name, physics.find(name).presets[place], SIZE, **options)
    agrees(operator, heads)


IN_THE_IMAGE_DOMAIN = {
    "gaussian_noise": st.floats(1e-4, 0.5),
    "rician_noise": st.floats(1e-4, 0.1),
    "poisson_noise": st.floats(5, 1e4),
    "salt_pepper_noise": st.floats(0.01, 0.5),
    "gaussian_blur": st.floats(0.5, 3),
    "motion_blur": st.integers(3, 9),
    "super_resolution": st.sampled_from([2, 3]),
}
LAST = {
    "mri_cartesian": st.floats(2, 8),
    "mri_radial": st.integers(10, 40),
    "ct_sparse_view": st.integers(20, 60),
    "ct_low_dose": st.floats(1e3, 1e6),
}


def steps(kinds: dict) -> st.SearchStrategy[dict]:
    return st.sampled_from(sorted(kinds)).flatmap(
        lambda name: st.fixed_dictionaries({"name": st.just(name), "level": kinds[name]})
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(steps(IN_THE_IMAGE_DOMAIN), min_size=1, max_size=3),
    steps({**IN_THE_IMAGE_DOMAIN, **LAST}),
)
def test_so_does_any_chain(heads, first: list[dict], last: dict) -> None:
    every = [*first, last]
    # Of fewer pixels too little is left to estimate the noise from.
    assume([step["name"] for step in every].count("super_resolution") < 2)
    level = every[0].pop("level")
    agrees(physics.create("chain", level, SIZE, steps=every), heads)


def test_noise_before_downsampling_is_what_is_left_of_it(heads) -> None:
    """White noise of variance s^2 becomes noise of s^2 |row|^2 |column|^2, rows of the matrix."""
    chain = physics.create(
        "chain", 0.05, SIZE,
        steps=[{"name": "gaussian_noise"}, {"name": "super_resolution", "level": 2}],
    )  # fmt: skip
    row = chain.steps[1]._matrix(SIZE).square().sum(1)
    assert chain.noise_std == pytest.approx(0.05**0.5 * float(row.mean()), rel=0.05)
    assert chain.noise_std == pytest.approx(0.091, abs=0.003)


def test_white_noise_is_told_exactly(heads) -> None:
    operator = physics.create("gaussian_noise", 0.04, SIZE)
    operator.observe(heads[:2], ["a", "b"])
    assert operator.noise_std == 0.2


TUNED = [
    ("gaussian_noise", 0.0001, {}),
    ("gaussian_noise", 0.5, {"clip": True}),
    ("poisson_noise", 1000, {}),
    ("rician_noise", 0.001, {}),
    ("salt_pepper_noise", 0.5, {}),
    ("super_resolution", 2, {"noise_variance": 0.01}),
    ("motion_blur", 15, {}),
    ("gaussian_blur", 1, {}),
    ("mri_cartesian", 8, {}),
    ("ct_low_dose", 1e3, {}),
    (
        "chain",
        0.05,
        {"steps": [{"name": "gaussian_noise"}, {"name": "super_resolution", "level": 2}]},
    ),
    ("chain", 20, {"steps": [{"name": "poisson_noise"}, {"name": "motion_blur", "level": 7}]}),
]  # fmt: skip
SLOW = {"dip_tv"}
FEWER: dict[str, dict[str, Any]] = {"pnp": {"steps": 3}}


@pytest.mark.parametrize(("name", "level", "options"), TUNED)
def test_a_method_within_its_ranges_can_be_as_good_as_its_starting_point(
    name: str, level: float, options: dict, heads
) -> None:
    """Some of the defaults and the ends of each range is enough for each method."""
    operator = physics.create(name, level, SIZE, **options)
    operator.observe(heads[:16], [f"seen {k}" for k in range(16)])
    x = heads[16:18]
    y = operator.measure(x, ["a", "b"])

    def psnr(image: Tensor) -> float:
        return metrics.evaluate(image.clamp(0, 1), x)["psnr"].mean().item()

    start = psnr(operator.A_dagger(y))
    for method in methods.names("classical"):
        found = methods.find(method)
        space = found.space()
        if method in SLOW or not space or found.missing_extra or not found.supports(name):
            continue
        reached = (
            psnr(methods.create(method, operator, **one, **FEWER.get(method, {}))(y, operator))
            for one in tried(space)
        )
        assert any(value > start - 0.01 for value in reached), method


def tried(space: search_spaces.Space) -> Iterator[dict[str, Any]]:
    """Yield the defaults, then these with one parameter at an end of its range or chosen anew."""
    usual = search_spaces.defaults(space)
    yield usual
    for key, entry in space.items():
        for value in entry.get("choices") or (entry["low"], entry["high"]):
            yield {**usual, key: value}


@pytest.mark.parametrize("name", ["gaussian_noise", "poisson_noise", "chain"])
def test_what_was_observed_of_the_noise_is_restored_from_json(name: str) -> None:
    level = physics.find(name).presets[1]
    x = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) / 2
    seen, fresh = (physics.create(name, level, SIZE) for _ in range(2))
    seen.observe(x, ["a", "b", "c"])
    if name != "gaussian_noise":
        assert fresh.noise_std != seen.noise_std  # that of a phantom
    fresh.restore_noise(json.loads(json.dumps(seen.observed_noise())))
    assert fresh.noise_std == seen.noise_std
    for one, other in zip(getattr(fresh, "steps", []), getattr(seen, "steps", []), strict=True):
        assert one.total_noise_variance == other.total_noise_variance
