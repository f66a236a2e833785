"""Cells whose trials train on two workers, on a real Ray of two CPUs."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
import torch

import bench
from bench import physics, training
from bench.data import ImageSet
from bench.errors import DivergedError
from bench.replay import replay
from bench.spec import Budget
from bench.store import Store
from bench.sweep import distributed
from bench.training import Validation

pytestmark = pytest.mark.usefixtures("ray_cluster")

FIXED = {
    "width": 4, "residual": False, "norm": "batch", "optimiser": "adam", "lr": 4e-3,
    "weight_decay": 1e-4, "loss": "mse", "augment": "flips",
}  # fmt: skip
SPEC = {
    "name": "pairs",
    "dataset": {"image_size": 32, "n_val": 4, "n_test": 6},
    "degradations": [{"name": "gaussian_noise", "levels": [0.1]}],
    "n_train": [8],
    # one that wants both CPUs, for its search before and its refit among others that want one each
    "methods": [
        {"name": "unet", "label": "pair", "workers": 2, "fixed": FIXED},
        {"name": "tv"},
        {"name": "unet", "label": "alone", "fixed": FIXED},
    ],
    "budget": {"trials": 1, "steps": 30, "batch_size": 4, "reports": 2},
    "precision": "fp32",
    "seeds": 1,
    "pictures": 0,
}


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_cells_that_want_every_cpu_among_cells_that_want_one(tmp_path: Path) -> None:
    rows = bench.run(SPEC, tmp_path / "run").rows
    assert dict(rows.groupby("method").size()) == dict.fromkeys(["pair", "tv", "alone"], 6)
    # Replay trains in one process with the same batches: the same network within a tolerance.
    (cell,) = rows.loc[rows["method"] == "pair", "cell"].unique()
    for refit in replay(Store(tmp_path / "run"), [cell]):
        assert refit.now == pytest.approx(refit.before, abs=0.3)


def smooth(n: int) -> ImageSet:
    noise = torch.rand(n, 1, 24, 24, generator=torch.Generator().manual_seed(n))
    images = torch.nn.functional.avg_pool2d(noise, 9, stride=1)
    ids = [f"{n}.{i}" for i in range(n)]
    return ImageSet(images.numpy(), ids, ids)


def begin(images: tuple[ImageSet, ImageSet], place: Path, workers: int = 2):
    job = training.TrainingJob(
        "unet", {"width": 4, "depth": 2}, Budget(steps=8, batch_size=4, reports=4), 0, workers,
        precision="fp32", checkpoint=place / "state.pt",
    )  # fmt: skip
    operator = physics.create("gaussian_noise", 0.05, 16)
    return distributed.steps(job, ray.put(images), 4, operator, {"CPU": 1.0})


def free_again() -> bool:
    """Wait until stopped workers have released their resources, which a cluster reports late."""
    deadline = time.monotonic() + 60
    while ray.available_resources()["CPU"] < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    return ray.available_resources()["CPU"] == 2


def kill_one_worker() -> None:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
    assert len(found) == 2
    found[0].kill()


def test_stopped_workers_let_go_and_killed_ones_begin_again_where_they_were(tmp_path: Path) -> None:
    train, val = smooth(4), smooth(3)
    run = begin((train, val), tmp_path)
    first = next(run)
    run.close()
    assert first.step == 2
    assert free_again()
    resumed = begin((train, val), tmp_path)
    history: dict[int, Validation] = {}
    said = 0
    while True:
        try:
            progress = next(resumed)
            # Workers that are started again repeat their earlier reports.
            assert history.setdefault(progress.step, progress) == progress
            said += 1
            if said == 2:
                kill_one_worker()
        except StopIteration as end:
            fit = end.value
            break
    assert list(history.values()) == fit.history
    assert list(history) == [2, 4, 6, 8]
    assert said > 4
    assert free_again()
    alone = training.fit(
        "unet", {"width": 4, "depth": 2}, train, val,
        physics.create("gaussian_noise", 0.05, 16), Budget(steps=8, batch_size=4, reports=4),
        0, precision="fp32",
    )  # fmt: skip
    assert fit.psnr == pytest.approx(alone.psnr, abs=0.1)
    assert fit.parameters == alone.parameters
    broken = ImageSet(train.images * float("nan"), train.ids, train.subjects)
    with pytest.raises(DivergedError, match="step 1"):
        next(begin((broken, val), tmp_path / "broken", workers=1))
