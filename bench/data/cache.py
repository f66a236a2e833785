"""Cache of prepared datasets, so that the next run starts at once.

There is one file for each dataset, and one for each array of its measurements, named by a hash of
everything that it depends on: the dataset's
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
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench import places
from bench.data.base import Audit, Dataset
from bench.data.files import walk
from bench.data.measurement import Measured, opened
from bench.data.sources import READERS
from bench.parsing import one_at_a_time
from bench.spec import DatasetSpec

# Keys of a dataset that do not change its images.
PATHS = ("subject_csv", "split_csv", "measured", "measured_csv")  # options that name files
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
            found = _read(file) or found  # with its measurements mapped into memory
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
        with one_at_a_time, np.load(file, allow_pickle=False) as archive:
            facts: dict[str, Any] = json.loads(bytes(archive["facts"]))
            images = archive["images"]
        audit = Audit(**facts.pop("audit"))
        measured = facts.pop("measured", None)
        if measured is not None:
            measured = _opened(file, measured)
        dataset = Dataset(images, audit=audit, measured=measured, **facts)
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
    measured = dataset.measured
    if measured is not None:
        facts["measured"] = {
            "kind": measured.kind,
            "noise": measured.noise.tolist(),
            "digests": measured.digests,
            "maps": measured.maps is not None,
        }
        for name, array in (("values", measured.values), ("maps", measured.maps)):
            if isinstance(array, np.memmap) and array.filename is not None:
                Path(array.filename).replace(_beside(target, name))  # it was written here already
            elif array is not None:
                _write_file(_beside(target, name), partial(np.save, arr=array))
    written = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    _write_file(target, partial(np.savez, images=dataset.images, facts=written))


def _write_file(target: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file under a temporary name, and rename it."""
    # Images of patients: readable by the owner only.
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _beside(target: Path, name: str) -> Path:
    """Name the file of an array that is mapped into memory."""
    return target.with_name(f"{target.stem}.{name}.npy")


def _opened(target: Path, facts: dict[str, Any]) -> Measured:
    """Open the measurements beside a cached dataset."""
    return Measured(
        facts["kind"],
        opened(_beside(target, "values")),
        np.array(facts["noise"], np.float32),
        facts["digests"],
        np.arange(len(facts["digests"])),
        opened(_beside(target, "maps")) if facts["maps"] else None,
    )
