"""Readers, one file each; `load` chooses by `dataset.source`; `split` parts by subject."""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError, validate_call

from bench import plugins
from bench.data.base import ORIGINS, Audit, Dataset, ImageSet
from bench.data.cache import cached
from bench.data.splits import Split, fitting, split
from bench.errors import UserError, unknown
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
    "load",
    "refuse_mixed",
    "resolve",
    "sources",
    "split",
]


def sources() -> list[str]:
    """List the readers: the files of this folder that define `read`."""
    names = plugins.modules(sys.modules[__name__])
    return [name for name in names if hasattr(plugins.load_module(f"{__name__}.{name}"), "read")]


def resolve(spec: DatasetSpec) -> DatasetSpec:
    """Write out the source of a spec that leaves it to its path.

    Raises:
        UserError: nothing at the path, or nothing there that a reader knows.
    """
    if spec.source != "auto":
        return spec
    return spec.model_copy(update={"source": guess(Path(str(spec.path)))})


def guess(path: Path) -> str:
    """Find the reader of most of the files at a path, by their endings.

    Raises:
        UserError: nothing at the path, or nothing there that a reader knows.
    """
    if not path.exists():
        raise UserError(f"{path}: no such folder or file (dataset.path)")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    if not files:
        raise UserError(f"{path}: the folder is empty (dataset.path)")
    readers = {source: plugins.load_module(f"{__name__}.{source}") for source in sources()}
    counts = Counter(
        source for file in files for source, reader in readers.items() if _takes(reader, file)
    )
    if not counts:
        raise UserError(
            f"{path}: no file there has an ending that a reader knows "
            f"({', '.join(_endings(readers))}); name it with "
            f"dataset.source ({', '.join(sources())})"
        )
    return counts.most_common(1)[0][0]


def _endings(readers: Mapping[str, ModuleType]) -> list[str]:
    return sorted({end for reader in readers.values() for end in getattr(reader, "SUFFIXES", ())})


def _takes(reader: ModuleType, file: Path) -> bool:
    """Tell whether a reader knows a file by its ending, or by a look inside."""
    if file.name.lower().endswith(tuple(getattr(reader, "SUFFIXES", ()))):
        return True
    return bool(getattr(reader, "recognises", lambda file: False)(file))


def check(spec: DatasetSpec) -> None:
    """Refuse an unknown source or option before anything is read.

    Raises:
        UserError: with the nearest spelling.
    """
    options = options_of(_reader(spec))
    check_options("dataset", spec.options, {*options, *DatasetSpec.model_fields})


def defaults(spec: DatasetSpec) -> dict[str, Any]:
    """Give the options of the spec's reader that have a default."""
    return defaults_of(_reader(spec))


def load(spec: DatasetSpec) -> Dataset:
    """Read a dataset.

    Returns:
        images, float32 of shape (n, 1, size, size) in [0, 1], their ids and subjects, the
        official parts if there are any, and the audit of the reading.

    Raises:
        UserError: unknown source or option, or nothing usable at the path.
    """
    check(spec)
    spec = resolve(spec)
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
    read = validate_call(_reader(spec))
    try:
        return read(path=spec.path, image_size=spec.image_size, **spec.options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"dataset.{key}: {first['msg']} (given: {first['input']!r})") from None


def _reader(spec: DatasetSpec) -> Any:
    source = resolve(spec).source
    if source not in sources():
        raise unknown("dataset.source", source, sources())
    return plugins.load_module(f"{__name__}.{source}").read
