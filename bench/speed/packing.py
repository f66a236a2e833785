"""The speed of several small trials at once on one GPU, compared with one at a time."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.errors import UserError
from bench.speed import events_of

SHARES = (1.0, 0.5, 0.25, 0.125)
TEMPLATE = {"source": "template", "image_size": 64, "n_val": 8, "n_test": 8}
FILE: dict[str, Any] = {
    "name": "packing",
    "degradations": [{"name": "gaussian_noise", "levels": [0.1]}],
    "n_train": [100],
    "budget": {"trials": 16, "steps": 1000, "reports": 2},
    "search": {"pruner": "none"},
    "seeds": 1,
    "pictures": 0,
}


def page() -> str:
    """Measure, and return the table as Markdown.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("packing: needs a GPU")
    seconds = {share: seconds_of(share) for share in SHARES}
    lines = [
        "# Several small trials on one GPU",
        "",
        f"Measured by `make speed PART=packing` on one {torch.cuda.get_device_name()} and "
        f"{os.cpu_count()} CPUs: {FILE['budget']} of the default U-Net on 64x64 pixels, from the "
        "start of the first trial to the end of the last.",
        "",
        "| share of the GPU of each trial | seconds | gain |",
        "|---|---|---|",
        *(
            f"| {share:g} | {took:.1f} | {seconds[1.0] / took:.2f} |"
            for share, took in seconds.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def seconds_of(share: float, dataset: Mapping[str, Any] = TEMPLATE, **changes: Any) -> float:
    """Time the search with that share of a GPU for each trial.

    Args:
        share: of a GPU, for each trial.
        dataset: as in a benchmark file.
        changes: of the benchmark file.
    """
    with tempfile.TemporaryDirectory() as folder:
        methods = [{"name": "unet", "gpus": share}]
        benchmark = {**FILE, "dataset": dict(dataset), "methods": methods, **changes}
        events = events_of(benchmark, Path(folder))
    ended = [event for event in events if event["event"] == "ended" and "trial" in event]
    first = min(event["time"] - event["seconds"] for event in ended)
    return max(event["time"] for event in ended) - first
