"""The reader is guessed from the path; subjects of images come from a table or a pattern."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bench import cli, data, rules
from bench.errors import UserError
from bench.spec import DatasetSpec


def noise(seed: int = 0, shape: tuple[int, ...] = (24, 24)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def save_pictures(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * noise(seed)).astype(np.uint8)).save(folder / name)


def load(path: Path, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(path=str(path), image_size=24, **options))


def test_the_reader_of_most_files_is_taken(tmp_path: Path) -> None:
    save_pictures(tmp_path, ["preview.png"])
    (tmp_path / "notes.txt").write_text("x")
    for number in range(2):
        image = nib.Nifti1Image(noise(number, (24, 24, 24)), np.eye(4))
        nib.save(image, tmp_path / f"{number}.nii.gz")
    assert data.resolve(DatasetSpec(path=str(tmp_path))).source == "nifti"
    assert len(load(tmp_path)) == 48
    assert data.resolve(DatasetSpec(path=str(tmp_path), source="images")).source == "images"
    assert data.resolve(DatasetSpec()).source == "template"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.PNG", "images"), ("a.tiff", "images"), ("a.nii", "nifti"), ("a.NII.GZ", "nifti"),
        ("a.h5", "hdf5"), ("a.t5", "hdf5"), ("a.mat", "hdf5"), ("a.npy", "npy"),
        ("a.npz", "npy"), ("a.dcm", "dicom"),
    ],
)  # fmt: skip
def test_endings(tmp_path: Path, name: str, source: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert data.guess(tmp_path) == source
    assert data.guess(tmp_path / name) == source


def test_nothing_that_a_reader_knows(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        UserError, match=r"no file there.*\.dcm, .*dataset\.source \(bart, dicom, hdf5, images"
    ):
        load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / "nowhere")


def test_the_resolved_benchmark_names_the_source(tmp_path: Path) -> None:
    from bench import spec

    save_pictures(tmp_path, ["a.png"])
    benchmark = spec.load(cli.DEFAULT_SPEC, {"dataset": {"path": str(tmp_path)}})
    assert rules.check(benchmark)[0].dataset.source == "images"


NAMES = ["anna/1.png", "anna/2.png", "ben/1.png"]


def test_subjects_by_pattern(tmp_path: Path) -> None:
    save_pictures(tmp_path, NAMES)
    found = load(tmp_path, subject_regex="^([^/]+)/")
    assert found.subjects == ["anna", "anna", "ben"]
    assert "subjects unknown" not in found.audit.badges
    with pytest.raises(UserError, match=r"anna/1\.png: dataset\.subject_regex"):
        load(tmp_path, subject_regex="clara")
    with pytest.raises(UserError, match="is not a pattern"):
        load(tmp_path, subject_regex="(")


def test_subjects_by_table(tmp_path: Path) -> None:
    save_pictures(tmp_path, NAMES)
    lines = [f"{name},{subject}" for name, subject in zip(NAMES, "xyx", strict=True)]
    table = tmp_path / "subjects.csv"
    table.write_text("\n".join(["file,subject", *lines]))
    assert load(tmp_path, subject_csv="subjects.csv").subjects == ["x", "y", "x"]
    assert load(tmp_path, subject_csv=str(table)).subjects == ["x", "y", "x"]
    for text, says in {
        "\n".join(["file,subject", *lines[:2]]): r"no subject for 'ben/1\.png'",
        "\n".join(["file,subject", *lines, lines[0]]): r"lists 'anna/1\.png' twice",
        "\n".join(lines): "needs the columns",
    }.items():
        table.write_text(text)
        with pytest.raises(UserError, match=says):
            load(tmp_path, subject_csv="subjects.csv")
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        load(tmp_path, subject_csv="none.csv")


def test_16_bit_tiff(tmp_path: Path) -> None:
    values = (noise() * 65535).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_allclose(load(tmp_path).images[0, 0], values / 65535, atol=1e-6)


def test_crop_keeps_the_middle(tmp_path: Path) -> None:
    wide = noise(0, (24, 48))
    Image.fromarray((255 * wide).astype(np.uint8)).save(tmp_path / "a.png")
    expected = (255 * wide[:, 12:36]).astype(np.uint8) / 255
    np.testing.assert_allclose(load(tmp_path, fit="crop").images[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "tops"),
    [
        ({}, [0.5, 1.0]),
        ({"normalisation": "per_image_max"}, [1.0, 1.0]),
        ({"normalisation": "window", "window": [1, 2]}, [0.5, 1.0]),
        ({"normalisation": "percentile", "percentile": 50}, [1.0, 1.0]),
    ],
)
def test_normalisations(tmp_path: Path, options: dict, tops: list[float]) -> None:
    volume = noise(0, (2, 24, 24))
    volume[:, 0, 0] = 1
    np.save(tmp_path / "a.npy", volume * np.array([1, 2], np.float32)[:, None, None])
    found = load(tmp_path, **options)
    assert found.images.max(axis=(1, 2, 3)) == pytest.approx(tops)
    assert found.images.min() >= 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": [40, 0], "normalisation": "window"}, "width 0 is not positive"),
        ({"normalisation": "window"}, "go together"),
        ({"percentile": 0}, r"dataset\.percentile"),
        ({"step": 0}, r"dataset\.step"),
        ({"normalisation": "median"}, r"dataset\.normalisation"),
        ({"kye": "a"}, "did you mean 'key'"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict, says: str) -> None:
    np.save(tmp_path / "a.npy", noise(0, (2, 24, 24)))
    with pytest.raises(UserError, match=says) as caught:
        load(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_audit_command(tmp_path: Path, monkeypatch, capsys) -> None:
    save_pictures(tmp_path, ["train/1.png", "train/2.png", "test/3.png"])
    (tmp_path / "test" / "copy.png").write_bytes((tmp_path / "train" / "1.png").read_bytes())
    for words in (["audit", str(tmp_path)], ["audit", str(tmp_path / "none")]):
        monkeypatch.setattr("sys.argv", ["reconbench", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        if words[1].endswith("none"):
            assert ended.value.code == 2
            assert "no such folder" in err
        else:
            assert "test/copy.png, train/1.png" in out
            assert "exact copies | 1" in out


def test_images_of_several_origins_are_refused() -> None:
    pixels = np.zeros((2, 1, 8, 8), dtype=np.float32)
    one, two = (
        data.Dataset(pixels, ["a", "b"], ["a", "b"], data.Audit(badges=badges))
        for badges in (["raw", "subjects unknown"], ["processed", "raw"])
    )
    data.refuse_mixed(one)
    with pytest.raises(UserError, match=r"several origins are mixed \(processed, raw\)"):
        data.refuse_mixed(two)
