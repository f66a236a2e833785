"""Part 4: real trainings at 256x256 against tuned TV, and whether both devices rank alike."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from bench import methods, physics, training
from bench.data import ImageSet
from bench.methods.compressed_sensing import CompressedSensing
from bench.physics import Physics
from bench.spec import Budget
from bench.speed.gpu.setting import Setting, noted, psnr
from bench.speed.gpu.training import config_of

SIZE, BATCH = 256, 16
# Task and network, with changes of its default configuration.
RUNS: list[tuple[str, float, str, dict[str, Any]]] = [
    ("gaussian_noise", 0.1, "unet", {"width": 32, "depth": 4}),
    ("mri_cartesian", 4, "cs_unet", {"width": 32}),
    ("gaussian_noise", 0.1, "restormer", {"width": 16}),
]
SECONDS = 30  # of each
RATED_ON = 10  # steps
SMALL, SMALL_STEPS, SEEDS = 64, 150, 3
LIKE: dict[str, dict[str, Any]] = {"unet": {}, "dncnn": {"depth": 9, "width": 24}}


def lines(setting: Setting) -> Iterator[dict[str, Any]]:
    """Train each network for its time, with tuned TV beside it; then small ones on both devices."""
    size = 16 if setting.quick else SIZE
    sets = setting.image_sets(size)
    for name, level, network, changes in RUNS[: 1 if setting.quick else None]:
        operator = physics.create(name, level, size)
        line: dict[str, Any] = {"network": network, "degradation": name, "level": level}
        line |= {"size": size, "n_train": len(sets["train"])}
        with noted(line):
            line |= _trained(setting, operator, network, changes, sets)
            line["tv_psnr"] = _tv(setting, operator, sets)
        yield line
    small = setting.image_sets(size if setting.quick else SMALL)
    for network, config in LIKE.items():
        for device in {"cpu": None, setting.device: None}:
            line = {"agreement": network, "on": device}
            with noted(line):
                line["psnr"] = _seeds(setting, device, network, config, small)
            yield line
        if setting.quick:
            return


def _trained(
    setting: Setting,
    operator: Physics,
    network: str,
    changes: dict[str, Any],
    sets: dict[str, ImageSet],
) -> dict[str, Any]:
    """Train as long as the time allows, and score on test images."""
    config = {**config_of(network), **({} if setting.quick else changes)}

    rated = 2 if setting.quick else RATED_ON

    def fit(steps: int, reports: int) -> tuple[training.Fit, float]:
        size = 2 if setting.quick else BATCH
        budget = Budget(steps=steps, batch_size=size, reports=reports)
        start = time.perf_counter()
        found = training.fit(
            network, config, sets["train"], sets["val"], operator, budget, 0, device=setting.device
        )
        return found, time.perf_counter() - start

    _, first = fit(rated, 1)
    _, second = fit(2 * rated, 1)
    steps = 4 if setting.quick else max(100, int(SECONDS / max(second - first, 1e-3) * rated))
    found, took = fit(steps, 8)
    history = [round(one.psnr, 2) for one in found.history]
    return {
        "steps": steps, "seconds": round(took, 1), "validations": history,
        "psnr": _test(found.reconstructor, setting, operator, sets["test"]),
    }  # fmt: skip


def _test(model: torch.nn.Module, setting: Setting, operator: Physics, test: ImageSet) -> float:
    """Return the mean PSNR on test images."""
    operator, x = operator.to(setting.device), training.as_tensor(test).to(setting.device)
    y = operator.measure(x, test.ids)
    return psnr(training.magnitude(training.reconstruct(model.to(setting.device), y, operator)), x)


def _tv(setting: Setting, operator: Physics, sets: dict[str, ImageSet]) -> float:
    """Return the test PSNR of TV with the weight that is best on validation images."""
    tuned = CompressedSensing().to(setting.device)
    val = training.as_tensor(sets["val"])
    tuned.prepare(val, operator.to(setting.device), sets["val"].ids)
    tv = methods.create("tv", weight=float(tuned.weight))
    return _test(tv, setting, operator, sets["test"])


def _seeds(
    setting: Setting, device: str, network: str, config: dict[str, Any], sets: dict[str, ImageSet]
) -> list[float]:
    """Train with several seeds on a device; return each test PSNR."""
    found = []
    steps = 4 if setting.quick else SMALL_STEPS
    operator = physics.create("gaussian_noise", 0.1, sets["test"].images.shape[-1])
    on = Setting(device, setting.quick, setting.images)
    for seed in range(1 if setting.quick else SEEDS):
        fit = training.fit(
            network, {**config_of(network), **config}, sets["train"], sets["val"], operator,
            Budget(steps=steps, batch_size=8, reports=2), seed, device=device, precision="fp32",
        )  # fmt: skip
        found.append(round(_test(fit.reconstructor, on, operator, sets["test"]), 3))
    return found
