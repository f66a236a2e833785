"""What several small trials on one GPU gain over one at a time."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from bench.errors import UserError

SHARES = (1.0, 0.5, 0.25)
FILE = {
    "name": "packing",
    "dataset": {"source": "template", "image_size": 64, "n_val": 8, "n_test": 8},
    "degradations": [{"name": "gaussian_noise", "levels": [0.1]}],
    "n_train": [100],
    "budget": {"trials": 16, "steps": 1000, "reports": 2},
    "search": {"pruner": "none"},
    "seeds": 1,
    "pictures": 0,
}


def page() -> str:
    """Measure, and give the table as Markdown.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("packing: needs a GPU")
    seconds = {share: _seconds(share) for share in SHARES}
    lines = [
        "# Several small trials on one GPU",
        "",
        f"Made by `make speed PART=packing` on one {torch.cuda.get_device_name()} and "
        f"{os.cpu_count()} CPUs: {FILE['budget']} of the default U-Net on 64x64 pixels, from the "
        "beginning of the first trial to the end of the last.",
        "",
        "| share of the GPU of each trial | seconds | gain |",
        "|---|---|---|",
        *(
            f"| {share:g} | {took:.1f} | {seconds[1.0] / took:.2f} |"
            for share, took in seconds.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _seconds(share: float) -> float:
    """Run the search with that share of a GPU for each trial."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        methods = [{"name": "unet", "gpus": share}]
        (place / "spec.yaml").write_text(json.dumps({**FILE, "methods": methods}))
        subprocess.run(
            [sys.executable, "-m", "bench", "run", "spec.yaml", "--out", "run",
             "--events", "events.jsonl"],
            cwd=place, check=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]),
                 "CUDA_VISIBLE_DEVICES": "0"},
        )  # fmt: skip
        events = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
    ended = [event for event in events if event["event"] == "ended" and "trial" in event]
    first = min(event["time"] - event["seconds"] for event in ended)
    return max(event["time"] for event in ended) - first
