"""Readers, one file each; `load` chooses by `dataset.source`; `split` parts by subject."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from bench.data import reading, sources
from bench.data.base import ORIGINS, Audit, Dataset, ImageSet
from bench.data.cache import cached
from bench.data.sources import guess
from bench.data.splits import Split, fitting, split
from bench.errors import UserError
from bench.plugins import check_options, defaults_of, options_of
from bench.spec import DatasetSpec

__all__ = [
    "Audit",
    "Dataset",
    "ImageSet",
    "Split",
    "check",
    "defaults",
    "fitting",
    "guess",
    "load",
    "refuse_mixed",
    "resolve",
    "split",
]

GIVEN = ("source", "path", "image_size", "own", "file", "name")  # what is no option


def resolve(spec: DatasetSpec) -> DatasetSpec:
    """Write out the source of a spec that leaves it to its path.

    Raises:
        UserError: nothing at the path, or nothing there that a reader knows.
    """
    if spec.source != "auto":
        return spec
    patterns = [_patterns(spec.options.get(key)) for key in ("include", "exclude")]
    return spec.model_copy(update={"source": guess(Path(str(spec.path)), *patterns)})


def _patterns(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def check(spec: DatasetSpec) -> None:
    """Refuse an unknown source or option before anything is read.

    Raises:
        UserError: with the nearest spelling.
    """
    known = {name for function in _functions(spec) for name in options_of(function, GIVEN)}
    check_options("dataset", spec.options, {*known, *DatasetSpec.model_fields})


def defaults(spec: DatasetSpec) -> dict[str, Any]:
    """List the options of the spec's reader that have a default."""
    functions = _functions(spec)
    return {k: v for function in functions for k, v in defaults_of(function, GIVEN).items()}


def load(spec: DatasetSpec) -> Dataset:
    """Read a dataset.

    Returns:
        images, float32 of shape (n, 1, size, size) in [0, 1], their ids and subjects, the
        official parts if there are any, and the audit of the reading.

    Raises:
        UserError: unknown source or option, or nothing usable at the path.
    """
    spec = resolve(spec)
    check(spec)
    dataset = cached(spec, lambda: _read(spec))
    return dataset if spec.official_split else replace(dataset, parts=[])


def refuse_mixed(dataset: Dataset) -> None:
    """Refuse images of several origins, whose scores would not mean the same.

    Simulating a scan from images that somebody processed, or from magnitudes, makes reconstruction
    easier than it is (Shimron et al., PNAS 2022); a leaderboard holds one kind.

    Raises:
        UserError: with the origins found.
    """
    origins = [badge for badge in dataset.audit.badges if badge in ORIGINS]
    if len(origins) > 1:
        raise UserError(
            f"dataset.path: images of several origins are mixed ({', '.join(origins)}); part them "
            "into folders of one kind each (`reconbench audit` says which are which)"
        )


def _read(spec: DatasetSpec) -> Dataset:
    source = sources.find(spec.source)
    if not sources.reads(source):
        made: Dataset = source.make(
            spec.path, spec.image_size, **_validated(source.make, spec.options)
        )
        return made
    own = _validated(source.read, spec.options)
    common = _validated(reading.read, spec.options)
    return reading.read(spec.source, spec.path, spec.image_size, own, **common)


def _functions(spec: DatasetSpec) -> list[Callable[..., Any]]:
    """List the functions whose options the spec may give."""
    source = sources.find(resolve(spec).source)
    return [source.read, reading.read] if sources.reads(source) else [source.make]


def _validated(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Select the options of a function and convert them to the types that it names.

    Raises:
        UserError: a value of another type.
    """
    hints = get_type_hints(function)
    options = {}
    for name in options_of(function, GIVEN).keys() & given.keys():
        value = given[name]
        value = [value] if name in ("include", "exclude") and isinstance(value, str) else value
        try:
            options[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(f"dataset.{name}: {reason} (given: {value!r})") from None
    return options
