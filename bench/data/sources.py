"""The list of readers; which of them reads a file, and which reads most of a folder."""

import inspect
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

from bench import plugins
from bench.data import files, kinds
from bench.errors import UserError, printable
from bench.registry import Registry

# Pictures next to scans are usually previews; to be chosen, they need so many times as many bytes.
PREVIEWS = 10


def reads(module: ModuleType) -> bool:
    """Return whether a reader reads files instead of making images."""
    return hasattr(module, "SUFFIXES")


def _is_reader(thing: object) -> bool:
    return inspect.ismodule(thing) and (
        (reads(thing) and hasattr(thing, "read")) or hasattr(thing, "make")
    )


READERS: Registry[ModuleType] = Registry(
    "reader",
    ("bench.data",),
    ModuleType,
    "a module with SUFFIXES and read(file, name), or with make(path, image_size)",
    accepts=_is_reader,
    reserved=("path", "image_size", "file", "name"),
    function_of=lambda module: module.read if reads(module) else module.make,
    of_kind=lambda module: not {"SUFFIXES", "make"}.isdisjoint(plugins.defined(module)),
    key="dataset.source",
)


def find(given: str | ModuleType) -> ModuleType:
    """Find a reader: see `Registry.find`."""
    return READERS.find(given)


@cache
def _by_ending() -> list[tuple[tuple[str, ...], str]]:
    found = []
    ours = READERS.ours()
    for name in READERS.names():
        written = plugins.defined(ours[name]) if name in ours else vars(find(name))
        if "SUFFIXES" in written:
            endings = written["SUFFIXES"]
            found.append((tuple(find(name).SUFFIXES if endings is None else endings), name))
    return found


@cache
def _of_files() -> dict[str, ModuleType]:
    return {name: module for name in READERS.names() if reads(module := find(name))}


def source_of(file: Path) -> str | None:
    """Find the reader of a file by its ending, or else by its content."""
    lower = file.name.lower()
    for endings, name in _by_ending():
        if lower.endswith(endings):
            return name
    return next((name for name, module in _of_files().items() if _looks_like(module, file)), None)


def takes(module: ModuleType, file: Path) -> bool:
    """Return whether this reader reads the file, by its ending or by a test of its content."""
    return file.name.lower().endswith(tuple(module.SUFFIXES)) or _looks_like(module, file)


def _looks_like(module: ModuleType, file: Path) -> bool:
    """Check that a file begins as its ending demands, and let the reader test its content."""
    beginnings = getattr(module, "BEGINNINGS", {}).get(file.suffix.lower(), ())
    try:
        if beginnings:
            with file.open("rb") as opened:
                if opened.read(64).startswith(beginnings):
                    return True
        return hasattr(module, "recognises") and bool(module.recognises(file))
    except OSError:
        return False


def guess(path: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> str:
    """Find the reader of most of the data at a path.

    Raises:
        UserError: nothing at the path, or nothing there that a reader can read.
    """
    root, found = files.look(path)
    if not path.is_file():
        found, _ = files.passing(root, found, include, exclude)
    weights: Counter[str] = Counter()
    by_source: dict[str, list[Path]] = defaultdict(list)
    for file in found:
        source = source_of(file)
        if source is not None:
            by_source[source].append(file)
    for source, theirs in by_source.items():
        names = [files.name_of(file, root) for file in theirs]
        no_images = kinds.by_name(names, include)
        weight = sum(
            file.stat().st_size + 1
            for file, name in zip(theirs, names, strict=True)
            if name not in no_images
        )
        weights[source] = weight if source == "images" else PREVIEWS * weight
    if not weights:
        raise UserError(
            f"{printable(str(path))}: no file there has an ending that a reader knows, and the "
            f"content that belongs to it ({', '.join(_endings())}); choose a reader with "
            f"dataset.source ({', '.join(READERS.names())})"
        )
    return weights.most_common(1)[0][0]


def _endings() -> list[str]:
    readers = _of_files().values()
    return sorted({end for m in readers for end in (*m.SUFFIXES, *getattr(m, "BEGINNINGS", ()))})
