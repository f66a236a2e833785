"""The costs of a large sweep beside its training: the driver's time, and memory."""

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import ray
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from bench import spec, sweep, training
from bench.cells import cells_of
from bench.data import ImageSet, Split
from bench.data.measurement import Measured, opened
from bench.physics._coils import birdcage
from bench.physics._phantom import phantom
from bench.physics.mri_cartesian import fourier
from bench.scoring import physics_of, score_refit
from bench.seeds import derive_seed
from bench.speed.sweep import Trivial
from bench.store import Store
from bench.sweep.searcher import SweepSearcher
from bench.sweep.studies import Studies
from bench.sweep.trial import CellTrial

CELLS, TRIALS, AT_ONCE = 10_000, 5_000, 8
IMAGES, SIZE = 2000, 250  # 500 MB
RAW_SLICES, RAW_COILS, RAW_SIZE = 2000, 8, 256
RAW_FILES, RAW_IN_FILE = 2, 8  # for the measurement of their preparation
SECONDS = 1.0  # between measurements of memory
NODES, SLOTS, TRIAL_SECONDS, TEST_IMAGES = (1, 10, 100), 16, 60, 60
METHOD = "bench.speed.scale:Slow"


class Slow(Trivial):
    """A network whose training takes time, but hardly any CPU time."""

    def forward(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Filter."""
        if self.training and torch.is_grad_enabled():
            time.sleep(0.2)
        return super().forward(x)


class Simulated(CellTrial):
    """Reports like a trial, without training."""

    def work(self) -> Generator[dict[str, Any], None, None]:
        """Yield three validations, whose PSNR derives from the configuration, and the end."""
        psnr = 20 + derive_seed(str(self.job.config)) % 1000 / 100
        values = {"ssim": 0.5, "parameters": 1000, "seconds": 0.0}
        for step in (3, 6, 9):
            yield {"step": step, "psnr": psnr, "best": psnr, **values}
        yield {"step": 9, "psnr": psnr, "best": psnr, **values, "done": True}


@dataclass(frozen=True)
class Driver:
    """The costs of the driver.

    Attributes:
        first: seconds until the first trial had begun.
        rate: trials and refits per second from then on.
        growth: bytes by which its memory grew after the first trial had ended.
        journal: bytes of the Optuna journal, per trial.
    """

    first: float
    rate: float
    growth: int
    journal: float


def page() -> str:
    """Measure, and return the page as Markdown."""
    begin = _begin()
    driver = _driver()
    row = _row()
    little, much = (_resident(count) for count in (IMAGES // 100, IMAGES))
    raw, stored = _resident_raw(), 8 * RAW_SLICES * RAW_COILS * RAW_SIZE**2
    prepared, each = _preparing()
    size = 4 * SIZE**2 * (IMAGES - IMAGES // 100)
    lines = [
        "# What a large sweep costs",
        "",
        f"Measured by `make speed PART=scale` on {os.cpu_count()} CPUs with {AT_ONCE} trials at "
        "once. For the measurements of the driver, trials are simulated; Tune, journal and tables "
        "are real.",
        "",
        "| what | measured |",
        "|---|---|",
        f"| preparing a benchmark of {CELLS:,} cells | {begin:.1f} s |",
        f"| trials and refits per second, in {TRIALS:,} trials | {driver.rate:.1f} |",
        f"| growth of the driver's memory over {TRIALS:,} trials | {driver.growth / 1e6:.0f} MB |",
        f"| journal per trial | {driver.journal / 1e3:.1f} kB |",
        f"| memory for {size / 1e6:.0f} MB of images in driver, cluster and {AT_ONCE} trials"
        f" | {(much - little) / 1e6:.0f} MB, {(much - little) / size:.2f} times their size |",
        f"| memory for {RAW_SLICES:,} slices of raw k-space, {RAW_COILS} coils of "
        f"{RAW_SIZE}x{RAW_SIZE} ({2 * stored / 1e9:.1f} GB with maps, mapped from files), in "
        f"driver, cluster and {AT_ONCE} trials | {raw / 1e9:.1f} GB |",
        "| preparing such slices: memory of the process, and CPU seconds for each, mostly for "
        f"ESPIRiT | {prepared / 1e9:.1f} GB, {each:.1f} s |",
        f"| one row, in tables of {TEST_IMAGES} | {row:.0f} bytes |",
        "",
        "Raw k-space stays in files that all processes map into memory; "
        f"{4 * RAW_SLICES * RAW_SIZE**2 / 1e9:.1f} GB of what it took are the images. The files "
        "were sparse, so the speed of a disk was not measured.",
        "",
        "## Extrapolation",
        "",
        f"What follows for one hour, if each node runs {SLOTS} trials at once and a trial takes "
        f"{TRIAL_SECONDS} seconds; a tenth of the trials are refits, each of which writes a table:",
        "",
        "| nodes | trials per second | share of the driver's capacity | rows | size of the rows "
        "| journal | growth of the driver | shortest trial that keeps the nodes busy |",
        "|---|---|---|---|---|---|---|---|",
        *(_extrapolated(nodes, driver, row) for nodes in NODES),
        "",
        "The driver is the first bottleneck: Tune decides about one trial after another. Beyond "
        "its capacity, use longer trials (more steps, or several CPUs per trial), or several runs, "
        "each with `--only` and its own folder. Images, weights and rows do not pass through the "
        "driver.",
    ]
    return "\n".join(lines) + "\n"


def _extrapolated(nodes: int, driver: Driver, row: float) -> str:
    rate = nodes * SLOTS / TRIAL_SECONDS
    hour = 3600 * rate
    rows = hour / 10 * TEST_IMAGES
    memory = hour * driver.growth / TRIALS
    return (
        f"| {nodes} | {rate:.2f} | {100 * rate / driver.rate:.0f} % | {rows:,.0f} "
        f"| {rows * row / 1e6:.0f} MB | {hour * driver.journal / 1e6:.0f} MB "
        f"| {memory / 1e6:.0f} MB | {nodes * SLOTS / driver.rate:.1f} s |"
    )


def _row() -> float:
    """Return the bytes of a row in the table of a refit."""
    benchmark = _benchmark(4, 1, methods=[METHOD])
    (cell, *_) = cells_of(benchmark)
    images = _images(1, 32, TEST_IMAGES)
    operator, test = physics_of(cell, benchmark, images.val), images.test
    model = training.build(METHOD, {}, operator).eval()
    fit = training.Fit(model, 20.0, 0.5, 20.0, 1, [], training.Spent(1.0, 1.0), 10)
    rows, _ = score_refit(cell, 0, fit, operator, test)
    return len(rows.to_parquet(index=False)) / TEST_IMAGES


def _benchmark(cells: int, trials: int, n_train: int = 4, **changes: Any) -> spec.Benchmark:
    levels = [k / 1000 for k in range(1, cells // 4 + 1)]
    content = {
        "name": "scale",
        "dataset": {"source": "template", "image_size": 32, "n_val": 2, "n_test": 2},
        "degradations": [{"name": "gaussian_noise", "levels": levels}],
        "n_train": [n_train],
        "methods": [{"name": "unet", "label": f"unet{k}"} for k in range(4)],
        "budget": {"trials": trials, "steps": 9, "reports": 3},
        "seeds": 1,
        "pictures": 0,
        **changes,
    }
    return spec.parse(content)


@contextmanager
def _store(benchmark: spec.Benchmark) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "run")
        store.begin(benchmark, {"val": ""})
        yield store


def _begin() -> float:
    """Time what the driver does before the first trial of a large benchmark."""
    benchmark = _benchmark(CELLS, 3)
    with _store(benchmark) as store:
        start = time.perf_counter()
        SweepSearcher(benchmark, cells_of(benchmark), store, Studies(store.journal))
        return time.perf_counter() - start


def _driver() -> Driver:
    """Run simulated trials."""
    benchmark = _benchmark(200, TRIALS // 200, search={"pruner": "none"})
    with _cluster(), _store(benchmark) as store:
        first: list[tuple[float, int]] = []

        class Begun(io.StringIO):
            def write(self, text: str) -> int:
                first.append((time.perf_counter(), psutil.Process().memory_info().rss))
                return len(text)

        start = time.perf_counter()
        sweep.run(
            benchmark, cells_of(benchmark), _images(4, 32), store, Console(file=Begun()),
            trainable=Simulated,
        )  # fmt: skip
        end = time.perf_counter()
        after = psutil.Process().memory_info().rss
        done = len(store.trials())
        journal = len(store.journal.read_bytes()) / done
    # The second text that is printed is the first progress line: a trial has ended.
    begun, before = first[1]
    return Driver(begun - start, (done + 200) / (end - begun), after - before, journal)


def _resident(images: int) -> int:
    """Return the bytes that driver, cluster and trials hold together while all trials train."""
    benchmark = _benchmark(
        4, AT_ONCE, images,
        methods=[METHOD],
        dataset={"source": "template", "image_size": SIZE, "n_val": 2, "n_test": 2},
        # Enough that the first trial still trains when the last worker has started.
        budget={"trials": AT_ONCE, "steps": 100, "reports": 1},
        search={"pruner": "none"},
    )  # fmt: skip
    with _cluster(), _store(benchmark) as store, _watched() as seen:
        sweep.run(
            benchmark, cells_of(benchmark), _images(images, SIZE), store,
            Console(file=io.StringIO()),
        )  # fmt: skip
    return max(seen)


def _resident_raw() -> int:
    """Return the bytes that all processes hold while trials train on raw k-space.

    The files are sparse, so that reading them from a disk is not measured.
    """
    benchmark = _benchmark(
        4, AT_ONCE, RAW_SLICES,
        methods=[METHOD],
        degradations=[{"name": "mri_cartesian", "levels": [4]}],
        dataset={"source": "template", "image_size": RAW_SIZE, "n_val": 2, "n_test": 2},
        # Enough trials that all processes have started before the first ones run out of work.
        budget={"trials": 4 * AT_ONCE, "steps": 30, "reports": 1, "batch_size": 4},
        search={"pruner": "none"},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, _cluster(), _store(benchmark) as store:
        images, brought = _images(RAW_SLICES, RAW_SIZE), _sparse(Path(folder), RAW_SLICES + 4)
        split = Split(
            replace(images.train, measured=brought.take(slice(RAW_SLICES))),
            replace(images.val, measured=brought.take(slice(-4, -2))),
            replace(images.test, measured=brought.take(slice(-2, None))),
        )
        del images
        with _watched() as seen:
            console = Console(file=io.StringIO())
            sweep.run(benchmark, cells_of(benchmark), split, store, console)
    return max(seen)


def _sparse(folder: Path, count: int) -> Measured:
    """Make measurements that need no room on the disk."""
    files = [folder / "values.npy", folder / "maps.npy"]
    for file in files:
        shape = (count, RAW_COILS, RAW_SIZE, RAW_SIZE)
        np.lib.format.open_memmap(file, "w+", np.complex64, shape)
    values, maps = map(opened, files)
    names = [str(number) for number in range(count)]
    noise = np.full(count, 0.01, np.float32)
    return Measured("kspace", values, noise, names, np.arange(count), maps)


def _preparing() -> tuple[int, float]:
    """Return the memory of a process that prepares raw k-space, and its CPU seconds per slice."""
    x = phantom((RAW_SIZE, RAW_SIZE)).expand(RAW_IN_FILE, -1, -1, -1)
    clean = fourier(birdcage(RAW_COILS, (RAW_SIZE, RAW_SIZE)) * x)
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(RAW_FILES):
            noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
            with h5py.File(Path(folder) / f"{number}.h5", "w") as file:
                file["kspace"] = (clean + 0.01 * noise).numpy()
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, folder, str(RAW_SIZE)],
            capture_output=True, text=True, check=True,
            env={**os.environ, "RECONBENCH_CACHE": str(Path(folder) / "cache")},
        )  # fmt: skip
    memory, seconds = map(float, done.stdout.split())
    return int(memory), seconds / (RAW_FILES * RAW_IN_FILE)


PREPARE = """
import resource, sys
from bench import data
from bench.spec import DatasetSpec
given = {"path": sys.argv[1], "measured": True, "image_size": int(sys.argv[2]), "axes": "schw"}
data.load(DatasetSpec.model_validate(given))
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024), used.ru_utime + used.ru_stime)
"""


@contextmanager
def _cluster() -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=AT_ONCE, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Collect the memory of driver, cluster and trials, each shared page counted once.

    Idle workers and their share of common pages are left out, since Ray chooses their number.
    """
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS):
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            trials, total = 0, 0
            for process in family:
                try:
                    command = " ".join(process.cmdline())
                    trials += "Trainable" in command or "CellTrial" in command
                    total += 0 if "IDLE" in command else process.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue
            if trials == AT_ONCE:
                seen.append(total)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _images(count: int, size: int, n_test: int = 2) -> Split:
    generator = np.random.default_rng(0)

    def some(name: str, count: int) -> ImageSet:
        ids = [f"{name}{k}" for k in range(count)]
        return ImageSet(generator.random((count, 1, size, size), dtype=np.float32), ids, ids)

    return Split(some("train", count), some("val", 2), some("test", n_test))
