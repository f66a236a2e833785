import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm, ttest_rel, wilcoxon

from bench import signed_rank
from bench.errors import UserError
from bench.statistics import compare, estimate


def rows_of(values: dict[str, np.ndarray], per_subject: int = 1) -> pd.DataFrame:
    """Make rows of one seed; the i-th image belongs to subject i // per_subject."""
    return pd.DataFrame(
        {
            "cell": cell,
            "seed": 0,
            "subject": f"s{i // per_subject:03}",
            "image": f"i{i:03}",
            "psnr": value,
        }
        for cell, column in values.items()
        for i, value in enumerate(column)
    )


@pytest.fixture
def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 3, 60)
    return {name: 20 + k + difficulty + rng.normal(0, 0.3, 60) for k, name in enumerate("abc")}


def test_interval_is_near_scipys_bootstrap_of_the_mean(values: dict[str, np.ndarray]) -> None:
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
        {
            "cell": "a",
            "seed": 0,
            "subject": ["s", "s", "s", "t"],
            "image": list("wxyz"),
            "psnr": [1, 2, 3, 10],
        }
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
    assert ours.gain("c03", "c12") == (0, 0, 0)
    assert ours.p_value("c03", "c12") == 1
    assert ours.verdict("c03", "c12") == "ties with"


def test_the_order_of_the_rows_changes_no_digit(values: dict[str, np.ndarray]) -> None:
    rows = rows_of(values)
    seeds = pd.concat([rows.assign(seed=k, psnr=rows["psnr"] + k / 7) for k in range(3)])
    ordered, shuffled = (
        estimate(one, "psnr") for one in (seeds, seeds.sample(frac=1, random_state=1))
    )
    np.testing.assert_array_equal(ordered.mean, shuffled.mean)
    np.testing.assert_array_equal(ordered.units, shuffled.units)
    np.testing.assert_array_equal(ordered.low, shuffled.low)


def test_a_cell_scored_on_one_subject_has_a_mean_and_no_interval() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of({"a": rng.normal(25, 3, 6), "b": [np.nan] * 5 + [24.5]})
    ours = estimate(rows, "psnr")
    assert ours.mean[1] == 24.5
    assert np.isnan(ours.low[1])
    assert ours.low[0] < ours.mean[0] < ours.high[0]


def simulated(rng: np.random.Generator, subjects: int) -> pd.DataFrame:
    """Make rows of five cells, the first without random trainings, of a known truth: each has a
    mean of 25 over all subjects and all trainings.

    Subjects differ in difficulty, the same for all cells; each suits some cells more than others;
    and some trainings turn out better.
    """
    shape = (5, 3, subjects)
    random = np.array([0, 1, 1, 1, 1])[:, None, None]
    psnr = 25 + rng.normal(0, 2, subjects) + rng.normal(0, 0.4, (5, 1, subjects))
    psnr = psnr + random * (rng.normal(0, 0.1, (5, 3, 1)) + rng.normal(0, 0.2, shape))
    cell, seed, subject = np.indices(shape).reshape(3, -1)
    rows = pd.DataFrame({"cell": np.array(list("abcde"))[cell], "seed": seed, "subject": subject})
    return rows.assign(image=subject, psnr=psnr.ravel())[(cell > 0) | (seed == 0)]


@pytest.mark.parametrize("subjects", [20, 60])
def test_intervals_cover_the_truth_and_verdicts_are_rarely_false(subjects: int) -> None:
    """Of 300 tables in which all cells are equally good: every mean is 25, every difference 0."""
    rng = np.random.default_rng(1)
    means, differences, false = [], [], 0
    for _ in range(300):
        ours = estimate(simulated(rng, subjects), "psnr")
        means += list((ours.low <= 25) & (ours.high >= 25))
        bounds = [ours.gain(a, b)[1:] for a, b in zip(ours.cells, ours.cells[1:], strict=False)]
        differences += [low <= 0 <= high for low, high in bounds]
        false += (ours.rank_interval() != [[1] * 5, [5] * 5]).any()
    assert 0.93 <= np.mean(means) <= 0.97
    assert 0.93 <= np.mean(differences) <= 0.97
    assert false / 300 <= 0.05


def test_a_verdict_needs_both_tests_and_survives_the_correction() -> None:
    rng = np.random.default_rng(3)
    columns = {f"c{k}": rng.normal(25 + (k == 4), 1, 40) for k in range(5)}
    ours = estimate(rows_of(columns), "psnr")
    pairs = list(itertools.combinations(ours.cells, 2))
    raw = [
        max(
            ttest_rel(columns[a], columns[b]).pvalue,
            wilcoxon(columns[a] - columns[b], method="exact").pvalue,
        )
        for a, b in pairs
    ]
    expected, least = {}, 0.0
    for place, index in enumerate(np.argsort(raw)):
        least = max(least, min(1, raw[index] * (len(pairs) - place)))
        expected[pairs[index]] = least
    for (a, b), p in expected.items():
        assert ours.p_value(a, b) == ours.p_value(b, a) == pytest.approx(p)
    assert ours.verdict("c4", "c0") == "beats"
    assert ours.verdict("c0", "c4") == "loses to"
    assert ours.rank_interval()[:, 4].tolist() == [1, 1]


def test_few_subjects_allow_no_verdict_however_clear() -> None:
    clear = {name: 20 + k + np.arange(8) / 100 for k, name in enumerate("abc")}
    ours = estimate(rows_of(clear), "psnr")
    assert ours.subjects_needed == 7
    assert ours.verdict("c", "a") == "beats"
    fewer = estimate(rows_of({name: column[:6] for name, column in clear.items()}), "psnr")
    assert fewer.verdict("c", "a") == "ties with"


@pytest.mark.parametrize(("subjects", "method"), [(2, "exact"), (30, "exact"), (80, "asymptotic")])
def test_signed_ranks_of_many_pairs_are_scipys_of_each(subjects: int, method: str) -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(0.1, 1, (40, subjects))
    difference[:10] = difference[:10].round(1)  # ties and zeros
    difference[10, :2] = 0.0, -0.0
    difference[11, 1] = -difference[11, 0]
    difference[12] = 0
    expected = [
        wilcoxon(one, zero_method="zsplit", method=method).pvalue if one.any() else 1.0
        for one in difference
    ]
    assert signed_rank.p_values(difference) == pytest.approx(expected, rel=1e-12)
    assert (signed_rank.p_values(difference[:, :1]) == 1).all()
