"""The leaderboard: one line per cell, ranked within its task."""

from dataclasses import dataclass

import pandas as pd

from bench import badges as marks
from bench.statistics import Estimate, compare, estimate

COLUMNS = [
    "rank", "rank_low", "rank_high", "method", "degradation", "level", "n_train",
    "psnr", "psnr_low", "psnr_high", "ssim", "ssim_low", "ssim_high",
    "parameters", "train_seconds", "infer_ms", "trials", "seeds",
    "tied_with_best", "badges", "replay", "against_classical", "steps",
]  # fmt: skip
TASK = ["degradation", "level"]
NAMED = 5  # images, in a sentence


@dataclass(frozen=True)
class Leaderboard:
    """The table, and what it says in a sentence per task."""

    table: pd.DataFrame
    findings: list[str]


def build(
    rows: pd.DataFrame, trials: pd.DataFrame, badges: list[str], run: str, refit_steps: int = 0
) -> Leaderboard:
    """Rank the cells of every task by mean test PSNR.

    Args:
        rows: all rows of a run.
        trials: all its trials.
        badges: marks that every line carries.
        run: the run folder, as the replay commands name it.
        refit_steps: optimiser steps of a network's refit, which with those of its trials are what
            its line has spent.
    """
    tables: list[pd.DataFrame] = []
    findings: list[str] = []
    for (degradation, level), part in rows.groupby(TASK):
        psnr = estimate(part, "psnr")
        lines = _lines(part, psnr, estimate(part, "ssim"))
        tables.append(lines.sort_values(["rank", "psnr"], ascending=[True, False], kind="stable"))
        task = f"{degradation} {level:g}"
        whole = lines[lines["rank"].notna()]
        findings += [*(_findings(task, whole, psnr) if len(whole) else []), *_lacking(task, lines)]
    if not tables:
        return Leaderboard(pd.DataFrame(columns=COLUMNS), [])
    table = pd.concat(tables, ignore_index=True)
    counts = trials.groupby("cell").size()
    table["trials"] = table["cell"].map(counts).fillna(0).astype(int)
    searched = trials.groupby("cell")["step"].sum() if "step" in trials else pd.Series(dtype=int)
    refits = table["seeds"].where(table["kind"] == "learned", 0) * refit_steps
    table["steps"] = table["cell"].map(searched).fillna(0).astype(int) + refits
    table["badges"] = [marks.of_line(badges, not lacking) for lacking in table["unscored"]]
    table["replay"] = [marks.replay(run, cell) for cell in table["cell"]]
    return Leaderboard(table[COLUMNS], findings)


def _lines(rows: pd.DataFrame, psnr: Estimate, ssim: Estimate) -> pd.DataFrame:
    """Build the lines of one task, less what only the whole run knows."""
    by_cell = rows.groupby("cell")
    lines = by_cell[["method", "kind", *TASK, "n_train", "parameters"]].first()
    lines[["train_seconds", "infer_ms"]] = by_cell[["train_seconds", "infer_ms"]].mean()
    lines["seeds"] = by_cell["seed"].nunique()
    lines = lines.loc[psnr.cells].reset_index()
    for name, values in (("psnr", psnr), ("ssim", ssim)):
        lines[name], lines[f"{name}_low"], lines[f"{name}_high"] = (
            values.mean, values.low, values.high,
        )  # fmt: skip
    lines["images"] = rows["image"].nunique()
    lines["unscored"] = [psnr.unscored.get(cell, []) for cell in psnr.cells]
    return compare(lines, psnr)


def _lacking(task: str, lines: pd.DataFrame) -> list[str]:
    """Name the images on which a method has no score."""
    return [
        f"{task}: {line['method']}{_of_size(line['n_train'])} has no score on "
        f"{len(line['unscored'])} of {line['images']} test images "
        f"({', '.join(line['unscored'][:NAMED])}{', ...' if len(line['unscored']) > NAMED else ''})"
        ", where a pixel of its reconstruction is no finite number; it has no rank, and its means "
        "are those of the other images."
        for _, line in lines.iterrows()
        if line["unscored"]
    ]


def _of_size(n_train: int) -> str:
    """Add a training-set size to a method's name; nothing where it needs no training images."""
    return f" ({n_train} training images)" if n_train else ""


def _findings(task: str, lines: pd.DataFrame, psnr: Estimate) -> list[str]:
    """State for each training-set size which network is best and how it compares with the best
    classical method.
    """
    ranked = lines.sort_values("psnr", ascending=False)
    classical = ranked[ranked["kind"] == "classical"]
    learned = ranked[ranked["kind"] == "learned"]
    if classical.empty or learned.empty:
        winner = ranked.iloc[0]
        return [f"{task}: best is {winner['method']} with {winner['psnr']:.2f} dB."]
    reference = classical.iloc[0]
    sentences = []
    for n_train, group in learned.groupby("n_train"):
        network = group.iloc[0]
        gain, low, high = psnr.gain(network["cell"], reference["cell"])
        verdict = psnr.verdict(network["cell"], reference["cell"])
        sentences.append(
            f"{task}, {n_train} training images: {network['method']} ({network['psnr']:.2f} dB) "
            f"{verdict} {reference['method']} ({reference['psnr']:.2f} dB), the best classical "
            f"method: {gain:+.2f} dB [{low:+.2f}, {high:+.2f}]."
        )
    return sentences
