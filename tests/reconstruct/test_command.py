"""`reconbench reconstruct`: what it prints, and how it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from applying import phantom
from PIL import Image

from bench.opened import Run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray((255 * phantom(40, 44)).astype(np.uint8)).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def test_the_best_method_is_tried_on_degraded_images(
    made_run: Run, picture: Path, reconbench: Command
) -> None:
    out = picture.parent / "out"
    status, printed, _ = reconbench(
        "reconstruct", made_run.folder, picture, "--out", out, "--degradation", "gaussian_noise",
        "--degrade",
    )  # fmt: skip
    assert status == 0
    first, scores, written = printed.splitlines()
    assert first == "tv for gaussian_noise 0.01: 1 slices"
    assert written.startswith(f"written: {out / 'in.png'} and 1 more")
    before = float(scores.split("A_dagger(y) ")[1].split()[0])
    after = float(scores.split("reconstruction ")[1].split()[0])
    assert before == pytest.approx(20, abs=0.5)
    assert after > before + 3


def test_mistakes_are_answered_in_one_line(
    made_run: Run, picture: Path, tmp_path: Path, reconbench: Command
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    noise = ["--degradation", "gaussian_noise"]

    def refused(says: str, path: object, *words: object, out: str = "out") -> None:
        status, _, error = reconbench(
            "reconstruct", made_run.folder, path, "--out", tmp_path / out, *words
        )
        assert status == 2
        assert says in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()

    refused("the folder is empty", tmp_path / "empty", *noise)
    refused("no file there has an ending that a reader knows", tmp_path / "text", *noise)
    refused("no such file or folder", tmp_path / "nowhere", *noise)
    refused("is not empty; give a new folder", picture, *noise, out="full")
    refused("exists already", picture, *noise, out="in.png")
    refused("3 tasks are in the run; choose one", picture)
    refused("did you mean 'unet'", picture, *noise, "--method", "unte")
    refused("has one refit, whose spread is not known", picture, *noise, "--uncertainty")
    refused("did you mean 'window'", picture, *noise, "--set", "dataset.windw=[0,1]")
    refused("write it as dataset.KEY=VALUE", picture, *noise, "--set", "scale=[0,1]")
    refused(
        "reconstructs measurements of mri_cartesian, not images; --degrade", picture,
        "--degradation", "mri_cartesian",
    )  # fmt: skip
    np.save(tmp_path / "image.npy", phantom(40, 40))
    refused("and k-space is complex", tmp_path / "image.npy", "--degradation", "mri_cartesian")


def test_an_interrupted_write_leaves_no_file(
    made_run: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.reconstruct import reconstruct

    def stop(self: Image.Image, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(
            made_run, picture, tmp_path / "out", "tv", which={"degradation": "gaussian_noise"}
        )
    assert list((tmp_path / "out").iterdir()) == []
