"""Where reconstructions go, and how each format is written."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
import tifffile
from jaxtyping import Float32, Shaped
from PIL import Image

from bench import places
from bench.data import files
from bench.data.arrays import in_kspace
from bench.data.axes import of_images, squeezed
from bench.data.npy import open_file
from bench.errors import UserError
from bench.reconstruct.scans import Scan

Stacks = Sequence[Float32[np.ndarray, "n h w"]]
TIFF = (".tif", ".tiff")
STEPS = 200  # a format's own steps are kept if so many of them cover the image's range
RESULT = "reconstruction"  # fastMRI's name of this array
WRITTEN = "ReconBench"


@dataclass(frozen=True)
class About:
    """What made the reconstructions, for the headers of files.

    Attributes:
        method: its label.
        words: a sentence: method, degradation, training images, refits.
    """

    method: str
    words: str


@dataclass(frozen=True)
class Kind:
    """What a file holds: reconstructions, their uncertainty, or the degraded images.

    Attributes:
        end: added to the names of files.
        words: added to descriptions.
        measured: whether the values are of the kind that the input's are; else they are written
            as fractions where the format allows.
    """

    end: str
    words: str
    measured: bool = True


RECONSTRUCTED = Kind("", "")
UNCERTAINTY = Kind("_uncertainty", "uncertainty", measured=False)
DEGRADED = Kind("_degraded", "degraded")


class Output:
    """The folder, or the one file, where reconstructions go.

    Args:
        out: a folder, which must be empty or new; or a new file, if the input is one.
        path: the input.

    Raises:
        UserError: it exists, or would be inside the input's folder.
    """

    def __init__(self, out: Path, path: Path):
        self.file = out if path.is_file() and out.suffix and not out.is_dir() else None
        self.folder = out.parent if self.file else out
        if self.file is not None and out.exists():
            raise UserError(f"{out}: exists already; give another name")
        if self.file is None and out.is_dir() and any(out.iterdir()):
            raise UserError(f"{out}: is not empty; give a new folder")
        if self.file is None and out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file; give a new folder")
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{out}: lies inside the input {path}; give a folder elsewhere")
        self.written: list[Path] = []

    def place(self, name: str, kind: Kind, suffix: str | None = None) -> Path:
        """Return where a file goes.

        Args:
            name: of the input, below its folder.
            kind: what it holds.
            suffix: of the format that is written; default: the input's.
        """
        stem, own = _split(name)
        if self.file is None:
            place = self.folder / f"{stem}{kind.end}{own if suffix is None else suffix}"
            if place not in self.written:
                return place
            return self.folder / f"{name}{kind.end}{suffix or own}"  # a.jpg lay beside a.png
        chosen, given = _split(self.file.name)
        if suffix is not None and given.lower() != suffix and kind is RECONSTRUCTED:
            raise UserError(f"--out {self.file}: this input becomes a {suffix} file; name one")
        return self.folder / f"{chosen}{kind.end}{given if suffix is None else suffix}"

    @contextmanager
    def writing(self, target: Path) -> Iterator[Path]:
        """Yield a path with the target's name, whose content becomes the target once complete."""
        try:
            places.make_folder(target.parent)
            folder = Path(tempfile.mkdtemp(prefix=".writing.", dir=target.parent))
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error.strerror or error})") from None
        try:
            yield folder / target.name
            places.share_like_folder(folder / target.name)
            (folder / target.name).replace(target)
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error.strerror or error})") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.written.append(target)


def _split(name: str) -> tuple[str, str]:
    """Split a name into stem and ending, `.nii.gz` as one."""
    path = PurePosixPath(name)
    packed = path.suffix.lower() == ".gz"
    end = "".join(path.suffixes[-2:] if packed else path.suffixes[-1:])
    return name.removesuffix(end), end


def write(output: Output, scan: Scan, stacks: Stacks, kind: Kind, about: About, root: Path) -> None:
    """Write the reconstructions of a scan in its own format, headers and geometry kept.

    Args:
        output: where.
        scan: the input.
        stacks: one for each of its volumes, in the units of its files.
        kind: what they are.
        about: what made them.
        root: folder below which the input's files are named.

    Raises:
        UserError: a file cannot be written.
    """
    if scan.source == "dicom":
        from bench.reconstruct import _dicom

        _dicom.write(output, scan, stacks, kind, about, root)
        return
    file = Path(scan.item.files[0])
    name = files.name_of(file, root)
    if scan.source == "nifti":
        from bench.reconstruct import _nifti

        _nifti.write(output, file, name, scan, stacks, kind, about)
    elif scan.source == "itk":
        from bench.reconstruct import _nifti

        _nifti.write_itk(output, file, name, scan, stacks, kind)
    elif scan.source == "images":
        _write_picture(output, file, name, scan, stacks, kind)
    elif scan.source == "npy" and file.suffix.lower() == ".npy":
        _write_npy(output, file, name, scan, stacks, kind)
    else:
        _write_hdf5(output, name, stacks, kind, about)


