"""Volumes with an orientation in space: NIfTI, Analyze, MGH, MINC and PAR/REC, by nibabel."""

import gzip
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from bench.data import declared
from bench.data.volume import NoImage, Unusable, Volume, planes_of

SUFFIXES = {".nii", ".nii.gz"}
COMPANIONS = {".img": (".hdr", ".mat"), ".img.gz": (".hdr.gz",), ".par": (".rec",)}
# Endings that other programs use too, and the first bytes of such a file.
BEGINNINGS = {
    ".mgz": (b"\x1f\x8b",),
    ".mgh": (b"\x00\x00\x00\x01",),
    ".mnc": (b"CDF\x01", b"CDF\x02", b"\x89HDF"),
    ".par": (b"# === DATA DESCRIPTION FILE", b"\n# === DATA DESCRIPTION", b"\r\n# === DATA"),
}
NO_SIDE = "Analyze files do not state which side is left; SPM's convention was assumed."
ANALYZE_HEADER = 348  # bytes; also the first number in the header
GZIP = b"\x1f\x8b"

# Endings of files that may be compressed; MINC files are compressed inside.
PACKED = (".gz", ".bz2", ".mgz", ".mnc", ".zst")
Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, Plane, Plane] = ("sagittal", "coronal", "axial")  # across x, y and z
# Slices that are so many times as thick as their pixels are wide keep the acquired plane.
THICK = 1.5


def recognises(file: Path) -> bool:
    """Return whether the header of an Analyze or NIfTI image file is in the same folder."""
    pair = file.suffix.lower() == ".img"
    return pair and any(_is_header(file.with_suffix(end)) for end in (".hdr", ".HDR"))


