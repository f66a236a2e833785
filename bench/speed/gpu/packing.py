"""Part 5: how long the same trials take with 1, 2, 4 and 8 of them at once on one GPU."""

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.speed.gpu.setting import Setting, noted
from bench.speed.packing import FILE, SHARES, seconds_of

NEEDED = ("ray", "optuna", "cmaes", "pyarrow", "duckdb", "joblib", "rich", "typer", "numba")
SIZE, STEPS = 64, 400


def lines(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time the same search with each share of a GPU for a trial."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing or setting.device != "cuda":
        yield {"not_measured": f"needs {', '.join(missing) or 'a GPU'}"}
        return
    with tempfile.TemporaryDirectory() as folder:
        sets = setting.image_sets(SIZE)
        for images in sets.values():
            for name, image in zip(images.ids, images.images[:, 0], strict=True):
                np.save(Path(folder) / f"{name.replace(' ', '-')}.npy", image)
        dataset = {"path": folder, "image_size": SIZE, "n_val": 8, "n_test": 8}
        budget = {**FILE["budget"], "steps": STEPS}
        for share in SHARES:
            line: dict[str, Any] = {"trials_at_once": round(1 / share)}
            with noted(line):
                line["seconds"] = seconds_of(share, dataset, budget=budget)
            yield line
