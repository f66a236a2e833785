"""Datasets prepared once: packed images with their ids, under a name that says what they are.

An entry's name hashes all that the images depend on: the dataset's resolved options, the files at
its path (names, sizes, times of change) and the code of this package. An entry is either absent or
whole, since it is made beside its place and renamed; of several processes that make the same one,
the first wins and the others use its. An entry that does not match its own hash is made again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.data.base import Audit, Dataset
from bench.spec import DatasetSpec

FOLDER = "RECONBENCH_CACHE"


def folder() -> Path:
    """Give where entries are kept: $RECONBENCH_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER) or Path(home) / "reconbench")


def cached(spec: DatasetSpec, build: Callable[[], Dataset]) -> Dataset:
    """Take a dataset from the cache, or build it and keep it there.

    The images of a dataset from the cache are mapped from its file, read-only. A cache that cannot
    be written is no error: the dataset is then built each time.

    Args:
        spec: the dataset, resolved.
        build: reads and prepares it.
    """
    entry = folder() / _key(spec)
    if (found := _read(entry)) is not None:
        return found
    dataset = build()
    with contextlib.suppress(OSError):
        _write(entry, dataset)
    return dataset


def _key(spec: DatasetSpec) -> str:
    state = hashlib.sha256(spec.model_dump_json().encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        state.update(file.read_bytes())
    for line in _listing(spec.path):
        state.update(line.encode())
    return f"{spec.label}-{state.hexdigest()[:24]}"


def _listing(path: str | None) -> Iterator[str]:
    """Name each file at a path with its size and time of change."""
    if path is None:
        return
    root = Path(path).resolve()
    yield str(root)
    files = [root] if root.is_file() else (Path(d) / f for d, _, fs in os.walk(root) for f in fs)
    for file in sorted(files):
        with contextlib.suppress(OSError):
            status = file.stat()
            yield f"{file}|{status.st_size}|{status.st_mtime_ns}"


def _read(entry: Path) -> Dataset | None:
    """Read an entry; None where there is none or it is damaged."""
    try:
        about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
        images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        if about.pop("digest") != _digest(images):
            return None
        return Dataset(images=images, **{**about, "audit": Audit(**about["audit"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(entry: Path, dataset: Dataset) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        np.save(place / "images.npy", dataset.images, allow_pickle=False)
        about = {
            field.name: getattr(dataset, field.name)
            for field in dataclasses.fields(dataset)
            if field.name != "images"
        }
        about |= {"audit": dataclasses.asdict(dataset.audit), "digest": _digest(dataset.images)}
        (place / "about.json").write_text(json.dumps(about), encoding="utf-8")
        if entry.exists() and _read(entry) is None:  # damaged
            shutil.rmtree(entry)
        with contextlib.suppress(OSError):  # another process was first
            place.rename(entry)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
