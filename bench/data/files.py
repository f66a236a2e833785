"""The files below a dataset's path, and why some of them are not candidates."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from bench.errors import UserError, printable

# What operating systems leave in folders, besides names that begin with a dot.
SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
HIDDEN = "hidden or system files"
EXCLUDED = "files that dataset.include or dataset.exclude leaves out"
BROKEN = "broken links"


def walk(root: Path) -> Iterator[Path]:
    """List everything below a folder except folders; links are followed, each folder once."""
    seen: set[str] = set()
    linked: list[Path] = []
    folders = [root]
    # Links come last, so that a folder that is also here is listed under its own name.
    while folders or linked:
        folder = folders.pop() if folders else linked.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_dir():
                    linked.append(path)
                else:
                    yield path


def look(path: Path | str | None) -> tuple[Path, list[Path]]:
    """List the files at a path: the file itself, or all below the folder, sorted.

    Returns:
        the folder below which files are named, and the files.

    Raises:
        UserError: no path, nothing there, or an empty folder.
    """
    if path is None:
        raise UserError("dataset.path: this source needs a file or folder")
    root = Path(path)
    try:
        there = root.exists()
    except OSError as error:  # for example a name that is too long
        raise UserError(f"dataset.path: cannot be read ({error.strerror})") from None
    if not there:
        raise UserError(f"{printable(str(root))}: no such folder or file (dataset.path)")
    if root.is_file():
        return root.parent, [root]
    try:
        found = sorted(walk(root))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror})") from None
    if not found:
        raise UserError(f"{printable(str(root))}: the folder is empty (dataset.path)")
    return root, found


def name_of(file: Path, root: Path) -> str:
    """Name a file by its path below the folder, in characters that can be written anywhere."""
    return printable(relative(file, root))


def relative(file: Path, root: Path) -> str:
    """Make a file's path relative to the folder; pathlib takes ten times as long."""
    text, above = os.fspath(file), os.fspath(root)
    return text[len(above) + 1 :] if text.startswith(f"{above}/") else os.path.relpath(file, root)


def passing(
    root: Path, files: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[Path], dict[Path, str]]:
    """Separate files into candidates and others, with the kind of each of the others.

    Args:
        root: the folder below which files are named.
        files: all of them.
        include: glob patterns; if there are any, only files that match one pass.
        exclude: glob patterns of files that do not pass.

    Raises:
        UserError: the patterns leave nothing.
    """
    left_out: dict[Path, str] = {}
    visible = []
    for file in files:
        if _hidden(file, root):
            left_out[file] = HIDDEN
        elif not file.exists():
            left_out[file] = BROKEN
        else:
            visible.append(file)
    wanted = [] if include or exclude else visible
    for file in visible if include or exclude else ():
        name = name_of(file, root)
        if (include and not _matches(name, include)) or _matches(name, exclude):
            left_out[file] = EXCLUDED
        else:
            wanted.append(file)
    if visible and not wanted:
        key, patterns = ("include", include) if include else ("exclude", exclude)
        raise UserError(
            f"dataset.{key}: {', '.join(patterns)} leaves none of the {len(visible)} files below "
            f"{printable(str(root))}; the first is {name_of(visible[0], root)}"
        )
    return wanted, left_out


def ending(file: PurePath, limit: int = 6) -> str:
    """Name a file's ending for a count; numbers and long words do not count as endings."""
    found = "".join(file.suffixes[-2:] if file.suffix.lower() == ".gz" else [file.suffix]).lower()
    usual = re.fullmatch(r"(\.[a-z][a-z0-9]*)+", found) and len(found) <= 2 * limit
    return printable(found) if usual else "no usual ending"


def companions(files: Sequence[Path], pairs: Mapping[str, Sequence[str]]) -> set[Path]:
    """Find the files that belong to another file of the same name, as a header does to its data.

    Args:
        files: all of them.
        pairs: ending of a file -> endings of the files that belong to it.
    """
    found: set[Path] = set()
    if not pairs:
        return found
    known = {(file.parent, file.name.lower()): file for file in files}
    for file in files:
        lower = file.name.lower()
        for end, others in pairs.items():
            if lower.endswith(end):
                stem = lower.removesuffix(end)
                found |= {
                    known[path]
                    for other in others
                    if (path := (file.parent, stem + other)) in known
                }
    return found


def _hidden(file: Path, root: Path) -> bool:
    """Return whether the file or a folder in its path is hidden or the system's own."""
    parts = relative(file, root).split("/")
    return any(part.startswith(".") or part.lower() in SYSTEM for part in parts)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern matches the path, the file's name or a folder in its path."""
    parts = name.split("/")
    paths = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    for pattern in patterns:
        plain = pattern.removeprefix("./").removeprefix("**/").rstrip("/").removesuffix("/**")
        candidates = paths if "/" in plain else [*paths, *parts]
        if plain in candidates:  # a file called `scan [3].png`
            return True
        if any(fnmatchcase(text, form) for text in candidates for form in (plain, f"*/{plain}")):
            return True
    return False
