"""A folder of PNG, JPEG or TIFF files, of any sizes, grey or colour."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image
from rich.console import Console
from rich.progress import track

from bench.data.base import Audit, Dataset
from bench.data.prepare import to_square
from bench.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
# A few bad files among many are skipped and named; more than this and the folder is at fault.
TOLERATED = 0.05
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG
FULL_SCALE = {"I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}


def read(path: str | None, image_size: int) -> Dataset:
    """Read every image below a folder.

    Colour becomes grey (BT.601 luma), transparency is dropped. Grey values are divided by the
    file's full scale: 255, or 65535 for 16 bits.

    Args:
        path: the folder; its sub-folders are read too.
        image_size: side of the prepared images, in pixels.

    Raises:
        UserError: no such folder, no image in it, or too many of them unusable.
    """
    folder = _folder(path)
    files = sorted(
        file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
    )
    if not files:
        raise UserError(f"{folder}: no image below it ({', '.join(sorted(SUFFIXES))})")
    ids = [file.relative_to(folder).as_posix() for file in files]
    images, subjects, names, skipped = [], [], [], {}
    for name, image in zip(ids, _read_all(files, image_size), strict=True):
        if isinstance(image, str):
            skipped[name] = image
            continue
        images.append(image)
        names.append(name)
        subjects.append(hashlib.sha256(image.tobytes()).hexdigest()[:16])
    if len(skipped) > TOLERATED * len(files):
        first, reason = next(iter(skipped.items()))
        raise UserError(
            f"{folder / first}: {reason} ({len(skipped)} of {len(files)} files are unusable, "
            f"more than {TOLERATED:.0%}); mend or remove them"
        )
    copies = len(names) - len(set(subjects))
    notes = [
        f"{len(names)} images of the folder {folder.name}; subjects are unknown: each distinct "
        "image counts as one, so slices of one patient may stand on both sides of the split.",
        f"{copies} exact copies share the subject of their original." if copies else "",
    ]
    audit = Audit([note for note in notes if note], skipped, ["subjects unknown"])
    return Dataset(np.stack(images)[:, None], names, subjects, audit)


def _folder(path: str | None) -> Path:
    if path is None:
        raise UserError("dataset.path: the source 'images' needs a folder")
    folder = Path(path)
    if not folder.exists():
        raise UserError(f"{folder}: no such folder (dataset.path)")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; dataset.path names a folder of images")
    return folder


def _read_all(files: list[Path], size: int) -> Iterator[Float32[np.ndarray, "h w"] | str]:
    """Read in parallel, in order; a string in place of an image says why it is unusable."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(lambda file: _read_one(file, size), files)
        console = Console(stderr=True)
        yield from track(
            images, "reading images", total=len(files), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip


def _read_one(file: Path, size: int) -> Float32[np.ndarray, "h w"] | str:
    try:
        with Image.open(file) as opened:
            grey = _grey(opened)
    except Exception as error:  # Pillow's plug-ins raise whatever a broken file provokes
        return f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"
    if not np.isfinite(grey).all():
        return "holds NaN or infinite values"
    if grey.min() == grey.max():
        return "is constant"
    return to_square(grey, size)


def _grey(image: Image.Image) -> Float32[np.ndarray, "h w"]:
    """Convert a decoded image to grey values in [0, 1]."""
    if image.mode in FULL_SCALE:
        return (np.asarray(image, dtype=np.float32) / FULL_SCALE[image.mode]).clip(0, 1)
    if image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        return values / max(1.0, float(np.nanmax(values)))
    if image.mode == "L":
        return np.asarray(image, dtype=np.float32) / 255
    return np.asarray(image.convert("RGB"), dtype=np.float32) @ LUMA / 255
