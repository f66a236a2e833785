import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm

from bench.errors import UserError
from bench.statistics import compare, estimate


def rows_of(values: dict[str, np.ndarray], per_subject: int = 1) -> pd.DataFrame:
    """Make rows of one seed; the i-th image belongs to subject i // per_subject."""
    return pd.DataFrame(
        {"cell": cell, "subject": f"s{i // per_subject:03}", "image": f"i{i:03}", "psnr": value}
        for cell, column in values.items()
        for i, value in enumerate(column)
    )


@pytest.fixture
def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 3, 60)
    return {name: 20 + k + difficulty + rng.normal(0, 0.3, 60) for k, name in enumerate("abc")}


def test_interval_is_scipys_bootstrap_of_the_mean(values: dict[str, np.ndarray]) -> None:
    ours = estimate(rows_of(values), "psnr")
    for k, column in enumerate(values.values()):
        theirs = bootstrap((column,), np.mean, method="percentile", n_resamples=20000, rng=1)
        assert ours.mean[k] == pytest.approx(column.mean())
        assert ours.low[k] == pytest.approx(theirs.confidence_interval.low, abs=0.1)
        assert ours.high[k] == pytest.approx(theirs.confidence_interval.high, abs=0.1)


def test_images_of_one_subject_count_as_one(values: dict[str, np.ndarray]) -> None:
    once = estimate(rows_of(values), "psnr")
    copied = {name: np.repeat(column, 4) for name, column in values.items()}
    four_times = estimate(rows_of(copied, per_subject=4), "psnr")
    np.testing.assert_allclose(once.high - once.low, four_times.high - four_times.low)
    np.testing.assert_allclose(once.mean, four_times.mean)


def test_differences_are_paired(values: dict[str, np.ndarray]) -> None:
    gain, low, high = estimate(rows_of(values), "psnr").gain("b", "a")
    difference = values["b"] - values["a"]
    half = norm.ppf(0.975) * difference.std(ddof=1) / np.sqrt(60)
    assert gain == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx((gain - half, gain + half), abs=0.02)


def test_ranks_of_clear_and_of_equal_cells(values: dict[str, np.ndarray]) -> None:
    clear = estimate(rows_of(values), "psnr").rank_interval()
    np.testing.assert_array_equal(clear, [[3, 2, 1], [3, 2, 1]])
    rng = np.random.default_rng(1)
    equal = {name: 20 + rng.normal(0, 3, 60) for name in "ab"}
    np.testing.assert_array_equal(
        estimate(rows_of(equal), "psnr").rank_interval(), [[1, 1], [2, 2]]
    )


def test_subjects_of_unequal_size_keep_the_mean_over_images() -> None:
    rows = pd.DataFrame(
        {"cell": "a", "subject": ["s", "s", "s", "t"], "image": list("wxyz"), "psnr": [1, 2, 3, 10]}
    )
    assert estimate(rows, "psnr").mean[0] == pytest.approx(4.0)


def test_seeds_are_averaged_first(values: dict[str, np.ndarray]) -> None:
    rows = rows_of(values)
    seeds = pd.concat([rows.assign(seed=0), rows.assign(seed=1, psnr=rows["psnr"] + 2)])
    np.testing.assert_allclose(
        estimate(seeds, "psnr").mean, estimate(rows, "psnr").mean + 1, rtol=1e-12
    )


def test_one_subject_has_no_interval(values: dict[str, np.ndarray]) -> None:
    alone = estimate(rows_of(values, per_subject=60), "psnr")
    assert np.isnan(alone.low).all()
    np.testing.assert_array_equal(alone.rank_interval(), [[1, 1, 1], [3, 3, 3]])


def test_cells_scored_on_different_images_are_refused(values: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError, match=r"^rows/c: lacks test images"):
        estimate(rows_of(values).iloc[:-1], "psnr")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_missing_score_is_named_and_counts_neither_as_0_nor_as_a_rank(
    values: dict[str, np.ndarray], bad: float
) -> None:
    rows = rows_of(values)
    rows.loc[(rows["cell"] == "b") & (rows["image"] == "i007"), "psnr"] = bad
    ours, others = estimate(rows, "psnr"), estimate(rows_of(values), "psnr")
    assert ours.unscored == {"b": ["i007"]}
    assert ours.whole == ["a", "c"]
    assert ours.mean[1] == pytest.approx(np.delete(values["b"], 7).mean())
    assert ours.low[1] == pytest.approx(others.low[1], abs=0.2)
    assert ours.gain("c", "a") == others.gain("c", "a")
    np.testing.assert_array_equal(ours.rank_interval(), [[2, 1], [2, 1]])
    with pytest.raises(ValueError, match="every image"):
        ours.gain("b", "a")


