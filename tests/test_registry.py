"""A part of any kind: by the name of our file, by a path, by an entry point, or as it is."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from bench import methods, metrics, physics, registry
from bench.data import sources
from bench.errors import UserError
from bench.methods import losses
from bench.registry import Registry

KINDS: dict[str, tuple[Registry, str, str]] = {
    "method": (methods.METHODS, "tv", "my_pkg.methods.shrunk:Shrunk"),
    "degradation": (physics.DEGRADATIONS, "chain", "my_pkg.degradations.quantiser:Quantiser"),
    "reader": (sources.READERS, "nifti", "my_pkg.readers:asc"),
    "loss": (losses.LOSSES, "ms_ssim", "my_pkg.losses.log_cosh:log_cosh"),
    "metric": (metrics.METRICS, "psnr", "my_pkg.metrics.median_error:MedianError"),
}
pytestmark = pytest.mark.usefixtures("own_package")
every_kind = pytest.mark.parametrize("kind", KINDS)


# A loss may be a plain function of two images, and is left out.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"loss"}))
def test_what_the_benchmark_passes_is_no_option(kind: str) -> None:
    parts = KINDS[kind][0]
    for name in parts.names():
        assert parts.options(name).keys() == parts.defaults(name).keys(), name


@every_kind
def test_ours_are_found_by_their_files_name(kind: str) -> None:
    parts, name, _ = KINDS[kind]
    assert name in parts.names()
    part = parts.find(name)
    module = part.__name__ if kind == "reader" else part.__module__
    assert module.endswith(f".{name}")
    assert parts.name_of(part) == name or kind == "reader"
    with pytest.raises(UserError, match=f"did you mean '{name}'"):
        parts.find(f"{name}x")


@every_kind
def test_a_users_part_is_found_by_its_path_or_as_it_is(kind: str) -> None:
    parts, _, path = KINDS[kind]
    part = parts.find(path)
    assert parts.find(part) is part
    assert parts.code(path) and not parts.code(KINDS[kind][1])
    for wrong in ("my_pkg.nowhere:Thing", f"{path}x", "my_pkg:", ":x"):
        with pytest.raises(UserError, match="cannot be imported") as caught:
            parts.find(wrong)
        assert wrong in str(caught.value)


def test_a_reader_is_a_module_however_it_is_named() -> None:
    for given in ("my_pkg.readers:asc", "my_pkg.readers.asc", "my_pkg.readers.asc:read"):
        assert ".asc" in sources.find(given).SUFFIXES


@every_kind
def test_an_entry_point_is_a_name_like_ours(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    parts, _, path = KINDS[kind]
    named = {
        f"reconbench.{kind}s": [
            EntryPoint("mine", path.replace("readers:asc", "readers.asc"), "any"),
            EntryPoint("broken", "my_pkg.nowhere:Thing", "any"),
        ]
    }

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [point for point in named.get(group, []) if name in (None, point.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert {"mine", "broken"} <= set(parts.names())
    assert parts.find("mine") is parts.find(path)
    with pytest.raises(UserError, match="broken: cannot be imported"):
        parts.find("broken")


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        ("method", physics.Physics, "a method is a class that extends torch.nn.Module, a func"),
        ("method", "pathlib:Path", "a method is a class that extends torch.nn.Module, a func"),
        ("degradation", "torch.nn:Identity", "a degradation is a class that extends bench.phys"),
        ("degradation", 3, "builtins:int: is not a degradation"),
        ("reader", "my_pkg.losses:log_cosh", "a reader is a module with SUFFIXES and read"),
        ("loss", "pathlib:Path", "a loss is a function of"),
        ("metric", "my_pkg.losses.log_cosh:log_cosh", "a metric is a class that extends bench.met"),
    ],
)
def test_a_part_of_another_kind_is_refused_with_what_it_should_be(
    kind: str, wrong: Any, says: str
) -> None:
    with pytest.raises(UserError, match="is not a ") as caught:
        KINDS[kind][0].find(wrong)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("method", {"factor": 2}, "my_pkg.methods.shrunk:Shrunk.factor: Input should be less"),
        ("degradation", {"gamma": "x"}, "Quantiser.gamma: Input should be a valid number"),
        ("degradation", {"gama": 1}, "did you mean 'gamma'"),
        ("degradation", {"level": 3}, "unknown option"),
        ("reader", {"comment": 3}, "my_pkg.readers:asc.comment: Input should be a valid string"),
    ],
)
def test_options_of_a_users_part_are_checked_like_those_of_ours(
    kind: str, options: dict, says: str
) -> None:
    parts, _, path = KINDS[kind]
    with pytest.raises(UserError) as caught:
        parts.checked(path, options)
    assert says in str(caught.value)


def test_a_users_degradation_is_built_like_ours() -> None:
    operator = physics.create("my_pkg.degradations.quantiser:Quantiser", 8, 16, gamma="0.5")
    assert (operator.level, operator.gamma, operator.name) == (8.0, 0.5, "Quantiser")
    with pytest.raises(UserError, match="Quantiser: level 1 is out of range; it is the number of"):
        physics.create(type(operator), 1, 16)


def test_a_mix_of_losses_takes_a_path() -> None:
    mix = "0.84 ms_ssim + 0.16 my_pkg.losses.log_cosh:log_cosh"
    assert losses.parse(mix)["my_pkg.losses.log_cosh:log_cosh"] == 0.16


def test_asking_which_files_are_readers_imports_none_of_them() -> None:
    import subprocess

    code = (
        "import sys; from bench.data import sources; names = sources.READERS.names();"
        "assert {'dicom', 'ismrmrd', 'template'} - {'ismrmrd'} <= set(names), names;"
        "loaded = [n for n in names if f'bench.data.{n}' in sys.modules]; assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
