"""Cache of prepared datasets, so that the next run starts at once.

There is one file for each dataset, named by a hash of everything that it depends on: the dataset's
options, the name, size and time of every file at its path, and the code of the readers. It is
written under a temporary name and renamed, so that several processes may build it at the same time;
a damaged file (the archive has checksums) is built again. The folder is
`bench.places.cache_folder()`.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import places
from bench.data.base import Audit, Dataset
from bench.data.files import walk
from bench.data.sources import READERS
from bench.spec import DatasetSpec

# Keys of a dataset that do not change its images.
PATHS = ("subject_csv", "split_csv")  # options that name files
IRRELEVANT = {"name", "n_val", "n_test", "official_split"}


def cached(spec: DatasetSpec, build: Callable[[], Dataset]) -> Dataset:
    """Take a dataset from the cache, or build it and store it there.

    A cache that cannot be written is not an error.

    Args:
        spec: what to read, its source resolved.
        build: reads it.
    """
    folder = places.cache_folder()
    if folder is None or (spec.path is not None and not Path(spec.path).exists()):
        return build()
    file = folder / f"{_key(spec)}.npz"
    found = _read(file)
    if found is None:
        found = build()
        with contextlib.suppress(OSError):
            _write(file, found)
    return found


def _key(spec: DatasetSpec) -> str:
    """Hash what a dataset depends on."""
    options = {k: v for k, v in spec.model_dump().items() if k not in IRRELEVANT}
    code = _code() + READERS.code(spec.source)
    state = hashlib.sha256(repr((sorted(options.items(), key=str), code)).encode())
    roots = [v for v in (spec.path, *map(spec.options.get, PATHS)) if isinstance(v, str)]
    for root in roots:
        for line in _listing(Path(root)):
            state.update(repr(line).encode())
    return state.hexdigest()[:32]


def _listing(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield path, size in bytes and modification time in ns of each file at a path."""
    try:
        for file in sorted(walk(root)) if root.is_dir() else [root]:
            if file.is_file():
                facts = file.stat()
                yield str(file.resolve()), facts.st_size, facts.st_mtime_ns
    except OSError:  # an option that is not a path at all
        return


@cache
def _code() -> str:
    """Hash the code of the readers."""
    state = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        state.update(file.read_bytes())
    return state.hexdigest()


def _read(file: Path) -> Dataset | None:
    """Read a cached dataset; None if it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            facts: dict[str, Any] = json.loads(bytes(archive["facts"]))
            images = archive["images"]
        audit = Audit(**facts.pop("audit"))
        dataset = Dataset(images, audit=audit, **facts)
    except Exception:  # a damaged archive fails in many ways; it is built again
        return None
    return dataset if len(images) == len(dataset.ids) == len(dataset.subjects) else None


def _write(target: Path, dataset: Dataset) -> None:
    facts = {
        "ids": dataset.ids,
        "subjects": dataset.subjects,
        "parts": dataset.parts,
        "audit": vars(dataset.audit),
    }
    # Images of patients: readable by the owner only.
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(
                file,
                images=dataset.images,
                facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            )
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
