from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.testing import data_path

from bench import data
from bench.data.nifti import upright
from bench.errors import UserError
from bench.spec import DatasetSpec


def load(path: Path, size: int = 32, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(source="nifti", path=str(path), image_size=size, **options))


def marked() -> np.ndarray:
    """A RAS volume, 32 voxels a side: a body with bright marks to the right, in front, on top."""
    volume = np.zeros((32, 32, 32), dtype=np.float32)
    volume[6:26, 6:26, 6:26] = 0.4
    volume[22:26, 12:20, 12:20] = 1.0  # right
    volume[12:20, 22:26, 12:20] = 0.8  # anterior
    volume[12:20, 12:20, 22:26] = 0.6  # superior
    return volume


def save(volume: np.ndarray, path: Path, codes: str = "RAS", zooms=(1, 1, 1)) -> None:
    """Save a RAS volume in another orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(volume, np.diag([*zooms, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(image.as_reoriented(turn), path)


# plane -> where each mark stands, as (row, column) of a 32x32 image
PLACES = {
    "axial": {"right": (16, 8), "anterior": (8, 16)},
    "coronal": {"right": (16, 8), "superior": (8, 16)},
    "sagittal": {"anterior": (16, 8), "superior": (8, 16)},
}
BRIGHT = {"right": 1.0, "anterior": 0.8, "superior": 0.6}


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "SAL"])
@pytest.mark.parametrize("plane", PLACES)
def test_slices_stand_upright_however_they_are_stored(tmp_path, codes, plane) -> None:
    save(marked(), tmp_path / "a.nii.gz", codes)
    found = load(tmp_path, plane=plane)
    assert found.ids[0].startswith(f"a.nii.gz/{plane}-006")
    middle = found.images[found.ids.index(f"a.nii.gz/{plane}-016"), 0]
    for mark, (row, column) in PLACES[plane].items():
        assert middle[row, column] == pytest.approx(BRIGHT[mark]), mark
        assert middle[31 - row, 31 - column] == pytest.approx(0.4), mark


def test_empty_slices_are_dropped_and_steps_taken(tmp_path: Path) -> None:
    save(marked(), tmp_path / "a.nii")
    assert len(load(tmp_path)) == 20
    assert len(load(tmp_path, step=4)) == 5
    assert load(tmp_path, step=4).ids[0] == "a.nii/axial-008"


def test_voxels_that_are_not_cubes_keep_their_shape(tmp_path: Path) -> None:
    volume = np.zeros((40, 40, 10), dtype=np.float32)
    volume[12:28, 12:28, 3:7] = 1  # 16 x 16 x 16 mm where slices are 4 mm thick
    volume[20, 20, 5] = 2
    save(volume, tmp_path / "a.nii", zooms=(1, 1, 4))
    found = load(tmp_path, 40, plane="coronal", min_foreground=0.01)
    shown = found.images[0, 0] > 0.25
    assert abs(int(shown.any(0).sum()) - 16) <= 1
    assert abs(int(shown.any(1).sum()) - 16) <= 2


def test_subjects_are_those_of_bids_or_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "sub-02/x.nii"):
        save(rng.random((20, 20, 20), dtype=np.float32), tmp_path / "bids" / name)
        save(rng.random((20, 20, 20), dtype=np.float32), tmp_path / "flat" / Path(name).name)
    assert set(load(tmp_path / "bids").subjects) == {"sub-01", "sub-02"}
    (tmp_path / "flat" / "sub-01_T1w.nii.gz").rename(tmp_path / "flat" / "anna.nii.gz")
    assert set(load(tmp_path / "flat").subjects) == {"anna", "sub-01", "x"}


def test_scale_factors_and_integers(tmp_path: Path) -> None:
    image = nib.Nifti1Image((marked() * 200).astype(np.uint8), np.eye(4))
    image.header.set_slope_inter(7.7, 0)
    nib.save(image, tmp_path / "a.nii.gz")
    assert load(tmp_path).images.max() == pytest.approx(1)


def test_packaged_4d_file() -> None:
    path = Path(str(data_path)) / "example4d.nii.gz"
    found = load(path, 64)
    assert found.images.dtype == np.float32
    assert found.images.shape[1:] == (1, 64, 64)
    assert {name.split("/")[1] for name in found.ids} == {"000", "001"}
    assert set(found.subjects) == {"example4d"}
    assert found.images.max() <= 1


def test_packaged_template_has_its_eyes_in_front(tmp_path: Path) -> None:
    from nilearn import datasets

    nib.save(datasets.load_mni152_template(resolution=2), tmp_path / "mni.nii.gz")
    found = load(tmp_path, 48, step=8)
    volume = upright(np.asarray(nib.load(tmp_path / "mni.nii.gz").dataobj, np.float32), "axial")
    assert 5 < len(found) < len(volume) / 4
    # The template's brain is longer from front to back than it is wide.
    widest = found.images[len(found) // 2, 0] > 0.2
    assert widest.any(1).sum() > widest.any(0).sum()


def bad_files(folder: Path) -> dict[str, str]:
    """Write files that nobody can use; give what the error is to say of each."""
    good = folder / "good.nii.gz"
    save(marked(), good)
    whole = good.read_bytes()
    good.unlink()
    (folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.nii").write_bytes(b"")
    for name, volume in {
        "constant.nii": np.full((20, 20, 20), 3, np.float32),
        "nan.nii": np.where(marked() > 0.9, np.nan, marked()),
        "flat.nii": marked()[:, :, 16],
        "complex.nii": marked().astype(np.complex64),
        "hounsfield.nii": (marked() * 2000 - 1024),
        "blank.nii": np.pad(np.ones((1, 1, 1), np.float32), 15),
    }.items():
        nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / name)
    return {
        "truncated.nii.gz": "cannot be read",
        "empty.nii": "cannot be read",
        "constant.nii": "is constant",
        "nan.nii": "NaN",
        "flat.nii": "rank 2",
        "complex.nii": "complex",
        "hounsfield.nii": r"dataset\.window",
        "blank.nii": "empty slices",
    }


def test_bad_files_end_in_one_line(tmp_path: Path) -> None:
    for name, says in bad_files(tmp_path).items():
        with pytest.raises(UserError, match=says) as caught:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_ct_needs_a_stated_window(tmp_path: Path) -> None:
    save(marked() * 2000 - 1000, tmp_path / "ct.nii")
    found = load(tmp_path, normalisation="window", window=[0, 2000])
    assert found.images.max() == pytest.approx(1)
    assert found.images[10, 0, 0, 0] == 0
    with pytest.raises(UserError, match="go together"):
        load(tmp_path, window=[0, 2000])