def _is_header(file: Path) -> bool:
    """Return whether a file is the header of an Analyze or NIfTI pair."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        first = opened.read(4)
    return ANALYZE_HEADER in (int.from_bytes(first, "little"), int.from_bytes(first, "big"))


def read(file: Path, name: str, *, plane: Plane | Literal["auto"] = "auto") -> list[Volume]:
    """Read the volumes of a file, and cut them into upright slices.

    Volumes are reoriented to RAS axes; slices follow the radiological convention: front or head
    up, the patient's right side on the left, sagittal slices facing left. The volumes of a 4-D
    file are scaled one by one.

    Args:
        file: the file.
        name: its path below the dataset's folder.
        plane: plane of the slices; `auto`: the acquired plane if slices are clearly thicker than
            their pixels are wide, else axial.

    Raises:
        NoImage: colours or complex numbers.
        Unusable: a wrong rank.
    """
    import nibabel as nib  # takes half a second, and readers of pictures do not need it

    image = opened(file)
    volumes = volumes_of(image, name, plane)
    if isinstance(image, nib.AnalyzeImage) and not isinstance(image, nib.Nifti1Pair):
        return [volume.with_remarks(NO_SIDE) for volume in volumes]
    return volumes


def volumes_of(image: Any, name: str, plane: Plane | Literal["auto"]) -> list[Volume]:
    """Cut a nibabel image into slices; see `read`."""
    import nibabel as nib

    _check_size(image)
    zooms = _zooms(image)
    image = nib.as_closest_canonical(image)
    if len(image.shape) not in (3, 4) and not _is_flat(image.shape):
        raise Unusable(f"has rank {len(image.shape)}, not 3 or 4")
    kind = image.get_data_dtype()
    if kind.fields or kind.kind == "c":
        raise NoImage("colour or complex volumes", "holds colours or complex numbers")
    values = np.asarray(image.get_fdata(dtype=np.float32))
    volumes = values.reshape(*values.shape[:3], -1)
    chosen, remarks = _plane(plane, zooms, volumes.shape[:3])
    made = []
    for number in range(volumes.shape[3]):
        stem = f"{name}/{number:03d}" if volumes.shape[3] > 1 else name
        slices = upright(volumes[..., number], chosen)
        made.append(
            Volume(
                stem, planes_of(slices, spacing(zooms, chosen)), name, label=chosen,
                orientation=chosen, remarks=remarks,
            )
        )  # fmt: skip
    return made


def _check_size(image: Any) -> None:
    """Compare the size that the header states with the size of the files."""
    files = {holder.filename for holder in (image.file_map or {}).values() if holder.filename}
    if files:  # otherwise the image was made in memory
        held = sum(Path(file).stat().st_size for file in files if Path(file).exists())
        packed = any(str(file).lower().endswith(PACKED) for file in files)
        shape = tuple(map(int, image.shape))
        declared.check(shape, image.get_data_dtype().itemsize, held, packed)


def opened(file: Path) -> Any:
    """Open a file, even if it is not compressed as its ending says."""
    import nibabel as nib

    lower = file.name.lower()
    if not lower.endswith((".nii", ".nii.gz")):
        return nib.load(file)
    with file.open("rb") as opened:
        packed = opened.read(2) == GZIP
    if packed == lower.endswith(".gz"):
        return nib.load(file)
    content = file.read_bytes()
    if packed:
        declared.check((len(content), declared.DEFLATE), 1, None)
        content = gzip.decompress(content)
    second = int.from_bytes(content[:4], "little") == 540 or content[:4] == b"\x00\x00\x02\x1c"
    return (nib.Nifti2Image if second else nib.Nifti1Image).from_bytes(content)


def _is_flat(shape: tuple[int, ...]) -> bool:
    """Return whether all axes beyond the fourth have length 1, or the fifth counts volumes."""
    return len(shape) > 4 and sum(length > 1 for length in shape[3:]) <= 1


def _zooms(image: Any) -> list[float]:
    """Read the size of voxels along the axes of the RAS volume, in mm; 0 where it is unknown.

    The header states it; an affine that is sheared by a tilted gantry would yield another size.
    """
    import nibabel as nib

    stated = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    known = [zoom if np.isfinite(zoom) and zoom > 0 else 0.0 for zoom in stated]
    zooms = [0.0, 0.0, 0.0]
    for axis, ras_axis in enumerate(nib.io_orientation(image.affine)[:3, 0]):
        if np.isfinite(ras_axis) and axis < len(known):
            zooms[int(ras_axis)] = known[axis]
    return zooms


def _plane(
    wanted: Plane | Literal["auto"], zooms: list[float], shape: tuple[int, ...]
) -> tuple[Plane, tuple[str, ...]]:
    """Choose the plane, with a remark if slices are not in the acquired plane."""
    across = int(np.argmax(zooms))
    inside = [zoom for axis, zoom in enumerate(zooms) if axis != across]
    thick = min(zooms) > 0 and zooms[across] >= THICK * max(inside)
    native = PLANES[across] if thick else "axial"
    if wanted == "auto":
        note = f"Slices are {native}, as acquired; dataset.plane selects another plane."
        return native, (note,) if native != "axial" else ()
    if thick and wanted != native:
        return wanted, (
            f"Slices acquired in the {native} plane are resliced ({wanted}) by interpolation; "
            f"dataset.plane: {native} keeps them as acquired.",
        )
    return wanted, ()


def upright(
    volume: Float32[np.ndarray, "x y z"], plane: Plane
) -> Float32[np.ndarray, "slices rows columns"]:
    """Turn a RAS volume into slices in anatomical order, in the radiological convention."""
    # Rows run downwards (from front to back, or from head to foot), columns from the patient's
    # right to the left, or from front to back.
    order = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}[plane]
    stack = volume.transpose(order)[:, ::-1]
    return np.ascontiguousarray(stack[:, :, ::-1])


def from_upright(
    slices: Float32[np.ndarray, "slices rows columns"], plane: Plane
) -> Float32[np.ndarray, "x y z"]:
    """Undo `upright`."""
    order = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}[plane]
    return slices[:, ::-1, ::-1].transpose(np.argsort(order))


def spacing(zooms: list[float], plane: Plane) -> tuple[float, float]:
    """Select the distance of rows and of columns, in mm."""
    x, y, z = zooms
    return {"axial": (y, x), "coronal": (z, x), "sagittal": (z, y)}[plane]
