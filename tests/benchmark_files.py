"""Random benchmark files, right and wrong ones, made from the models and the constructors."""

from copy import deepcopy
from functools import cache
from typing import Any

from hypothesis import strategies as st
from pydantic import TypeAdapter

from bench import markup, methods, physics, rules, spec
from bench.data import reading, sources
from bench.errors import UserError
from bench.options import options_of, types_of
from bench.training import Recipe

METHODS = [name for name in methods.names() if name != "srgan_cbam"]  # whose weights are not here
SOURCES = sorted(sources.READERS.names())
WORDS = [
    "", ":", ":X", ".rel:x", "..:x", "a:b:c", "x.y:", "nowhere_at_all:Net", "os:path", "math:sqrt",
    "builtins:dict", "builtins:int", "exiting_module:Net", "raising_module:Net",
    "torch.nn:Identity", "auto", "none", "smoke", "paper", "tv", "unet", "gaussian_noise",
    "1e-3", "yes", "1:30", "0x10",
    "a\0b", "a\nb", "\x1b[31m", "x" * 5000, "/" + "y/" * 3000, "../..", "~", "{", "é" * 100, "%s",
]  # fmt: skip
JUNK = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from([None, True, False, 0, 1, -1, 2, 16, 64, 10**9, -(10**30), 10**400, 0.5]),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e-320, 1e308, -0.0]),
    st.sampled_from([[], {}, [[]], [None], {"": 1}, {"name": 1}, {1: 2}, [1, "a"], {"a": {}}]),
    # Not by a codec, of which hypothesis would try every character: that takes seconds.
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.integers(-5, 70),
    st.floats(-2, 70),
)  # fmt: skip


@cache
def schemas(target: Any, reserved: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each option of a class or function."""
    types = types_of(target)
    found = {name: types[name] for name in options_of(target, reserved)}
    return {name: TypeAdapter(kind._type).json_schema() for name, kind in found.items()}


def values_of(key: str, schema: dict[str, Any], dear: bool = False) -> st.SearchStrategy[Any]:
    """Draw values that a schema allows; cheap ones, unless nothing will be computed with them."""
    if "anyOf" in schema:
        return st.one_of(*(values_of(key, option, dear) for option in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer" if key in ("kernel_size", "mapping", "patch"):
            return st.sampled_from([1, 5, 15])
        case "integer":
            low, step = schema.get("minimum", 0), schema.get("multipleOf", 1)
            high = schema.get("maximum", 99)
            cheap = {"depth": 4, "width": 6}.get(key, 2)
            top = high if dear else min(high, max(low, cheap))
            return st.integers(low, top).map(lambda number: min(number * step, high // step * step))
        case "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum", -1e3))
            high = schema.get("maximum", schema.get("exclusiveMaximum", 1e3))
            return st.floats(
                low, high, exclude_min="exclusiveMinimum" in schema,
                exclude_max="exclusiveMaximum" in schema, allow_subnormal=False,
            )  # fmt: skip
    known = {
        "wavelet": ["haar", "db2", "db38", "sym4", "coif17", "dmey"],
        "encoder": ["1", "2-1", "1-1-1", "1-1-1-1"],
        "blocks": ["2-1", "1-1-1", "1-1-1-1"],
        "loss": ["mse", "l1 + 0.1 ms_ssim", "0.5 charbonnier + edge"],
    }
    return st.sampled_from(known.get(key, ["none"]))


@cache
def configurations(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Draw configurations of a method from the types of its constructor."""
    found = schemas(methods.METHODS.find(name), methods.METHODS.reserved)
    drawn = {key: values_of(key, schema) for key, schema in found.items()}
    steps = {"steps": drawn.pop("steps")} if "steps" in drawn else {}
    return st.fixed_dictionaries(steps, optional=drawn)


@cache
def recipes() -> st.SearchStrategy[dict[str, Any]]:
    """Draw fields of the training recipe."""
    drawn = {key: values_of(key, schema) for key, schema in schemas(Recipe).items()}
    return st.fixed_dictionaries({}, optional=drawn)


@st.composite
def _methods(draw: Any) -> Any:
    name = draw(st.sampled_from(METHODS))
    fixed = draw(configurations(name))
    if methods.find(name).learned:
        fixed |= draw(recipes())
    return draw(st.sampled_from([name, {"name": name, "fixed": fixed}]))


@cache
def _supported(method: str) -> list[str]:
    """List the degradations that a method supports."""
    return [name for name in physics.names() if methods.find(method).supports(name)]


@cache
def _levels_and_options(degradation: str) -> st.SearchStrategy[dict[str, Any]]:
    kind = physics.find(degradation)
    found = schemas(kind, (*physics.DEGRADATIONS.reserved, "steps"))
    options = {key: values_of(key, schema) for key, schema in found.items()}
    levels = st.lists(st.sampled_from(kind.presets), min_size=1, max_size=2, unique=True)
    return st.fixed_dictionaries({"levels": levels}, optional=options)


@st.composite
def _degradations(draw: Any, method: str) -> dict[str, Any]:
    name = draw(st.sampled_from(_supported(method)))
    return {"name": name, "label": "x", **draw(_levels_and_options(name))}


@cache
def _plain() -> st.SearchStrategy[dict[str, Any]]:
    """Draw the keys of a benchmark file that are single values."""
    fields = spec.Benchmark.model_json_schema()["properties"].items()
    drawn = {
        key: values_of(key, schema, dear=True)
        for key, schema in fields
        if schema.get("type") in ("integer", "number", "boolean") or "anyOf" in schema
    }
    return st.fixed_dictionaries({}, optional=drawn)


@st.composite
def right(draw: Any) -> dict[str, Any]:
    """Draw a benchmark file without a wrong value, though its parts may not go together."""
    method = draw(_methods())
    name = method if isinstance(method, str) else method["name"]
    return {
        "dataset": {"image_size": draw(st.sampled_from([16, 17, 32])), "n_val": 2, "n_test": 3},
        "degradations": [draw(_degradations(name))],
        "n_train": draw(st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True)),
        "methods": [method],
        "budget": draw(st.sampled_from([*spec.BUDGETS, {"trials": 2, "steps": 3}])),
        **draw(_plain()),
    }