def test_a_score_that_one_seed_lacks_is_missing(values: dict[str, np.ndarray]) -> None:
    rows = rows_of(values)
    spoilt = rows.assign(seed=1)
    spoilt.loc[spoilt["cell"] == "a", "psnr"] = np.nan
    ours = estimate(pd.concat([rows.assign(seed=0), spoilt]), "psnr")
    assert list(ours.unscored) == ["a"]
    assert len(ours.unscored["a"]) == 60


def test_a_cell_without_any_score(values: dict[str, np.ndarray]) -> None:
    rows = rows_of({**values, "a": np.full(60, np.nan)})
    ours = estimate(rows, "psnr")
    assert np.isnan(ours.mean[0])
    assert ours.gain("c", "b")[0] == pytest.approx((values["c"] - values["b"]).mean())


def test_an_image_without_foreground_is_left_out_for_all_cells_alike(
    values: dict[str, np.ndarray],
) -> None:
    """And a cell whose reconstruction is spoilt, there or elsewhere, is still told from it."""
    rows = rows_of(values).assign(psnr_roi=lambda rows: rows["psnr"] - 3)
    rows.loc[rows["image"].isin(["i007", "i011"]), "psnr_roi"] = np.nan
    ours = estimate(rows, "psnr_roi")
    fewer = estimate(rows[~rows["image"].isin(["i007", "i011"])], "psnr")
    assert ours.unscored == {}
    np.testing.assert_allclose(ours.mean, fewer.mean - 3, rtol=1e-12)
    np.testing.assert_allclose(ours.low, fewer.low - 3, rtol=1e-12)
    spoilt = rows.copy()
    spoilt.loc[(rows["cell"] == "b") & (rows["image"] == "i007"), "psnr"] = np.nan
    spoilt.loc[(rows["cell"] == "c") & (rows["image"] == "i020"), "psnr_roi"] = np.nan
    after = estimate(spoilt, "psnr_roi")
    assert after.unscored == {"b": ["i007"], "c": ["i020"]}
    assert after.whole == ["a"]


def test_a_metric_without_any_score_ranks_nobody(values: dict[str, np.ndarray]) -> None:
    nowhere = estimate(rows_of(values).assign(psnr_roi=np.nan), "psnr_roi")
    assert np.isnan(nowhere.mean).all()
    assert nowhere.whole == []
    lines = pd.DataFrame({"cell": list("abc"), "method": list("abc"), "kind": "classical"})
    table = compare(lines, nowhere)
    assert table["rank"].isna().all()
    assert not table["tied_with_best"].any()


def test_equal_cells_tie_whatever_stands_beside_them() -> None:
    rng = np.random.default_rng(0)
    columns = {f"c{k:02}": rng.normal(25, 3, 37) for k in range(13)}
    columns["c12"] = columns["c03"]
    ours = estimate(rows_of(columns), "psnr")
    np.testing.assert_array_equal(ours.resampled[3], ours.resampled[12])
    assert ours.verdict("c03", "c12") == "ties with"


def test_the_order_of_the_rows_changes_no_digit(values: dict[str, np.ndarray]) -> None:
    rows = rows_of(values)
    seeds = pd.concat([rows.assign(psnr=rows["psnr"] + k / 7) for k in range(3)])
    ordered, shuffled = (
        estimate(one, "psnr") for one in (seeds, seeds.sample(frac=1, random_state=1))
    )
    np.testing.assert_array_equal(ordered.mean, shuffled.mean)
    np.testing.assert_array_equal(ordered.resampled, shuffled.resampled)


def test_a_cell_with_one_score_has_that_in_every_resample_that_has_any() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of({"a": rng.normal(25, 3, 6), "b": [np.nan] * 5 + [24.5]})
    ours = estimate(rows, "psnr")
    assert np.isnan(ours.resampled[1]).any()
    assert ours.low[1] == ours.high[1] == 24.5
    assert ours.low[0] < ours.mean[0] < ours.high[0]
