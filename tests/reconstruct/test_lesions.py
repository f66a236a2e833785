"""Are small lesions shown, and are there some where there are none?"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench import lesion_table, lesions, physics
from bench.opened import Run


def tissue(n: int = 3, side: int = 48) -> torch.Tensor:
    """Bright circles on black, half of them dark tissue and half bright."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side / 3) ** 2
    levels = torch.linspace(0.3, 0.8, n).view(-1, 1, 1, 1)
    return inside[None, None] * levels


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_lesions_are_discs_within_the_tissue_at_a_position_of_their_name(radius: int) -> None:
    x, names = tissue(), ["a", "b", "c"]
    planted = lesions.plant(x, names, radius, 0.2)
    assert torch.equal(planted, lesions.plant(x.flip(0), names[::-1], radius, 0.2).flip(0))
    assert ((x > 0) | (planted == 0)).all()
    assert (x + planted >= 0).all()
    assert (x + planted <= 1).all()
    pixels = int(sum(i**2 + j**2 <= radius**2 for i in range(-9, 10) for j in range(-9, 10)))
    assert (planted != 0).sum((1, 2, 3)).tolist() == [pixels] * 3
    assert planted.amax((1, 2, 3))[0] == pytest.approx(0.2)
    assert planted.amin((1, 2, 3))[2] == pytest.approx(-0.2)


def test_an_image_without_room_has_no_lesion() -> None:
    x = torch.zeros(1, 1, 32, 32)
    x[..., 10:13, 10:13] = 0.5
    planted = lesions.plant(x, ["a"], 4, 0.2)
    assert not planted.any()
    assert lesions.recovered(x, x, planted).isnan().all()


def test_recovered_contrast_of_methods_whose_answer_is_known() -> None:
    x = tissue()
    planted = lesions.plant(x, ["a", "b", "c"], 3, 0.2)
    assert lesions.recovered(x + planted, x, planted).tolist() == pytest.approx([1, 1, 1])
    assert lesions.recovered(x + 0.3 * planted, x, planted).tolist() == pytest.approx([0.3] * 3)
    assert lesions.recovered(x, x, planted).tolist() == [0, 0, 0]


def test_false_lesions_are_counted_once_each_where_they_are() -> None:
    x = tissue()
    x_hat = x.clone()
    x_hat[1, 0, 20:25, 20:25] += 0.2
    x_hat[2, 0, 16:20, 16:20] -= 0.2
    x_hat[2, 0, 28:32, 28:32] += 0.2
    x_hat[0, 0, 0:5, 0:5] += 0.5  # outside the tissue
    assert lesions.false_lesions(x_hat, x, 2, 0.2) == [0, 1, 2]
    assert lesions.false_lesions(x_hat, x, 2, 0.9) == [0, 0, 0]


def test_smoothing_loses_small_lesions_first() -> None:
    x = tissue()
    blur = physics.create("gaussian_blur", 2, (48, 48))
    share = []
    for radius in (1, 3, 6):
        planted = lesions.plant(x, ["a", "b", "c"], radius, 0.2)
        shown = lesions.recovered(blur.A(x + planted), blur.A(x), planted)
        share.append(float(shown.mean()))
    assert share == sorted(share)
    assert share[0] < 0.3 < 0.7 < share[2]


def test_every_cell_of_a_run_is_examined_with_the_same_lesions(
    made_run: Run, tmp_path: Path, reconbench: Callable[..., tuple[int, str, str]]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made_run.folder, folder)
    options = ("--level", 0.01, "--radius", 2, "--radius", 3, "--images", 4)
    status, printed, errors = reconbench("lesions", folder, *options)
    assert status == 0, errors
    assert "degraded" in printed
    table = pd.read_csv(folder / "report" / lesion_table.FILE)
    assert list(table.columns) == lesion_table.COLUMNS
    assert (table.groupby("method").size() == 2 * 4).all()
    shown = table.groupby("method")["recovered"]
    assert shown.min()["degraded"] == pytest.approx(1, abs=0.01)  # both have the same noise
    assert shown.max()["gaussian"] < 0.95
    for name in ("leaderboard.md", "leaderboard.html"):
        assert "Are small lesions shown?" in (folder / "report" / name).read_text()


def test_what_cannot_be_examined_is_refused(
    made_run: Run, reconbench: Callable[..., tuple[int, str, str]]
) -> None:
    for words, reason in [
        (("--radius", 16), "does not fit into 32 pixels"),
        (("--contrast", 0.8), "a contrast of at most 0.5"),
        (("--level", 9), "the run has the levels 0.01, 2"),
    ]:
        status, _, errors = reconbench("lesions", made_run.folder, *words)
        assert status == 2
        assert reason in errors
