import math

import numpy as np
import pandas as pd
import pytest

from bench import timing_table
from bench.errors import UserError
from bench.recommend import recommend
from bench.statistics import estimate

SUBJECTS = 24
METHODS = {  # kind, parameters, ms, and PSNR at levels 1 and 4, by number of training images
    "tv": ("classical", 0, 3.0, {0: (25.0, 21.0)}),
    "nlm": ("classical", 0, 40.0, {0: (24.0, 20.0)}),
    "unet": ("learned", 400_000, 5.0, {25: (25.5, 22.0), 100: (26.0, 23.0)}),
    "big": ("learned", 900_000, 9.0, {25: (25.5, 22.0), 100: (26.02, 23.02)}),
}


def scored(seeds: int = 2, levels: tuple[float, ...] = (1.0, 4.0)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 1, SUBJECTS)
    parts = []
    for method, (kind, parameters, ms, means) in METHODS.items():
        for n_train, by_level in means.items():
            for level, psnr in zip((1.0, 4.0), by_level, strict=True):
                for seed in range(seeds if kind == "learned" else 1):
                    parts.append(
                        pd.DataFrame(
                            {
                                "cell": f"noise-{level:g}-n{n_train}-{method}",
                                "task": f"noise-{level:g}",
                                "degradation": "noise",
                                "level": level,
                                "method": method,
                                "kind": kind,
                                "n_train": n_train,
                                "seed": seed,
                                "subject": [f"s{k:02}" for k in range(SUBJECTS)],
                                "image": [f"i{k:02}" for k in range(SUBJECTS)],
                                "psnr": psnr + difficulty + rng.normal(0, 0.2, SUBJECTS),
                                "parameters": parameters,
                                "infer_ms": ms,
                                "train_seconds": 60.0 if n_train else 0.0,
                            }
                        )
                    )
    rows = pd.concat(parts, ignore_index=True)
    return rows[rows["level"].isin(levels)]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return scored()


def test_of_methods_that_tie_it_names_the_cheapest_and_says_that_it_cannot_tell(
    rows: pd.DataFrame,
) -> None:
    found = recommend(rows, 1)
    assert (found.method, found.n_train, found.certain) == ("unet", 100, False)
    assert set(found.tied) == {"unet", "big"}
    assert "cannot tell" in str(found)
    assert "beats tv, the best classical method" in str(found)
    assert found.cell == "noise-1-n100-unet"


def test_a_measured_level_gives_the_numbers_of_the_report(rows: pd.DataFrame) -> None:
    part = rows[(rows["level"] == 4) & rows["n_train"].isin([0, 100])]
    by = estimate(part, "psnr")
    table = recommend(rows, 4).table.set_index("method")
    for cell, mean, low in zip(by.cells, by.mean, by.low, strict=True):
        assert table["mean"][cell.rsplit("-", 1)[1]] == pytest.approx(mean)
        assert table["low"][cell.rsplit("-", 1)[1]] == pytest.approx(low)


def test_between_levels_and_sizes_means_and_pairs_are_interpolated_in_the_logarithm(
    rows: pd.DataFrame,
) -> None:
    """Level 2 is half-way between 1 and 4, and so is 50 between 25 and 100."""
    found = recommend(rows, 2, n_train=50)
    table = found.table.set_index("method")
    cells = rows.groupby(["method", "level", "n_train"])["psnr"].mean()
    assert table["mean"]["unet"] == pytest.approx(cells["unet"].mean())
    assert table["mean"]["tv"] == pytest.approx(cells["tv"].mean())
    # The difficulty of a subject, by which intervals of means are wide, cancels in differences.
    mixed = rows[rows["method"] == "tv"].groupby("subject")["psnr"].mean()
    assert table["high"]["tv"] - table["low"]["tv"] == pytest.approx(
        2 * 2.0687 * mixed.std() / math.sqrt(SUBJECTS), rel=1e-3
    )
    assert "between the levels 1 and 4" in str(found)
    assert "between 25 and 100 training images" in str(found)


