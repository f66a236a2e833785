"""What files a folder holds, in a file system or an object store."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bench.places import Place


def files(folder: Place) -> dict[str, tuple[int, int]]:
    """List the files below a folder, at any depth, in the order of their paths.

    Hidden files are left out: they may be incomplete.

    Returns:
        size in bytes and time of modification in nanoseconds, by path in the folder; empty if
        there is no folder.

    Raises:
        UserError: the object store cannot be reached.
        OSError: the folder cannot be read.
    """
    found = dict(_walk(str(folder), "")) if isinstance(folder, Path) else folder.listing()
    names = sorted(name.split("/") for name in found)
    joined = ("/".join(name) for name in names if not any(part[0] == "." for part in name))
    return {name: found[name] for name in joined}


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_dir():
                    yield from _walk(entry.path, f"{name}/")
                else:
                    with contextlib.suppress(FileNotFoundError):  # it was replaced, or renamed
                        facts = entry.stat()
                        yield name, (facts.st_size, facts.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return
