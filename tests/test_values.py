"""Every value that a benchmark file may give to a method, its training or a degradation."""

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from benchmark_files import configurations, schemas
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import methods, physics, training
from bench.errors import UserError
from bench.methods import losses
from bench.options import checked_options
from bench.physics import Physics
from bench.training import Recipe
from bench.training.job import split_config

LEARNED = methods.names("learned")
SIZE = 16  # the least that a benchmark file may ask for


def owners() -> Iterator[Any]:
    for name in methods.names():
        yield pytest.param(name, methods.METHODS.find(name), methods.METHODS.reserved, id=name)
    for name in physics.names():
        yield pytest.param(
            name, physics.find(name), (*physics.DEGRADATIONS.reserved, "steps"), id=name
        )
    yield pytest.param("unet", Recipe, (), id="recipe")


def refuse(name: str, target: Any, config: dict[str, Any]) -> str:
    """Return the line that refuses a configuration."""
    with pytest.raises(UserError) as caught:
        if isinstance(target, type) and issubclass(target, Physics):
            physics.create(name, target.presets[1], 64, **config)
        else:
            training.check(name, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def wrong_for(schema: dict[str, Any]) -> list[Any]:
    """List values that a schema does not allow."""
    options = schema.get("anyOf", [schema])
    kinds = {option.get("type") for option in options} | {"enum" in o for o in options}
    wrong: list[Any] = [[1], {"a": 1}, b"\xff"]
    if "null" not in kinds:
        wrong.append(None)
    if "boolean" not in kinds:
        wrong += [True, False]
    if kinds & {"integer", "number"}:
        wrong += [math.nan, "abc", "", 10**400]
    if "integer" in kinds:
        wrong += [1.5, math.inf]
    for option in options:
        step = 1 if option.get("type") == "integer" else 1e-6
        for key, sign in (("minimum", -1), ("maximum", 1)):
            if key in option:
                wrong.append(option[key] + sign * step)
        wrong += [option[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in option]
        wrong += ["instanse", 7.5] if "enum" in option else []
        wrong += ["4-x", "", "0-1", "-1"] if "pattern" in option else []
    return wrong


@pytest.mark.parametrize(("name", "target", "reserved"), list(owners()))
def test_every_option_refuses_what_its_type_does_not_allow(
    name: str, target: Any, reserved: tuple[str, ...]
) -> None:
    for key, schema in schemas(target, reserved).items():
        for value in wrong_for(schema):
            assert key in refuse(name, target, {key: value}), (key, value)


@pytest.mark.parametrize(("name", "target", "reserved"), list(owners()))
def test_every_number_has_a_range(name: str, target: Any, reserved: tuple[str, ...]) -> None:
    free = {"clip_norm", "noise_variance", "angle"}  # any number above 0, or at all, has a meaning
    for key, schema in schemas(target, reserved).items():
        for option in schema.get("anyOf", [schema]):
            if option.get("type") in ("integer", "number") and key not in free:
                assert {"minimum", "exclusiveMinimum"} & option.keys(), key
                assert {"maximum", "exclusiveMaximum"} & option.keys() or "enum" in option, key


@pytest.mark.parametrize("name", methods.names())
def test_what_a_sweep_may_give_is_allowed(name: str) -> None:
    training.check_space(name, {"perceptual": "none"} if name in LEARNED else {})


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("unet", {"norm": "instanse"}, "unet.norm: Input should be 'instance', 'batch' or 'none'"),
        ("tv", {"weight": -7}, "tv.weight: Input should be greater than or equal to"),
        ("pnp", {"denoiser": "abc"}, "pnp.denoiser: Input should be 'nlm' or 'wavelet'"),
        ("unet", {"ema": 2}, "unet.ema: Input should be less than 1 (given: 2)"),
        ("unet", {"loss": 5}, "unet.loss: Input should be a valid string"),
        ("unet", {"loss": "0 mse"}, "loss: 0 mse: a weight is above 0 and finite"),
        ("unet", {"loss": "1e999 mse"}, "a weight is above 0"),
        ("unet", {"loss": "perceptual", "perceptual": "none"}, "nothing is left"),
        ("wavelet", {"wavelet": "hair"}, "wavelet.wavelet: not a discrete wavelet"),
        ("wavelet_cs", {"wavelet": "bior2.2"}, "wavelet_cs.wavelet: not an orthogonal wavelet"),
        ("unet", {"preset": ["x"]}, "unknown preset of unet"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_right(name: str, config: dict, says: str) -> None:
    assert says in refuse(name, methods.METHODS.find(name), config)


def test_a_network_that_no_memory_holds_is_refused_without_being_made() -> None:
    with pytest.raises(UserError, match=r"unet: [\d,]+ parameters are more than 1,000,000,000"):
        training.check_build("unet", {"width": 1024, "depth": 8})


def test_numbers_as_text_become_numbers() -> None:
    recipe, own = split_config(
        methods.find("unet"), {"lr": "1e-3", "width": "12", "residual": True}
    )
    assert (recipe.lr, own) == (1e-3, {"width": 12, "residual": True})
    assert methods.create("tv", weight="0.5").weight == 0.5


FOREIGN = """
class Plain:
    def __init__(self, width, depth: "int" = None, kind: "Unknown" = 1, ratio: float = 1.0):
        pass

class Typed:
    def __init__(self, width: int = 8, depth: int = None, callback: "list[int] | None" = None):
        pass
"""


def test_a_class_from_elsewhere_is_judged_by_what_it_says() -> None:
    space: dict[str, Any] = {}
    exec(FOREIGN, space)
    plain, typed = space["Plain"], space["Typed"]
    anything = {"width": object(), "depth": "x", "kind": [1]}
    assert checked_options("Plain", plain, anything) == anything
    assert checked_options("Typed", typed, {"depth": None}) == {"depth": None}
    for wrong in ({"width": "x"}, {"width": True}, {"callback": [1, "a"]}):
        with pytest.raises(UserError, match=rf"Typed\.{next(iter(wrong))}: "):
            checked_options("Typed", typed, wrong)


def test_the_search_space_of_a_class_from_elsewhere_is_checked_too(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_models.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Identity):\n"
        "    search_space = {'width': {'choices': [4, 'x'], 'default': 4}}\n"
        "    def __init__(self, width: int = 4): super().__init__()\n"
        "class Odd(nn.Identity):\n"
        "    search_space = {'width': 3}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"width: Input should be a valid integer.*\(given: 'x'\)"):
        training.check_space("odd_models:Net", {})
    with pytest.raises(UserError, match=r"odd_models:Odd: 'width' needs choices or low and high"):
        training.check_space("odd_models:Odd", {})


OPERATORS = [
    physics.create("gaussian_noise", 0.1, SIZE),
    physics.create("gaussian_blur", 1.0, SIZE),
    physics.create("super_resolution", 2, SIZE),
    physics.create("mri_cartesian", 4, SIZE),
    physics.create("ct_sparse_view", 8, SIZE),
]
X = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
X = torch.nn.functional.interpolate(X, size=(SIZE, SIZE), mode="bilinear")


INSTALLED = [name for name in methods.names() if methods.find(name).missing_extra is None]


@pytest.mark.parametrize("name", INSTALLED)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_is_allowed_runs(name: str, data: st.DataObject) -> None:
    config = data.draw(configurations(name))
    training.check(name, {**config, "perceptual": "none"} if name in LEARNED else config)
    operator = next(o for o in OPERATORS if methods.find(name).supports(o.name))
    model = methods.create(name, operator, **config)
    methods.prepare(model, X, operator, ["a", "b"])
    x_hat = training.reconstruct(model, operator.measure(X, ["a", "b"]), operator)
    assert x_hat.shape == X.shape
    assert torch.isfinite(x_hat).all()


def test_every_loss_reads_as_it_is_written() -> None:
    assert losses.chosen("mse + 0.1 perceptual", "none") == {"mse": 1.0}
    assert get_origin(Recipe.__annotations__["optimiser"]) is Literal
    assert get_args(Recipe.__annotations__["optimiser"]) == ("adamw", "adam")
