"""What stopping unpromising trials early saves: the small-data benchmark with and without."""

import tempfile
from collections import defaultdict
from itertools import accumulate
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from bench import spec
from bench.speed import events_of

SPEC = Path(__file__).parents[1] / "specs" / "small_data.yaml"
SIZE = 32  # pixels along each side
# Early stopping needs several trials, and several validations of each.
BUDGET = {"trials": 18, "steps": 120, "reports": 8}
CHANGES = {
    "dataset": {"image_size": SIZE},
    "methods": ["unet", "attention_residual_unet"],
    "budget": BUDGET,
    "seeds": 1,
    "pictures": 0,
}
NEAR = 0.1  # dB

# A cell's best validation PSNR of complete trials after so many optimiser steps.
Curve = list[tuple[int, float]]


def page() -> str:
    """Measure, and return the page as Markdown."""
    curves = {pruner: _curves(pruner) for pruner in ("none", "asha")}
    _draw(curves)
    lines = [
        "# Does early stopping pay?",
        "",
        "Measured by `make speed PART=pruning`: `unet` and `attention_residual_unet` on the tasks "
        f"of `bench/specs/small_data.yaml`, images of {SIZE}x{SIZE} pixels, "
        f"with {BUDGET['trials']} trials of {BUDGET['steps']} steps and "
        f"{BUDGET['reports']} validations, searched without early stopping and with "
        "ASHA, which resumes the best third of the trials after an eighth and after three eighths "
        "of the steps. Steps: optimiser steps of all trials of a cell. PSNR: of the best complete "
        "trial, on validation images. Last column: the steps after which the search with ASHA was "
        f"within {NEAR} dB of the result without it, as a share of all steps without it.",
        "",
        "| cell | steps, none | steps, asha | ratio | PSNR, none | PSNR, asha | difference "
        f"| steps to within {NEAR} dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratios, differences, nears = [], [], []
    for cell, whole in curves["none"].items():
        pruned = curves["asha"][cell]
        (steps, best), (fewer, other) = whole[-1], pruned[-1]
        near = next((step for step, psnr in pruned if psnr >= best - NEAR), None)
        ratios.append(fewer / steps)
        differences.append(other - best)
        nears.append(near / steps if near else np.inf)
        lines.append(
            f"| {cell} | {steps:,} | {fewer:,} | {fewer / steps:.2f} | {best:.2f} | {other:.2f} "
            f"| {other - best:+.2f} | {f'{near / steps:.2f}' if near else 'never'} |"
        )
    share, loss = (
        f"{np.median(values):{form}} ({fmean(values):{form}})"
        for values, form in ((ratios, ".2f"), (differences, "+.2f"))
    )
    lines += [
        "",
        f"Median over cells (and mean): {share} of the steps, {loss} dB; within "
        f"{NEAR} dB at the end in {np.isfinite(nears).sum()} of {len(nears)} cells.",
        "",
        "![Best validation PSNR against optimiser steps](speed_pruning.png)",
    ]
    return "\n".join(lines) + "\n"


def _curves(pruner: str) -> dict[str, Curve]:
    """Run the search, and extract the curve of each cell from the events."""
    with tempfile.TemporaryDirectory() as folder:
        benchmark = spec.load(SPEC, {**CHANGES, "search": {"pruner": pruner}})
        events = events_of(benchmark.model_dump(), Path(folder))
    found: dict[str, Curve] = defaultdict(list)
    spent: dict[str, dict[int, int]] = defaultdict(dict)
    for event in events:
        if "trial" not in event or "step" not in event:
            continue
        cell, trial = event["cell"], event["trial"]
        # A trial that resumes repeats its earlier events.
        spent[cell][trial] = max(event["step"], spent[cell].get(trial, 0))
        if event["event"] == "ended" and event["step"] == benchmark.budget.steps:
            found[cell].append((sum(spent[cell].values()), event["best"]))
    # The steps of trials that stopped after the last complete one count too.
    for cell, curve in found.items():
        curve.append((sum(spent[cell].values()), max(best for _, best in curve)))
    return {
        cell: list(
            zip((step for step, _ in curve), accumulate((b for _, b in curve), max), strict=True)
        )
        for cell, curve in found.items()
    }


def _draw(curves: dict[str, dict[str, Curve]]) -> None:
    """Draw the mean over cells of the gap to the best that either search found."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    top = {cell: max(curves[pruner][cell][-1][1] for pruner in curves) for cell in curves["none"]}
    for pruner, name in (("none", "every trial to its end"), ("asha", "ASHA")):
        mine = curves[pruner]
        end = fmean(curve[-1][0] for curve in mine.values())
        steps = np.linspace(0, end, 400)
        gaps = [fmean(_reached(mine[cell], step) - top[cell] for cell in mine) for step in steps]
        axes.plot(steps, gaps, label=name, linewidth=2.5)
        axes.plot(end, gaps[-1], "o", color=axes.lines[-1].get_color())
    axes.axhline(-NEAR, color="grey", linestyle=":", label=f"{NEAR} dB below the best")
    axes.set_xlabel("optimiser steps of a cell's trials")
    axes.set_ylabel("best validation PSNR so far,\nbelow the best found (dB)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig("docs/speed_pruning.png", dpi=150)


def _reached(curve: Curve, step: float) -> float:
    return max((psnr for spent, psnr in curve if spent <= step), default=np.nan)
