"""Volumes in ITK's formats, NRRD and MetaImage (.nrrd, .nhdr, .mha, .mhd), by SimpleITK."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.data import declared
from bench.data.nifti import Plane, volumes_of
from bench.data.volume import NoImage, Unusable, Volume
from bench.errors import UserError

SUFFIXES: set[str] = set()
COMPANIONS = {".nhdr": (".raw", ".raw.gz"), ".mhd": (".raw", ".zraw")}
BEGINNINGS = {
    ".nrrd": (b"NRRD",),
    ".nhdr": (b"NRRD",),
    ".mha": (b"ObjectType", b"NDims", b"Comment"),
    ".mhd": (b"ObjectType", b"NDims", b"Comment"),
}


def read(file: Path, name: str, *, plane: Plane | Literal["auto"] = "auto") -> list[Volume]:
    """Read the volume of a file, and cut it into slices as for NIfTI.

    Args:
        file: the file.
        name: its path below the dataset's folder.
        plane: plane of the slices, as for NIfTI.

    Raises:
        NoImage: several values per voxel.
        Unusable: a wrong rank.
        UserError: SimpleITK is not installed.
    """
    reader = _simpleitk().ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    # Other formats may store the values in a second file.
    single = file.suffix.lower() in (".nrrd", ".mha")
    held = file.stat().st_size if single else None
    declared.check(reader.GetSize(), reader.GetNumberOfComponents(), held)
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise NoImage("volumes of colours or vectors", "holds several values a voxel")
    if image.GetDimension() not in (2, 3, 4):
        raise Unusable(f"has rank {image.GetDimension()}, not 2 to 4")
    return volumes_of(as_nifti(image), name, plane)


def as_nifti(image: Any) -> Any:
    """Convert a SimpleITK image to a nibabel image of three or four axes."""
    import nibabel as nib  # takes half a second, which readers of pictures need not spend

    # The axes of SimpleITK's arrays are z, y, x.
    values = _simpleitk().GetArrayFromImage(image).T.astype(np.float32)
    if values.ndim == 2:
        values = values[..., None]
    return nib.Nifti1Image(values, _affine(image))


def _affine(image: Any) -> np.ndarray:
    """Compute the RAS affine of an ITK image; ITK's world axes point to the left and the back."""
    rank = image.GetDimension()
    direction = np.eye(3)
    step, origin = np.ones(3), np.zeros(3)
    used = min(rank, 3)
    direction[:used, :used] = np.reshape(image.GetDirection(), (rank, rank))[:used, :used]
    step[:used], origin[:used] = image.GetSpacing()[:used], image.GetOrigin()[:used]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * step, origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise UserError(
            "dataset.source: itk needs SimpleITK; install it with: pip install -e '.[itk]'"
        ) from None
    return SimpleITK