MODELS = (spec.Benchmark, spec.DatasetSpec, spec.MethodSpec, spec.DegradationSpec)
KEYS = sorted(
    {key for model in MODELS for key in model.model_fields}
    | options_of(reading.read).keys()
    | {"level", "steps", "preset", "mask", "1", "<<"}
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of everything inside nested lists and mappings."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    found = [path]
    for key, value in inner:
        deeper = (*path, key)
        found += places(value, deeper) if isinstance(value, dict | list) else [deeper]
    return found


@st.composite
def spoilt(draw: Any) -> Any:
    """Draw a benchmark file and spoil up to three of its places."""
    content: Any = draw(right())
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(content)))
        how = draw(st.sampled_from(["replace", "replace", "add", "remove", "move"]))
        value = deepcopy(draw(JUNK))
        if not path:
            if how == "add":
                content[draw(st.sampled_from(KEYS))] = value
            continue
        *above, last = path
        node = content
        for key in above:
            node = node[key]
        if how == "add" and isinstance(node[last], dict):
            node[last][draw(st.sampled_from(KEYS))] = value
        elif how == "remove" and isinstance(node, dict):
            del node[last]
        elif how == "move" and isinstance(node, dict):
            node[draw(st.sampled_from(KEYS))] = deepcopy(node[last])
        else:
            node[last] = value
    return content


def accepted(content: Any) -> spec.Benchmark | None:
    """Return what `plan` and `run` would go on with, or None where they refuse it in one line."""
    try:
        read = markup.read(markup.write(content), "file.yaml")
        return rules.check(spec.parse(read, "file.yaml"))[0]
    except UserError as error:
        assert str(error).strip()
        return None
