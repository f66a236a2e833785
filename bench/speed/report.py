"""What a report of a large run costs: tables of a million rows to all its files."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from bench import report
from bench.spec import parse
from bench.store import Store

TASKS, METHODS, SIZES, IMAGES, SEEDS = 20, 20, (10, 25, 50, 100, 200), 250, 2
STEPS = range(50, 401, 50)


def page() -> str:
    """Measure, and return the page as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "run")
        rows = fill(store)
        before = psutil.Process().memory_info().rss
        start, cpu = time.perf_counter(), time.process_time()
        report.write(store)
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = peak_memory()
        size = (Path(folder) / "run/report/leaderboard.html").stat().st_size
    cells = TASKS * METHODS * len(SIZES)
    return (
        "# What a large report costs\n\n"
        "Measured by `make speed PART=report`: the report of a run, from its Parquet files to all "
        f"its pages, for {rows:,} rows of {cells:,} cells in {TASKS} tasks, {IMAGES} test images "
        "each.\n\n"
        "| what | measured |\n|---|---|\n"
        f"| seconds | {took:.1f} |\n| CPU seconds | {cpu:.1f} |\n"
        f"| peak of memory | {peak / 1e6:.0f} MB, {before / 1e6:.0f} MB of it before the report |\n"
        f"| leaderboard.html | {size / 1e6:.1f} MB |\n"
    )


def peak_memory() -> int:
    """Return the most memory that this process has held."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return 1024 * int(line.split()[1])


def fill(store: Store) -> int:
    """Write the tables of a run without running it; return the number of rows."""
    generator = np.random.default_rng(0)
    methods = [{"name": "unet", "label": f"net{k:02}"} for k in range(METHODS)]
    levels = [(k + 1) / 100 for k in range(TASKS)]
    spec = parse(
        {
            "name": "large",
            "dataset": {"source": "template", "image_size": 64},
            "degradations": [{"name": "gaussian_noise", "levels": levels}],
            "n_train": list(SIZES),
            "methods": methods,
            "seeds": SEEDS,
        }
    )
    store.begin(spec, {"val": "digest"})
    store.write_manifest(cells=TASKS * METHODS * len(SIZES))
    count = 0
    for task, level in enumerate(levels):
        difficulty = generator.normal(0, 2, IMAGES)
        for method in range(METHODS):
            for size in SIZES:
                count += _cell(store, generator, task, level, method, size, difficulty)
    return count


def _cell(
    store: Store,
    generator: np.random.Generator,
    task: int,
    level: float,
    method: int,
    size: int,
    difficulty: np.ndarray,
) -> int:
    """Write the rows, trials and validations of a cell; return the number of rows."""
    name = f"template-gaussian_noise-{level:g}"
    label = f"net{method:02}"
    cell = f"{name}-n{size}-{label}"
    classical = method == 0
    for seed in range(SEEDS):
        psnr = 25 - task / 2 + method / 20 * np.log10(size) + difficulty
        psnr = psnr + generator.normal(0, 0.5, IMAGES)
        rows = pd.DataFrame({"image": [f"i{k:03}" for k in range(IMAGES)], "psnr": psnr})
        facts = {
            "cell": cell, "task": name, "dataset": "template", "degradation": "gaussian_noise",
            "level": level, "n_train": size, "method": label, "seed": seed,
            "kind": "classical" if classical else "learned", "measurement_hash": "h",
            "ssim": psnr / 40, "nmse": 0.1, "psnr_volume": psnr, "ssim_volume": psnr / 40,
            "psnr_roi": psnr - 3, "ssim_roi": psnr / 40, "data_residual": 0.1,
            "train_seconds": 1.0, "infer_ms": 1.0, "parameters": 1000 * (method + 1),
        }  # fmt: skip
        store.write_rows(cell, seed, rows.assign(subject=rows.image, **facts))
        steps = np.array(STEPS)
        curve = pd.DataFrame({"step": steps, "psnr": 30 - 20 * steps**-0.5, "ssim": 0.5})
        store.write_curve(cell, seed, curve)
    trials = pd.DataFrame({"trial": range(6), "state": "complete", "psnr": 25.0, "step": 400})
    store.write_trials(cell, trials.assign(cell=cell, config=json.dumps({"lr": 1e-3})))
    return SEEDS * IMAGES