def _write_picture(
    output: Output, file: Path, name: str, scan: Scan, stacks: Stacks, kind: Kind
) -> None:
    """Write TIFF as TIFF of the same type, and every other picture as PNG of its depth."""
    (stack,) = stacks
    if file.suffix.lower() in TIFF:
        _write_tiff(output, file, name, stack, kind)
        return
    if not kind.measured:
        with output.writing(output.place(name, kind, ".tif")) as target:
            tifffile.imwrite(target, stack[0], photometric="minisblack")
        return
    depth = np.uint8 if scan.volumes[0].full_scale == 255 else np.uint16
    with Image.open(file) as opened:
        resolution: dict[str, Any] = {"dpi": opened.info["dpi"]} if "dpi" in opened.info else {}
    with output.writing(output.place(name, kind, ".png")) as target:
        Image.fromarray(as_type(stack[0], np.dtype(depth))).save(target, **resolution)


def _write_tiff(
    output: Output, file: Path, name: str, stack: Float32[np.ndarray, "n h w"], kind: Kind
) -> None:
    with tifffile.TiffFile(file) as tiff:
        page, more = tiff.pages.first, tiff.imagej_metadata or {}
        own = np.dtype(page.dtype or np.uint8)
        options: dict[str, Any] = {"photometric": "minisblack"}
        if "XResolution" in page.tags and "YResolution" in page.tags:
            options["resolution"] = tuple(
                page.tags[tag].value[0] / max(1, page.tags[tag].value[1])
                for tag in ("XResolution", "YResolution")
            )
            unit = page.tags.get("ResolutionUnit")
            options["resolutionunit"] = 1 if unit is None else int(unit.value)
        single = len(stack) == 1
        if tiff.is_imagej:
            kept: dict[str, Any] = {key: more[key] for key in ("spacing", "unit") if key in more}
            options |= {"imagej": True, "metadata": {**kept, "axes": "YX" if single else "ZYX"}}
    fine = own.kind == "f" or not kind.measured
    values = stack if fine else as_type(stack, own)
    if options.get("imagej") and values.dtype not in (np.uint8, np.uint16, np.float32):
        values = stack
    with output.writing(output.place(name, kind)) as target:
        tifffile.imwrite(target, values[0] if single else values, **options)


def _write_npy(
    output: Output, file: Path, name: str, scan: Scan, stacks: Stacks, kind: Kind
) -> None:
    """Write float32 values with the axes of the input; of k-space, without that of the coils."""
    before = open_file(file)
    assert isinstance(before, np.ndarray)
    letters = scan.axes
    if letters == "auto":
        magnitudes = not in_kspace(file.stem, "auto") and not np.iscomplexobj(before)
        letters = of_images(squeezed(before).shape)[0] if magnitudes else ""
    with output.writing(output.place(name, kind)) as target:
        np.save(target, in_order(np.stack(stacks), letters.replace("c", "")))


def in_order(values: Float32[np.ndarray, "time n h w"], letters: str) -> Float32[np.ndarray, "..."]:
    """Bring images into the order of named axes; without names, drop axes of length 1."""
    if not letters:
        return values.reshape([*(n for n in values.shape[:2] if n > 1), *values.shape[2:]])
    order = ["tshw".index(letter) for letter in letters]
    rest = [axis for axis in range(4) if axis not in order]
    turned = values.transpose(rest + order)
    return np.ascontiguousarray(turned.reshape(turned.shape[len(rest) :]))


def _write_hdf5(output: Output, name: str, stacks: Stacks, kind: Kind, about: About) -> None:
    """Write fastMRI's layout: `reconstruction`, (slices, h, w), or (time, slices, h, w)."""
    values = stacks[0] if len(stacks) == 1 else np.stack(stacks)
    write_arrays(output, name, {RESULT: values}, about, kind)


def write_arrays(
    output: Output,
    name: str,
    arrays: Mapping[str, np.ndarray],
    about: About,
    kind: Kind = RECONSTRUCTED,
) -> None:
    """Write an HDF5 file of arrays."""
    with (
        output.writing(output.place(name, kind, ".h5")) as target,
        h5py.File(target, "w") as content,
    ):
        content.attrs["made_by"] = f"{WRITTEN}: {about.words}"
        for key, values in arrays.items():
            content[key] = values


def as_type(values: Float32[np.ndarray, "..."], kind: np.dtype[Any]) -> Shaped[np.ndarray, "..."]:
    """Round to whole numbers of a type, within its range."""
    if kind.kind == "f":
        return values.astype(kind)
    ends = np.iinfo(kind)
    return np.clip(np.rint(values), ends.min, ends.max).astype(kind)
