"""The model card: what a method was made of, what it scored, and what it is not for."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench import methods
from bench.opened import Run
from bench.spec import Benchmark

MOST_NOTES = 8  # sentences of the audit
REFERENCES = 2  # other methods of the task whose scores stand beside


def write(
    run: Run, cell: str, config: Mapping[str, Any], programs: Sequence[str], reason: str
) -> str:
    """Write the card as Markdown.

    Args:
        run: the run.
        cell: the cell that is exported.
        config: what `config.json` holds.
        programs: names of the files that need no ReconBench.
        reason: why there is no ONNX; empty if there is.
    """
    lines = run.board.lines
    line = lines[lines["cell"] == cell].iloc[0]
    recipe = config["refits"][str(config["seed"])]
    return "\n".join(
        [
            f"# {line['method']} for {line['degradation']} {line['level']:g}",
            "",
            *_made(run, line, recipe),
            "",
            "**Not a medical device.** It was neither made nor tested for diagnosis or treatment. "
            "A reconstruction can lack real structures and show others.",
            "",
            "## Use",
            "",
            *_use(recipe, bool(config["weights"]), programs, reason),
            "",
            "## Scores",
            "",
            *_scores(run, lines, line),
            "",
            "## Data",
            "",
            *_data(run.spec, run.manifest.get("audit") or {}, line),
            "",
            "## Limits",
            "",
            *_limits(recipe),
            "",
        ]
    )


def _made(run: Run, line: pd.Series, recipe: Mapping[str, Any]) -> list[str]:
    """Describe what it is, and how it was tuned and trained."""
    found = methods.find(recipe["method"])
    about = next(iter((found.target.__doc__ or "").strip().splitlines()), "")
    budget = run.spec.budget
    settings = ", ".join(f"`{key}` {value}" for key, value in recipe["config"].items())
    trained = (
        f"{budget.steps} optimiser steps with batches of {budget.batch_size}, on "
        f"{line['n_train']} images; {line['parameters']:,} parameters, {line['seeds']} training"
        f"{'s' if line['seeds'] > 1 else ''}"
        if found.learned
        else "no training"
    )
    origin = "of ReconBench" if found.built_in else "not a part of ReconBench itself"
    return [
        f"{about} (`{recipe['method']}`, {origin}; benchmark `{run.spec.name}`.)",
        "",
        f"- settings, the best of {line['trials']} trials on validation images: "
        f"{settings or 'none'}",
        f"- {trained}",
    ]


def _use(
    recipe: Mapping[str, Any], weights: bool, programs: Sequence[str], reason: str
) -> list[str]:
    """Explain how it is called."""
    options = {k: v for k, v in recipe["degradation"].items() if k not in ("name", "label")}
    said = ", ".join(f"{key}: {value}" for key, value in options.items())
    found = [
        f"Measurements are of `{recipe['degradation']['name']}` at level {recipe['level']:g}"
        f"{f' ({said})' if said else ''}, of images scaled to [0, 1].",
        "",
        "- `load.py`: the lines that load it with ReconBench; `model(y)` is the reconstruction.",
        "- `config.json` and `seed_*.safetensors`: the settings and the weights of each training."
        if weights
        else "- `config.json`: the settings.",
    ]
    if "model.pt2" in programs:
        found.append(
            "- `model.pt2`: `torch.export.load('model.pt2').module(check_guards=False)(image)`, in "
            "PyTorch alone."
        )
    if "model.onnx" in programs:
        found.append(
            "- `model.onnx`: for onnxruntime and others. `check_onnx.py` compares it with PyTorch "
            "on `examples.npz` (phantoms)."
        )
    if programs:
        found += [
            "",
            "Programs take the first estimate `A_dagger(y)` (in denoising: the noisy image), "
            "float32 of shape (images, 1, height, width), and return images in [0, 1].",
        ]
    if reason:
        found += ["", f"Without ONNX: {reason}."]
    return found


def _scores(run: Run, lines: pd.DataFrame, line: pd.Series) -> list[str]:
    """Show its scores, beside the best and the best classical method of the task."""
    task = lines[(lines["degradation"] == line["degradation"]) & (lines["level"] == line["level"])]
    classical = task[task["kind"] == "classical"].head(1)
    shown = pd.concat([task.head(1), classical, line.to_frame().T]).drop_duplicates("cell")
    subjects = run.rows.loc[run.rows["cell"] == line["cell"], "subject"].nunique()
    table = ["| rank | method | training images | PSNR (dB) | SSIM |", "|---|---|---|---|---|"]
    for one in task[task["cell"].isin(shown["cell"])].itertuples():
        name = f"**{one.method}**" if one.cell == line["cell"] else one.method
        rank = "" if pd.isna(one.rank) else f"{int(one.rank)}"
        table.append(
            f"| {rank} | {name} | {one.n_train or '-'} | "
            f"{one.psnr:.2f} [{one.psnr_low:.2f}, {one.psnr_high:.2f}] | "
            f"{one.ssim:.3f} [{one.ssim_low:.3f}, {one.ssim_high:.3f}] |"
        )
    verdict = str(line.get("against_classical") or "")
    return [
        f"Means over {line['images']} test images of {subjects} subjects, of {len(task)} methods "
        "and sizes on the same measurements; brackets are 95 % intervals.",
        "",
        *table,
        *(["", f"It {verdict}."] if verdict else []),
    ]


def _data(spec: Benchmark, audit: Mapping[str, Any], line: pd.Series) -> list[str]:
    """Describe what it learned from, and what the audit found."""
    badges = f" Badges: {line['badges']}." if line["badges"] else ""
    size = spec.dataset.image_size
    notes = [f"- {note}" for note in (audit.get("notes") or [])[:MOST_NOTES]]
    return [
        f"`{spec.dataset.label}`, {size}x{size} pixels, split by subject.{badges} The licence of "
        "the images is not known to ReconBench.",
        *(["", *notes] if notes else []),
    ]


def _limits(recipe: Mapping[str, Any]) -> list[str]:
    """State where its scores do not hold."""
    size = recipe["image_size"]
    return [
        "- The scores hold for images like those above, degraded as above: other scanners, body "
        "parts, contrasts, noise levels and sizes were not tested.",
        f"- It saw images of {size}x{size} pixels; on others its results are not known.",
        "- Means over images say nothing about small lesions.",
    ]
