"""A folder of PNG, JPEG or TIFF files, of any sizes, grey or colour, 8 or 16 bits."""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image, UnidentifiedImageError

from bench.data.base import Dataset
from bench.data.compression import VISIBLE, block_edges
from bench.data.prepare import Fit, Unusable, check, to_square
from bench.data.reading import Slice, assemble, find, read_files
from bench.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG
# More would be a decompression bomb, or no slice at all.
MOST_PIXELS = 100_000_000
EIGHT_BIT, BLOCKY = "eight_bit", "jpeg_block_edges"
FULL_SCALE = {"I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}

SubjectOf = Callable[[str], str | None]


def read(
    path: str | None,
    image_size: int,
    *,
    subject_regex: str | None = None,
    subject_csv: str | None = None,
    fit: Fit = "pad",
) -> Dataset:
    """Read an image, or every image below a folder.

    Colour becomes grey (BT.601 luma), transparency is dropped. Grey values are divided by the
    file's full scale: 255, or 65535 for 16 bits.

    Args:
        path: the file or folder; sub-folders are read too.
        image_size: side of the prepared images, in pixels.
        subject_regex: finds the subject in a file's path below the folder: its first group, or
            the whole match; `^([^/]+)/` takes the first folder.
        subject_csv: a table, inside the folder or elsewhere, with columns `file` (path below the
            folder) and `subject`.
        fit: `pad` to a square or centre-`crop`.

    Raises:
        UserError: no such folder, no image in it, too many of them unusable, or a file without
            subject where subjects are given.
    """
    root, files = find(path, "images", SUFFIXES)
    subject_of = _subjects(root, subject_regex, subject_csv)
    one = partial(_read_one, size=image_size, fit=fit, subject_of=subject_of)
    slices, skipped = read_files(root, files, one)
    blocky = sum(BLOCKY in piece.marks for piece in slices)
    notes = [f"{len(slices)} images of the folder {root.name}."]
    if blocky:
        notes.append(
            f"{blocky} of them show edges of 8x8 blocks, as JPEG leaves them: they seem compressed "
            "with loss before any degradation here, and a method is scored against that."
        )
    return assemble(slices, skipped, notes)


def _subjects(root: Path, regex: str | None, table: str | None) -> SubjectOf:
    """Give the function that finds a file's subject from its name; None where unknown."""
    if regex is not None and table is not None:
        raise UserError("dataset.subject_regex and dataset.subject_csv: give one of them")
    if regex is not None:
        return _by_regex(regex)
    if table is not None:
        inside = root / table
        return _by_table(inside if inside.exists() else Path(table))
    return lambda name: None


def _by_regex(regex: str) -> SubjectOf:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"dataset.subject_regex: {regex!r} is no pattern ({error})") from None

    def subject(name: str) -> str:
        match = pattern.search(name)
        if match is None:
            raise UserError(f"{name}: dataset.subject_regex {regex!r} finds no subject in it")
        return match[1] if pattern.groups else match[0]

    return subject


def _by_table(table: Path) -> SubjectOf:
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
        known = {row["file"].strip(): row["subject"].strip() for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: cannot be read ({error}); see dataset.subject_csv") from None
    except (KeyError, AttributeError):
        raise UserError(
            f"{table}: dataset.subject_csv needs the columns 'file' and 'subject'"
        ) from None
    twice = [
        name for name, count in Counter(row["file"].strip() for row in rows).items() if count > 1
    ]
    if twice:
        raise UserError(f"{table}: lists {twice[0]!r} twice")

    def subject(name: str) -> str:
        if not known.get(name):
            raise UserError(f"{table}: gives no subject for {name!r} (dataset.subject_csv)")
        return known[name]

    return subject


def _read_one(file: Path, name: str, size: int, fit: Fit, subject_of: SubjectOf) -> list[Slice]:
    content = file.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise Unusable(f"has more than {MOST_PIXELS:,} pixels")
            eight_bit = opened.mode not in FULL_SCALE and opened.mode != "F"
            grey = _grey(opened)
    except UnidentifiedImageError:  # its message names a buffer, not the file
        raise Unusable("cannot be read (no image, or its beginning is damaged)") from None
    check(grey)
    digest = hashlib.sha256(content).hexdigest()
    seen = {EIGHT_BIT: eight_bit, BLOCKY: block_edges(grey) > VISIBLE}
    marks = tuple(mark for mark, found in seen.items() if found)
    return [Slice(name, to_square(grey, size, fit=fit), subject_of(name), digest, marks=marks)]


def _grey(image: Image.Image) -> Float32[np.ndarray, "h w"]:
    """Convert a decoded image to grey values in [0, 1]."""
    if image.mode in FULL_SCALE:
        return (np.asarray(image, dtype=np.float32) / FULL_SCALE[image.mode]).clip(0, 1)
    if image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        return (values / max(1.0, float(np.nanmax(values)))).clip(0, 1)
    if image.mode == "L":
        return np.asarray(image, dtype=np.float32) / 255
    return np.asarray(image.convert("RGB"), dtype=np.float32) @ LUMA / 255
