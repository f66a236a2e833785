"""Volumes with an orientation in space: the axes, the affine and the type of the input are kept."""

from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from jaxtyping import Float32
from nibabel.affines import voxel_sizes

from bench.data import itk, nifti
from bench.reconstruct.output import STEPS, WRITTEN, About, Kind, Output, Stacks, as_type
from bench.reconstruct.scans import Scan

# NIfTI's ending, for formats that nibabel reads but does not write.
INSTEAD = ".nii.gz"


def write(
    output: Output, file: Path, name: str, scan: Scan, stacks: Stacks, kind: Kind, about: About
) -> None:
    """Write a volume, 3-D or 4-D, with header and affine of the input.

    Whole numbers keep their type and their scale factors, unless these are too coarse.
    """
    image = nifti.opened(file)
    values = placed(image, stacks, scan.volumes[0].label)
    affine = _affine(image, values.shape)
    own = isinstance(image, nib.Nifti1Image)
    made = type(image) if own else nib.Nifti1Image
    header = image.header.copy() if own else None
    if header is not None:
        header["descrip"] = f"{WRITTEN}: {about.method} {kind.words}".strip().encode()[:79]
        header["cal_max"] = header["cal_min"] = 0
    whole, slope, inter = _whole(image, values, own and kind.measured)
    result = made(values if whole is None else whole, affine, header)
    if own:
        result.header.set_zooms(
            (*voxel_sizes(affine), *image.header.get_zooms()[3:])[: values.ndim]
        )
    if whole is None:
        result.set_data_dtype(np.float32)
        result.header.set_slope_inter(1, 0)
    else:
        result.set_data_dtype(whole.dtype)
        result.header.set_slope_inter(slope, inter)
    packed = file.name.lower().endswith((".nii", ".nii.gz"))
    with output.writing(output.place(name, kind, None if packed else INSTEAD)) as target:
        nib.save(result, target)


def placed(image: Any, stacks: Stacks, plane: str) -> Float32[np.ndarray, "..."]:
    """Bring slices back to the axes of the file from which they were cut."""
    turn = nib.io_orientation(image.affine)
    back = nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), turn)
    volumes = [
        nib.orientations.apply_orientation(
            nifti.from_upright(stack, cast(nifti.Plane, plane)), back
        )
        for stack in stacks
    ]
    values = np.stack(volumes, -1) if len(volumes) > 1 else volumes[0]
    return np.asarray(values.reshape(values.shape[:3] + image.shape[3:]), np.float32)


def _affine(image: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the affine of a volume with more voxels in the same field of view."""
    factors = np.array([new / old for new, old in zip(shape[:3], image.shape[:3], strict=True)])
    affine: np.ndarray = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((1 / factors - 1) / 2)
    affine[:3, :3] /= factors
    return affine


def _whole(
    image: Any, values: Float32[np.ndarray, "..."], wanted: bool
) -> tuple[np.ndarray | None, float, float]:
    """Round values to the type and the scale factors of the input, if these are fine enough."""
    kind = image.get_data_dtype()
    if not wanted or kind.kind not in "ui":
        return None, 1.0, 0.0
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if not STEPS * abs(slope) <= float(np.ptp(values)):
        return None, 1.0, 0.0
    ends = np.iinfo(kind)
    whole = np.clip(np.rint((values.astype(np.float64) - inter) / slope), ends.min, ends.max)
    return whole.astype(kind), slope, inter


def write_itk(
    output: Output, file: Path, name: str, scan: Scan, stacks: Stacks, kind: Kind
) -> None:
    """Write NRRD or MetaImage with the geometry and the metadata of the input."""
    import SimpleITK as sitk

    before = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(before)
    values = placed(itk.as_nifti(before), stacks, scan.volumes[0].label).T
    values = values.reshape(values.shape[-array.ndim :])
    fits = array.dtype.kind in "ui" and kind.measured and np.ptp(values) >= STEPS
    result = sitk.GetImageFromArray(as_type(values, array.dtype) if fits else values)
    factors = np.array(values.shape[::-1]) / array.shape[::-1]
    spacing = np.array(before.GetSpacing())
    turn = np.reshape(before.GetDirection(), (array.ndim, array.ndim))
    result.SetDirection(before.GetDirection())
    result.SetSpacing((spacing / factors).tolist())
    shift = turn @ (spacing * (1 / factors - 1) / 2)
    result.SetOrigin((before.GetOrigin() + shift).tolist())
    for key in before.GetMetaDataKeys():
        if not key.startswith(("ITK_", "NRRD_")):
            result.SetMetaData(key, before.GetMetaData(key))
    single = {".nhdr": ".nrrd", ".mhd": ".mha"}.get(file.suffix.lower())
    with output.writing(output.place(name, kind, single)) as target:
        sitk.WriteImage(result, str(target))
