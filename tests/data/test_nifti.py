import gzip
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
    for options in ({"normalisation": "window"}, {}):
        found = load(tmp_path, window=[0, 2000], **options)
        assert found.images.max() == pytest.approx(1)
        assert found.images[10, 0, 0, 0] == 0
    with pytest.raises(
        UserError, match=r"ct\.nii: has values from -1000 to 1000.*dataset\.window: \["
    ):
        load(tmp_path)
    with pytest.raises(UserError, match="do not go together"):
        load(tmp_path, window=[0, 2000], normalisation="percentile")


def written(tmp_path: Path, volume: np.ndarray, zooms=(1, 1, 1)) -> dict[str, Path]:
    """Write a RAS volume in every format, by somebody else's writers."""
    sitk = pytest.importorskip("SimpleITK")
    affine = np.diag([*zooms, 1.0])
    made = {}
    for end, kind in {
        "nii": nib.Nifti1Image, "nii.gz": nib.Nifti1Image, "img": nib.Nifti1Pair,
        "mgz": nib.freesurfer.MGHImage, "mgh": nib.freesurfer.MGHImage,
    }.items():  # fmt: skip
        made[end] = tmp_path / end / f"a.{end}"
        made[end].parent.mkdir()
        nib.save(kind(volume, affine), made[end])
    analyze = tmp_path / "analyze" / "a.img"
    analyze.parent.mkdir()
    nib.save(nib.AnalyzeImage(volume, affine), analyze)
    made["analyze"] = analyze
    # ITK's world runs to the left and to the back, its arrays are z, y, x.
    image = sitk.GetImageFromArray(volume.T)
    image.SetSpacing([float(zoom) for zoom in zooms])
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    for end in ("nrrd", "nhdr", "mha", "mhd"):
        made[end] = tmp_path / end / f"a.{end}"
        made[end].parent.mkdir()
        sitk.WriteImage(image, str(made[end]))
    return made


def test_every_format_of_volumes_shows_the_same(tmp_path: Path) -> None:
    made = written(tmp_path, marked(), (1, 1, 2))
    expected = load(made["nii"]).images
    assert expected.shape == (20, 1, 32, 32)
    for end, file in made.items():
        found = data.load(DatasetSpec(path=str(file.parent), image_size=32))
        # Analyze does not store which side is left, and the audit says so.
        images = expected[..., ::-1] if end == "analyze" else expected
        np.testing.assert_allclose(found.images, images, atol=1e-5, err_msg=end)
        assert any("which side is left" in note for note in found.audit.notes) == (end == "analyze")
        assert found.audit.files["read"] == 1
        assert sum(found.audit.files.values()) == len(list(file.parent.iterdir())), end


def test_endings_that_lie_about_compression(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(marked(), np.eye(4)), tmp_path / "a.nii")
    nib.save(nib.Nifti2Image(marked(), np.eye(4)), tmp_path / "b.nii")
    for name in ("a", "b"):
        content = (tmp_path / f"{name}.nii").read_bytes()
        (tmp_path / f"{name}_plain.nii.gz").write_bytes(content)
        (tmp_path / f"{name}_packed.nii").write_bytes(gzip.compress(content))
    found = load(tmp_path)
    assert len(found) == 6 * 20
    for part in np.split(found.images, 6):
        np.testing.assert_array_equal(part, found.images[:20])


@pytest.mark.parametrize(
    ("zooms", "plane"),
    [
        ((4, 1, 1), "sagittal"), ((1, 5, 1), "coronal"), ((0.9, 0.9, 6), "axial"),
        ((1, 1, 1), "axial"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_slices_are_those_that_were_taken(tmp_path, zooms, plane: str, codes: str) -> None:
    volume = np.random.default_rng(0).random((20, 20, 20), dtype=np.float32)
    save(volume, tmp_path / "a.nii", codes, zooms)
    found = load(tmp_path, 20)
    expected = upright(volume, plane)
    np.testing.assert_allclose(found.images[:, 0], expected / expected.max(), atol=1e-5)
    assert found.audit.volumes[0]["orientation"] == plane
    other = "coronal" if plane == "sagittal" else "sagittal"
    cut = load(tmp_path, 20, plane=other)
    across = any(f"dataset.plane: {plane}" in note for note in cut.audit.notes)
    assert across == (max(zooms) > 1)


def test_volumes_of_a_4d_file_are_judged_one_by_one(tmp_path: Path) -> None:
    volumes = np.stack([marked() * (k + 1) for k in range(5)], -1)
    volumes[..., 1] = 0
    volumes[16, 16, 16, 3] = np.nan
    save_4d = nib.Nifti1Image(volumes, np.eye(4))
    nib.save(save_4d, tmp_path / "a.nii.gz")
    found = load(tmp_path)
    assert {name.split("/")[1] for name in found.ids} == {"000", "002", "004"}
    rules = [line["scale"] for line in found.audit.volumes]
    assert rules[1] == "blank images"
    assert "NaN" in rules[3]


def test_a_tilted_gantry_does_not_change_the_size_of_pixels(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((24, 24, 6), dtype=np.float32)
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2], affine[2, 1] = 1.5, 0.5  # sheared
    image = nib.Nifti1Image(volume, affine)
    image.header.set_zooms((1.0, 1.0, 5.0))
    nib.save(image, tmp_path / "a.nii")
    found = load(tmp_path, 24)
    expected = upright(volume, "axial")
    np.testing.assert_allclose(found.images[:, 0], expected / expected.max(), atol=1e-5)


def test_unknown_size_of_voxels_means_cubes(tmp_path: Path) -> None:
    image = nib.Nifti1Image(marked(), np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    for zoom in (0.0, np.nan, -1.0, np.inf):
        content[80:92] = np.array([zoom] * 3, "<f4").tobytes()
        (tmp_path / "a.nii").write_bytes(content)
        assert len(load(tmp_path)) == 20
