"""Part 2: the speed of training, beside plain loops over the same network, and of the data path."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.functional import mse_loss

import search_spaces
from bench import methods, physics, training
from bench.data import ImageSet
from bench.flops import count_flops
from bench.physics import Physics
from bench.spec import Budget
from bench.speed.gpu.setting import Setting, noted
from bench.training import Recipe
from bench.training.batches import Batch
from bench.training.launching import VARIABLE
from bench.training.optimisation import Trainer

SHAPES = [(256, 32), (64, 8), (128, 16)]  # pixels along each side, images in a batch
QUICK_SHAPES = [(16, 2)]
STEPS = 10_000  # more than are timed
# Whether batches are drawn, and how kernels are launched; see `bench.training.launching`.
OURS = {
    "ours": (True, "auto"), "ours_without_data": (False, "auto"), "ours_eager": (True, "eager"),
}  # fmt: skip
LEADING = ("unet", "restormer", "cs_unet", "modl", "attention_residual_unet", "nafnet")
TASKS = {"gaussian_noise": 0.05, "mri_cartesian": 4, "super_resolution": 2}
# With the level whose data path is timed.
DEGRADATIONS = {
    "gaussian_noise": 0.1, "poisson_noise": 100, "rician_noise": 0.05, "salt_pepper_noise": 0.05,
    "gaussian_blur": 2, "motion_blur": 9, "super_resolution": 4, "mri_cartesian": 4,
    "ct_sparse_view": 60, "ct_low_dose": 1e4, "chain": 0.05, "mri_radial": 64,
}  # fmt: skip


def lines(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time every network at every size, the leading ones first, then the data path."""
    yield {"product_tflops": setting.product_rate() / 1e12}
    others = sorted(set(methods.names("learned")) - set(LEADING))
    names = LEADING[:1] if setting.quick else (*LEADING, *others)
    shapes = QUICK_SHAPES if setting.quick else SHAPES
    sets = {size: setting.image_sets(size)["train"] for size, _ in shapes}
    yield from (_network(setting, LEADING[0], sets[size], size, batch) for size, batch in shapes)
    size, batch = shapes[0]
    for name in list(DEGRADATIONS)[: 1 if setting.quick else None]:
        yield _data_path(setting, name, sets[size], size, batch)
    for size, batch in shapes:
        for name in names[1:]:
            yield _network(setting, name, sets[size], size, batch)
    if not setting.quick:
        size, batch = shapes[0]
        yield _compiled(setting, sets[size], size, batch)


def _compiled(setting: Setting, train: ImageSet, size: int, batch: int) -> dict[str, Any]:
    """Time the first network through `torch.compile`, which takes long to begin."""
    name, device = LEADING[0], torch.device(setting.device)
    line: dict[str, Any] = {"compiled": name, "size": size, "batch": batch}
    with noted(line):
        operator = task_of(name, size).to(device)
        trainer = _trainer(_built(name, train, operator).to(device), device, batch, True)
        line["rate"] = batch / setting.seconds(_ours(trainer, train, operator, batch, True))
    return line


def task_of(name: str, size: int) -> Physics:
    """Build the first of our tasks that a method supports; it knows the physics: k-space."""
    method = methods.find(name)
    order = reversed(TASKS) if method.supported_physics.__name__ == "SuperResolution" else TASKS
    chosen = [one for one in order if method.supports(one)]
    if method.needs_linear and "mri_cartesian" in chosen:
        chosen.insert(0, "mri_cartesian")
    return physics.create(chosen[0], TASKS[chosen[0]], size)


def config_of(name: str) -> dict[str, Any]:
    """Return a network's default configuration, without losses that need other networks."""
    space = methods.find(name).space({"loss": "mse"})
    return {**search_spaces.defaults(space), "loss": "mse"}


def _network(setting: Setting, name: str, train: ImageSet, size: int, batch: int) -> dict[str, Any]:
    """Time one network in every way."""
    device = torch.device(setting.device)
    operator = task_of(name, size)
    line: dict[str, Any] = {
        "network": name, "degradation": operator.name, "size": size, "batch": batch,
    }  # fmt: skip
    with noted(line):
        operator = operator.to(device)
        few = torch.from_numpy(train.images[:batch]).to(device)
        y = operator.measure(few, train.ids[:batch])
        example = Batch(few, y, operator)
        line["parameters"] = sum(w.numel() for w in _built(name, train, operator).parameters())
        line["flops"] = _flops(_built(name, train, operator).to(device), example) / batch
        ways = {"plain_fp32": False, "plain_bf16": True}
        for way, bf16 in ways.items():
            step = _plain(_built(name, train, operator).to(device), few, operator, bf16)
            line[way] = batch / setting.seconds(step)
        for way, (data, launch) in OURS.items():
            with patch.dict(os.environ, {VARIABLE: launch}):
                model = _built(name, train, operator).to(device)
                trainer = _trainer(model, device, batch)
                step = _ours(trainer, train, operator, batch, data)
                line[way] = batch / setting.seconds(step)
                if launch == "auto" and trainer.launch is not None:
                    line["launch"] = ": ".join(trainer.launch)
    return line


def _built(name: str, train: ImageSet, operator: Physics) -> nn.Module:
    torch.manual_seed(0)
    model = training.build(name, config_of(name), operator)
    methods.prepare(model, training.as_tensor(train), operator, train.ids)
    return model


def _flops(model: nn.Module, batch: Batch) -> float:
    """Count the operations of convolutions and matrix products in a step."""
    return count_flops(lambda: mse_loss(batch.reconstruct(model.train()), batch.x).backward())


def _plain(model: nn.Module, x: torch.Tensor, operator: Physics, bf16: bool) -> Any:
    """Return a step of a usual first version: Adam, the default memory format, fresh noise."""
    practice = methods.training_physics(model, operator)
    optimiser = torch.optim.Adam(model.train().parameters(), lr=1e-4)
    clean = practice.measure(x, [str(k) for k in range(len(x))])

    def step() -> None:
        y = clean + practice.noise_std * torch.randn_like(clean)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            x_hat = model(y, practice)
        loss = mse_loss(x_hat.float(), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _trainer(model: nn.Module, device: torch.device, size: int, compiled: bool = False) -> Trainer:
    budget = Budget(steps=STEPS, batch_size=size)
    return Trainer(model, Recipe(lr=1e-4), budget, 1, device, "bf16", compiled)


def _ours(trainer: Trainer, train: ImageSet, operator: Physics, size: int, data: bool) -> Any:
    """Return a step of a real run, with its batches or always with the same one."""
    model = trainer.model
    practice = methods.training_physics(model, operator)
    drawn = training.batches(
        train, practice, trainer.recipe, size, 0, trainer.device, network=model
    )  # fmt: skip
    numbers = iter(range(1, STEPS))
    if not data:
        fixed = next(drawn)
        return lambda: trainer.step(next(numbers), fixed)
    return lambda: trainer.step(next(numbers), next(drawn))


def _data_path(
    setting: Setting, name: str, train: ImageSet, size: int, batch: int
) -> dict[str, Any]:
    """Time the drawing of batches alone."""
    line: dict[str, Any] = {"data_path": name, "size": size, "batch": batch}
    with noted(line):
        device = torch.device(setting.device)
        operator = physics.create(name, DEGRADATIONS[name], size).to(device)
        drawn = training.batches(train, operator, Recipe(), batch, 0, device)
        line["seconds"] = setting.seconds(partial(next, drawn))
    return line
