"""Readers, one file each; `load` chooses by `dataset.source`; `split` separates by subject."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import raw, reading, sources
from bench.data.base import ORIGINS, Audit, Dataset, ImageSet
from bench.data.cache import cached
from bench.data.measurement import Kind, Measured
from bench.data.sources import READERS, guess
from bench.data.splits import Split, fitting, split
from bench.errors import UserError
from bench.options import check_options, checked_options, defaults_of, options_of
from bench.spec import DatasetSpec

__all__ = [
    "Audit",
    "Dataset",
    "ImageSet",
    "Split",
    "brings",
    "check",
    "defaults",
    "fitting",
    "guess",
    "load",
    "read",
    "refuse_mixed",
    "resolve",
    "split",
]

COILS = 8  # of k-space whose number is not known yet
PATTERNS = {"include", "exclude"}
GIVEN = ("source", "path", "image_size", "own")  # keys that are not options of `reading.read`


def resolve(spec: DatasetSpec) -> DatasetSpec:
    """Fill in the source of a spec that does not name one, from the files at its path.

    Raises:
        UserError: nothing at the path, or nothing there that a reader can read.
    """
    if spec.source != "auto":
        return spec
    given = {key: spec.options[key] for key in PATTERNS & spec.options.keys()}
    patterns = checked_options("dataset", reading.read, given, GIVEN)
    return spec.model_copy(update={"source": guess(Path(str(spec.path)), **patterns)})


def check(spec: DatasetSpec) -> None:
    """Refuse an unknown source or option, or a wrong value, before anything is read.

    Raises:
        UserError: with the nearest spelling, or with the values that the option accepts.
    """
    own, common = _known(spec)
    check_options("dataset", spec.options, {*own, *common, *DatasetSpec.model_fields})
    _checked(spec)


def defaults(spec: DatasetSpec) -> dict[str, Any]:
    """List the options of the spec's reader that have a default."""
    common = defaults_of(_reading(spec), GIVEN) if sources.reads(sources.find(spec.source)) else {}
    return {**READERS.defaults(spec.source), **common}


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
    dataset = cached(spec, lambda: read(spec))
    return dataset if spec.official_split else replace(dataset, parts=[])


def brings(spec: DatasetSpec) -> Kind | None:
    """Return what kind of measurement of its images a dataset brings; None if it brings none."""
    measured = spec.options.get("measured")
    if measured is True:
        return "kspace"
    return None if measured is None else "image"


def calibration_of(spec: DatasetSpec) -> int:
    """Return the side of the centre of k-space from which a dataset's maps are estimated."""
    maps = spec.options.get("maps", "full")
    return raw.calibration_side(maps, spec.options.get("calibration"))


def stand_in(spec: DatasetSpec, count: int) -> Measured | None:
    """Draw what a dataset might bring, to measure how long methods take; None if nothing."""
    kind = brings(spec)
    if kind is None:
        return None
    coils = (spec.options.get("coils") or COILS) if kind == "kspace" else 1
    shape = (count, coils, spec.image_size, spec.image_size)
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    noise, index = np.full(count, 0.05, np.float32), np.arange(count)
    if kind == "image":
        return Measured(kind, values, noise, ["0"] * count, index)
    kspace = values.astype(np.complex64)
    maps = np.full(shape, coils**-0.5, np.complex64)
    return Measured(kind, kspace, noise, ["0"] * count, index, maps)


def refuse_mixed(dataset: Dataset) -> None:
    """Refuse a mixture of images of several origins, whose scores are not comparable.

    Simulating a scan from processed images, or from magnitudes, makes reconstruction easier than
    it really is (Shimron et al., PNAS 2022); a leaderboard holds images of one origin.

    Raises:
        UserError: with the origins found.
    """
    origins = [badge for badge in dataset.audit.badges if badge in ORIGINS]
    if len(origins) > 1:
        raise UserError(
            f"dataset.path: images of several origins are mixed ({', '.join(origins)}); put "
            "each origin into its own folder (`reconbench audit` lists the origins)"
        )


def read(spec: DatasetSpec) -> Dataset:
    """Read a dataset as `load` does, without the cache; its source must be resolved."""
    source = sources.find(spec.source)
    own, common = _checked(spec)
    if not sources.reads(source):
        made: Dataset = source.make(spec.path, spec.image_size, **own)
        return made
    return _reading(spec)(spec.source, spec.path, spec.image_size, own, **common)


def _known(spec: DatasetSpec) -> tuple[set[str], set[str]]:
    """Return the names of the options of a spec's reader, and of the options all readers share."""
    common = options_of(_reading(spec), GIVEN) if sources.reads(sources.find(spec.source)) else {}
    return set(READERS.options(spec.source)), set(common)


def _checked(spec: DatasetSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of each of these two kinds in a spec, converted to their types."""
    own, common = (
        {key: value for key, value in sorted(spec.options.items()) if key in known}
        for known in _known(spec)
    )
    return (
        READERS.checked(spec.source, own, "dataset"),
        checked_options("dataset", _reading(spec), common, GIVEN),
    )


def _reading(spec: DatasetSpec) -> Callable[..., Dataset]:
    """Return what reads the files: as images, or as raw k-space."""
    return raw.read if brings(spec) == "kspace" else reading.read
