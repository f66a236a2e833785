"""Readers, one file each; `load` chooses by `dataset.source`; `split` parts by subject."""

import sys
from typing import Any

from pydantic import ValidationError, validate_call

from bench import plugins
from bench.data.base import Audit, Dataset, ImageSet
from bench.data.cache import cached
from bench.data.splits import Split, split
from bench.errors import UserError, unknown
from bench.plugins import check_options, defaults_of, options_of
from bench.spec import DatasetSpec

__all__ = ["Audit", "Dataset", "ImageSet", "Split", "check", "load", "sources", "split"]

PARTS = {"augment", "cache", "prepare", "splits"}


def sources() -> list[str]:
    """List the readers."""
    return [name for name in plugins.modules(sys.modules[__name__]) if name not in PARTS]


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
        images, float32 of shape (n, 1, size, size) in [0, 1], their ids and subjects, and the
        audit of the reading.

    Raises:
        UserError: unknown source or option, or nothing usable at the path.
    """
    check(spec)
    return cached(spec, lambda: _build(spec))


def _build(spec: DatasetSpec) -> Dataset:
    read = validate_call(_reader(spec))
    try:
        return read(path=spec.path, image_size=spec.image_size, **spec.options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"dataset.{key}: {first['msg']} (given: {first['input']!r})") from None


def _reader(spec: DatasetSpec) -> Any:
    if spec.source not in sources():
        raise unknown("dataset.source", spec.source, sources())
    return plugins.load_module(f"{__name__}.{spec.source}").read