def test_limits_leave_methods_out_and_say_so(rows: pd.DataFrame) -> None:
    found = recommend(rows, 1, limits={"train_seconds": 1})
    assert (found.method, found.certain) == ("tv", True)
    assert "Left out: big (60.00 s of training); unet (60.00 s of training)." in str(found)
    assert "beats tv" not in str(found)
    with pytest.raises(UserError, match=r"no method .* tv \(3.00 ms/image\)"):
        recommend(rows, 1, limits={"infer_ms": 1})


def test_a_limit_of_time_uses_times_that_were_measured_alone_if_all_cells_have_them(
    rows: pd.DataFrame,
) -> None:
    """In the rows, tv takes 3 ms and the U-Net 5 ms."""
    cells = rows.drop_duplicates("cell")
    alone = cells["method"].map({"tv": 6.0, "nlm": 40.0, "unet": 2.0, "big": 9.0})
    timing = pd.DataFrame({"cell": cells["cell"], "device": "a CPU", "ms_1": alone})
    timing = timing.reindex(columns=timing_table.COLUMNS)
    found = recommend(rows, 1, limits={"infer_ms": 4}, timing=timing)
    assert found.method == "unet"
    assert "tv (6.00 ms/image)" in str(found)
    assert "are those of `reconbench timing` on a CPU" in str(found)
    incomplete = timing.assign(ms_1=alone.where(timing["cell"] != "noise-1-n25-unet"))
    for known in (incomplete, timing_table.EMPTY):
        found = recommend(rows, 1, limits={"infer_ms": 4}, timing=known)
        assert found.method == "tv"
        assert "Times of images are rough" in str(found)
    with pytest.raises(UserError, match=r"tv \(6.00 ms/image\).*`reconbench timing` on a CPU$"):
        recommend(rows, 1, limits={"infer_ms": 1}, timing=timing)
    assert "reconbench timing" not in str(recommend(rows, 1, timing=timing))


def test_with_fewer_images_than_any_network_had_only_classical_methods_remain(
    rows: pd.DataFrame,
) -> None:
    found = recommend(rows, 1, n_train=10)
    assert found.method == "tv"
    assert "unet (was trained on 25 images at least)" in str(found)


def test_more_images_than_measured_count_as_the_most_that_were(rows: pd.DataFrame) -> None:
    assert "with more it was not measured" in str(recommend(rows, 1, n_train=1000))


def test_networks_that_still_rose_carry_a_caution(rows: pd.DataFrame) -> None:
    assert "still rose" in str(recommend(rows, 1, rising={"noise-1-n100-unet"}))
    assert "still rose" not in str(recommend(rows, 1, rising={"noise-1-n25-unet"}))


def test_few_subjects_allow_no_recommendation_with_certainty() -> None:
    few = scored()
    few = few[few["subject"] < "s04"]
    found = recommend(few, 4)
    assert not found.certain
    assert found.method == "tv"
    assert "With 4 test subjects" in str(found)


def test_what_is_beyond_the_run_is_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"level 8 is beyond those of the run \(1, 4\)"):
        recommend(rows, 8)
    with pytest.raises(UserError, match="several levels: name one from 1, 4"):
        recommend(rows)
    with pytest.raises(UserError, match="unknown degradation of the run: 'noose'; did you mean"):
        recommend(rows, 1, degradation="noose")
    with pytest.raises(UserError, match="no cell"):
        recommend(rows[:0])
    assert recommend(scored(levels=(4.0,))).table["method"][0] in ("big", "unet")


def test_where_lower_is_better_the_lowest_is_recommended(rows: pd.DataFrame) -> None:
    from dataclasses import replace

    from bench.score_columns import STANDARD

    lower = replace(STANDARD["psnr"], name="loss", label="loss", direction="lower")
    found = recommend(rows.assign(loss=-rows["psnr"]), 1, objective=lower)
    assert found.method == recommend(rows, 1).method


def test_the_command(rows: pd.DataFrame, reconbench, tmp_path) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = reconbench("recommend", tmp_path, "--level", 1)
    assert status == 2
    assert "holds no run" in errors
