import io
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from bench import methods, metrics, physics, places, training
from bench.data import ImageSet
from bench.errors import DamagedError, DivergedError, UserError
from bench.methods.batch_norm import BatchNorm
from bench.methods.losses.adversarial import Discriminator, discriminator_loss, generator_loss
from bench.physics import Physics
from bench.spec import Budget
from bench.training import Recipe, TrainingJob, optimisation, validation
from bench.training.batches import Batch, _order, batches
from bench.training.clock import Clock
from bench.training.job import split_config
from bench.training.running_statistics import recalibrate_batch_norm

OPERATOR = physics.create("gaussian_noise", 0.05, 16)
BUDGET = Budget(steps=12, batch_size=4, reports=3)
SMALL = {"width": 4, "depth": 2}


def smooth(n: int, name: str) -> ImageSet:
    noise = torch.rand(n, 1, 24, 24, generator=torch.Generator().manual_seed(len(name)))
    images = nn.functional.avg_pool2d(noise, 9, stride=1)
    ids = [f"{name}{i}" for i in range(n)]
    return ImageSet(images.numpy(), ids, ids)


TRAIN, VAL = smooth(6, "train"), smooth(3, "val")


def fit(config: dict, seed: int = 0, method: str = "unet", **more: object) -> training.Fit:
    return training.fit(
        method, {**SMALL, **config}, TRAIN, VAL, OPERATOR, BUDGET, seed, precision="fp32", **more
    )


def test_the_same_seed_gives_the_same_network_and_another_another() -> None:
    one, same, other = fit({}), fit({}), fit({}, seed=1)
    for key, value in one.reconstructor.state_dict().items():
        assert torch.equal(value, same.reconstructor.state_dict()[key])
    assert one.history == same.history
    assert one.psnr != other.psnr


def test_the_best_validation_keeps_its_weights() -> None:
    seen: list[training.Validation] = []
    done = fit({"lr": 1e-2}, report=seen.append)
    assert seen == done.history
    assert [progress.step for progress in seen] == [4, 8, 12]
    assert done.psnr == max(progress.psnr for progress in seen)
    x = torch.tensor(VAL.images)
    y = OPERATOR.measure(x, VAL.ids)
    x_hat = training.reconstruct(done.reconstructor, y, OPERATOR)
    psnr = -10 * torch.log10((x_hat - x).square().mean((1, 2, 3))).mean()
    assert float(psnr) == pytest.approx(done.psnr, abs=1e-4)


def test_training_learns() -> None:
    long = Budget(steps=150, batch_size=4, reports=5)
    done = training.fit("unet", SMALL, TRAIN, VAL, OPERATOR, long, 0)
    noisy = -10 * math.log10(0.05)
    assert done.psnr > noisy + 5


def test_training_never_reads_validation_images_but_to_score() -> None:
    """Other validation images with the same ids leave the trained weights untouched."""
    one_report = Budget(steps=6, batch_size=4, reports=1)
    other = ImageSet(1 - VAL.images, VAL.ids, VAL.subjects)
    first, second = (
        training.fit("unet", SMALL, TRAIN, val, OPERATOR, one_report, 0) for val in (VAL, other)
    )
    for key, value in first.reconstructor.state_dict().items():
        assert torch.equal(value, second.reconstructor.state_dict()[key])


def test_a_diverged_run_says_so() -> None:
    broken = ImageSet(np.full_like(TRAIN.images, np.nan), TRAIN.ids, TRAIN.subjects)
    with pytest.raises(DivergedError, match="step 1"):
        training.fit("unet", SMALL, broken, VAL, OPERATOR, BUDGET, 0)


def test_a_perfect_reconstruction_has_a_score() -> None:
    """At this level salt and pepper leave these images as they are."""
    salt = physics.create("salt_pepper_noise", 1e-4, 16)
    x = training.as_tensor(VAL)
    assert torch.equal(salt.measure(x, VAL.ids), x)
    only = training.fit("degraded", {}, TRAIN, VAL, salt, BUDGET, 0)
    assert (only.psnr, only.ssim) == (metrics.PERFECT, 1.0)


def test_a_classical_method_is_validated_once() -> None:
    done = training.fit("tv", {"weight": 1.0}, TRAIN, VAL, OPERATOR, BUDGET, 0)
    assert [progress.step for progress in done.history] == [0]
    assert done.parameters == 0


def test_batches_are_passes_over_all_images() -> None:
    stream = ([i for _, i in batch] for batch in _order(5, 3, seed=0))
    drawn = [position for _, batch in zip(range(5), stream, strict=False) for position in batch]
    for start in (0, 5, 10):
        assert sorted(drawn[start : start + 5]) == [0, 1, 2, 3, 4]


def test_bf16_learns_as_fp32_does() -> None:
    long = Budget(steps=100, batch_size=4, reports=2)
    wide, narrow = (
        training.fit("unet", SMALL, TRAIN, VAL, OPERATOR, long, 0, precision=precision).psnr
        for precision in ("fp32", "bf16")
    )
    assert narrow == pytest.approx(wide, abs=0.5)


@pytest.mark.parametrize(
    ("method", "config", "says"),
    [
        ("unet", {"widht": 4}, "did you mean 'width'"),
        ("unet", {"learning_rate": 1}, "unknown option of unet"),
        ("tv", {"lr": 1}, "unknown option of tv"),
        ("unit", {}, "did you mean 'unet'"),
        ("no_such_package:Net", {}, "no_such_package:Net: cannot be imported"),
    ],
)
def test_mistakes(method: str, config: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        training.check(method, config)
    assert says in str(caught.value)


def _age(checkpoint: Path) -> None:
    """Turn a checkpoint into one of before there were objectives."""
    content = torch.load(io.BytesIO(places.read_sealed(checkpoint)), weights_only=True)
    best = content["best"]
    del best["score"]
    best["history"] = [entry[:3] for entry in best["history"]]
    buffer = io.BytesIO()
    torch.save(content, buffer)
    places.write_sealed(checkpoint, buffer.getvalue())


def test_the_objective_chooses_the_weights() -> None:
    by_psnr, by_error = (fit({"lr": 0.05}, objective=name) for name in ("psnr", "mae"))
    assert [one.score for one in by_psnr.history] == [one.psnr for one in by_psnr.history]
    for chosen in (by_psnr, by_error):
        assert chosen.score == max(one.score for one in chosen.history)
        assert [one.psnr for one in chosen.history] == [one.psnr for one in by_psnr.history]
    x = torch.tensor(VAL.images)
    x_hat = training.reconstruct(by_error.reconstructor, OPERATOR.measure(x, VAL.ids), OPERATOR)
    assert by_error.score == pytest.approx(-np.abs(x_hat.numpy() - x.numpy()).mean(), rel=1e-5)


def test_resumed_after_a_stop_every_number_is_the_same(tmp_path: Path) -> None:
    """With all that carries state: Adam's moments, the average, a discriminator, dropout."""
    config = {
        "width": 8, "blocks": 2, "loss": "l1 + 0.1 adversarial", "pretrain": 0.25, "ema": 0.9,
        "discriminator_width": 4, "augment": "strong", "dropout": 0.2,
    }  # fmt: skip
    budget = Budget(steps=12, batch_size=4, reports=6)
    common = ("recon_resnet", config, TRAIN, VAL, OPERATOR, budget, 0)
    whole = training.fit(*common, precision="fp32")
    place = tmp_path / "state.pt"
    for stop in (1, 3):  # stopped in the pre-training, then in the adversarial part
        run = training.steps(
            TrainingJob("recon_resnet", config, budget, 0, precision="fp32", checkpoint=place),
            TRAIN, VAL, OPERATOR,
        )  # fmt: skip
        for _ in range(stop):
            next(run)
        run.close()
        torch.rand(7)  # another program's draws change nothing
    _age(place)
    resumed = training.fit(*common, precision="fp32", checkpoint=place)
    assert resumed.history == whole.history
    assert (resumed.psnr, resumed.step) == (whole.psnr, whole.step)
    assert whole.step > 3
    for key, value in whole.reconstructor.state_dict().items():
        assert torch.equal(value, resumed.reconstructor.state_dict()[key]), key
    again = training.fit(*common, precision="fp32", checkpoint=place)  # nothing is left to do
    assert again.history == whole.history
    saved = torch.load(io.BytesIO(places.read_sealed(place)), weights_only=True)
    for name, spent in again.spent._asdict().items():  # the run before it counts
        assert 0 < saved[name] < spent


def test_waiting_takes_no_time_of_the_processor() -> None:
    clock = Clock(alone=True)
    time.sleep(0.1)
    spent = clock.read()
    assert 0 <= spent.cpu_seconds < 0.1 <= spent.seconds
    assert math.isnan(Clock(alone=False).read().cpu_seconds)


def _forget_noise(checkpoint: Path) -> None:
    """Turn a checkpoint into one of when training noise was drawn image by image."""
    content = torch.load(io.BytesIO(places.read_sealed(checkpoint)), weights_only=True)
    del content["noise"]
    buffer = io.BytesIO()
    torch.save(content, buffer)
    places.write_sealed(checkpoint, buffer.getvalue())


@pytest.mark.parametrize("draws", [0, 2])
def test_a_run_of_before_begins_again_if_its_noise_was_another(tmp_path: Path, draws: int) -> None:
    """Noise that is kept, with `draws`, is what it was: such a run goes on."""
    config, place = {**SMALL, "draws": draws}, tmp_path / "state.pt"
    job = TrainingJob("unet", config, BUDGET, 0, precision="fp32", checkpoint=place)
    run = training.steps(job, TRAIN, VAL, OPERATOR)
    next(run)
    run.close()
    _forget_noise(place)
    whole = fit(config)
    run = training.steps(job, TRAIN, VAL, OPERATOR)
    if draws:
        first = next(run)
    else:
        with pytest.warns(UserWarning, match="drew other training noise; the run begins again"):
            first = next(run)
    assert [first, *run] == whole.history
    _forget_noise(place)
    assert fit(config, checkpoint=place).history == whole.history  # nothing is left to draw


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "state.pt"
    fit({}, checkpoint=place)
    with pytest.raises(UserError, match="another run"):
        fit({"lr": 1e-3}, checkpoint=place)


def test_a_damaged_checkpoint_is_set_aside_and_the_run_begins_again(tmp_path: Path) -> None:
    place = tmp_path / "state.pt"
    expected = fit({}, checkpoint=place).history
    whole = place.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 60):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        place.write_bytes(changed)
        with pytest.raises(DamagedError, match=r"state\.pt: is damaged"):
            places.read_sealed(place)
    place.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"state\.pt: is damaged .* begins again"):
        assert fit({}, checkpoint=place).history == expected
    assert place.with_name("state.pt.damaged").exists()


class Counting(methods.Reconstructor):
    """A network that starts from an estimate, and counts how many it has computed."""

    kind = "learned"
    learning_rates: ClassVar[dict[str, float]] = {"gain": 10.0}
    usable_untrained = True

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.bias = (nn.Parameter(torch.tensor(v)) for v in (1.0, 0.0))
        self.computed = 0

    def prepare(self, images: torch.Tensor, physics: Physics, ids: Sequence[str]) -> None:
        self.prepared = physics.name, len(images), list(ids)

    def estimate(self, y: torch.Tensor, physics: Physics) -> torch.Tensor:
        self.computed += len(y)
        return nn.functional.avg_pool2d(y, 3, 1, 1)

    def forward(
        self, y: torch.Tensor, physics: Physics, estimate: torch.Tensor | None = None
    ) -> torch.Tensor:
        estimate = self.estimate(y, physics) if estimate is None else estimate
        return self.gain * estimate + self.bias


def test_each_draw_of_an_image_is_measured_once_and_comes_back_in_turn() -> None:
    network = Counting()
    recipe = Recipe(draws=2, augment="strong")
    stream = batches(TRAIN, OPERATOR, recipe, 6, 3, torch.device("cpu"), network=network)
    epochs = []
    for batch in itertools.islice(stream, 4):
        order = batch.x.flatten(1).sum(1).argsort()
        epochs.append([part[order] for part in (batch.x, batch.y, batch.estimate)])
    assert network.computed == 2 * len(TRAIN)
    for first, second in ((0, 2), (1, 3)):
        assert all(map(torch.equal, epochs[first], epochs[second]))
    assert not torch.equal(epochs[0][1], epochs[1][1])
    x, y, estimate = epochs[0]
    torch.testing.assert_close(estimate, nn.functional.avg_pool2d(y, 3, 1, 1))
    assert (y - x).std() == pytest.approx(0.05**0.5, rel=0.1)


def test_a_method_sees_its_training_images_and_trains_at_its_own_rates() -> None:
    common = (TRAIN, VAL, OPERATOR, BUDGET, 0)
    done = training.fit(Counting, {"lr": 1e-4, "draws": 1, "optimiser": "adam"}, *common)
    network = done.reconstructor
    assert network.prepared == ("gaussian_noise", len(TRAIN), TRAIN.ids)
    # Each draw, and each validation image, once: however many steps and validations there are.
    assert network.computed == len(TRAIN) + len(VAL)
    moved = abs(network.gain.item() - 1), abs(network.bias.item())
    assert moved[0] == pytest.approx(10 * moved[1], rel=0.1)  # Adam's steps do not know gradients


class Practising(methods.Reconstructor):
    """Trains with stronger noise than that of the task, and notes what it is called with."""

    kind = "learned"

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.norm = nn.Parameter(torch.ones(())), BatchNorm(1)
        self.levels: dict[bool, set[float]] = {True: set(), False: set()}

    def training_physics(self, task: Physics) -> Physics:
        return physics.create("gaussian_noise", 4 * task.level, task.shape)

    def forward(self, y: torch.Tensor, operator: Physics) -> torch.Tensor:
        self.levels[self.training].add(operator.level)
        return self.gain * self.norm(y)


def test_a_method_may_be_trained_by_another_physics_than_the_tasks() -> None:
    done = training.fit(Practising, {"augment": "none"}, TRAIN, VAL, OPERATOR, BUDGET, 0)
    assert done.reconstructor.levels == {True: {0.2}, False: {0.05}}
    # The moments of batch normalisation are those of training measurements too.
    variance = float(torch.tensor(TRAIN.images).var()) + 0.2
    assert done.reconstructor.norm.running_var.item() == pytest.approx(variance, rel=0.1)


def test_training_never_ends_below_what_it_starts_from() -> None:
    black = ImageSet(0 * TRAIN.images, TRAIN.ids, TRAIN.subjects)  # nothing good is learned there
    done = training.fit(Counting, {"lr": 0.1}, black, VAL, OPERATOR, BUDGET, 0)
    x = torch.tensor(VAL.images)
    start = nn.functional.avg_pool2d(OPERATOR.measure(x, VAL.ids), 3, 1, 1)
    psnr = float(-10 * torch.log10((start - x).square().mean((1, 2, 3))).mean())
    assert done.step == 0
    assert done.psnr == pytest.approx(psnr, abs=1e-4)
    assert [one.step for one in done.history] == [4, 8, 12]
    assert done.psnr > max(one.psnr for one in done.history)


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    budget = Budget(steps=3, batch_size=4, reports=3)
    configs = [{**SMALL, "norm": "none", "ema": ema} for ema in (0.0, 0.2)]
    jobs = [TrainingJob("unet", config, budget, 0, precision="fp32") for config in configs]
    runs = [training.steps(job, TRAIN, VAL, OPERATOR) for job in jobs]
    plain, averaged = [], []
    for run, kept in zip(runs, (plain, averaged), strict=True):
        while True:
            try:
                next(run)
            except StopIteration:
                break
            network = run.gi_yieldfrom.gi_frame.f_locals["trainer"].network
            kept.append({k: v.detach().clone() for k, v in network.state_dict().items()})
    mean = plain[0]
    for count, now in enumerate(plain[1:], 1):
        decay = min(0.2, (1 + count) / (10 + count))
        mean = {key: decay * mean[key] + (1 - decay) * now[key] for key in mean}
    for key, value in averaged[-1].items():
        torch.testing.assert_close(value, mean[key], atol=1e-6, rtol=1e-5)


def test_weights_of_the_pre_training_are_not_kept() -> None:
    """They are often better in PSNR, and then the adversarial loss would have been for nothing."""
    config = {"pretrain": 0.5, "loss": "adversarial", "discriminator_width": 4, "lr": 0.1}
    budget = Budget(steps=40, batch_size=4, reports=4)
    done = training.fit("unet", {**SMALL, **config}, TRAIN, VAL, OPERATOR, budget, 0)
    assert done.step > 20
    assert max(one.psnr for one in done.history[:2]) > done.psnr


def test_until_the_end_of_the_pre_training_a_mix_is_the_squared_error() -> None:
    budget = Budget(steps=12, batch_size=4, reports=3)
    common = (TRAIN, VAL, OPERATOR, budget, 0)
    plain = training.fit("unet", {**SMALL, "loss": "mse"}, *common, precision="fp32")
    mixed = training.fit(
        "unet", {**SMALL, "loss": "l1", "pretrain": 0.67}, *common, precision="fp32"
    )
    assert [one.psnr for one in mixed.history[:2]] == [one.psnr for one in plain.history[:2]]
    assert mixed.history[2] != plain.history[2]


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_optimisers(optimiser: str) -> None:
    assert math.isfinite(fit({"optimiser": optimiser}).psnr)


def test_an_unknown_optimiser() -> None:
    with pytest.raises(UserError, match=r"unet\.optimiser: Input should be 'adamw' or 'adam'"):
        fit({"optimiser": "sgd"})


def test_the_recipe_of_a_publication_is_the_default() -> None:
    recipe, options = split_config(methods.find("srgan_cbam"), {"lr": 1e-4, "blocks": 3})
    assert (recipe.optimiser, recipe.pretrain, recipe.lr) == ("adam", 0.5, 1e-4)
    assert "adversarial" in recipe.loss
    assert options == {"blocks": 3}
    recipe, options = split_config(methods.find("attention_residual_unet"), {"preset": "medrecon"})
    assert recipe.loss == "0.4 l1 + 0.25 perceptual + 0.2 edge + 0.15 ssim"
    assert options["width"] == 64


@pytest.mark.parametrize("loss", ["mse", "l1 + 0.1 adversarial"])
def test_batches_in_parts_train_alike(loss: str) -> None:
    """Gradients of parts add up to the batch's, where no normalisation sees the batch."""
    config = {"norm": "none", "loss": loss, "discriminator_width": 4, "augment": "none"}
    budget = Budget(steps=2, batch_size=4, reports=1)
    whole, parts = (
        training.fit(
            "unet", {**SMALL, **config, "lr": 1e-5}, TRAIN, VAL, OPERATOR, budget, 0,
            precision="fp32", microbatches=parts,
        )
        for parts in (1, 3)
    )  # fmt: skip
    assert parts.psnr == pytest.approx(whole.psnr, abs=1e-2)
    if loss == "mse":  # the discriminator has batch normalisation
        for key, value in whole.reconstructor.state_dict().items():
            found = parts.reconstructor.state_dict()[key]
            torch.testing.assert_close(found, value, atol=5e-6, rtol=0)


class Penalised(methods.Reconstructor):
    """One weight w: x_hat = w y, and the penalty is w^3 times the mean of the measurements."""

    kind = "learned"

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, y: torch.Tensor, physics: Physics) -> torch.Tensor:
        x_hat = self.gain * y
        self.penalty = self.gain**3 * y.mean() if self.training else None
        return x_hat


def penalised(workers: int, rank: int = 0, parts: int = 1, precision: str = "fp32") -> Penalised:
    """Take a step on a batch of 4."""
    model, recipe = Penalised(), Recipe(clip_norm=1e9, lr=1e-9)
    budget = Budget(steps=1, batch_size=4, reports=1)
    trainer = optimisation.Trainer(
        model, recipe, budget, workers, torch.device("cpu"), precision, microbatches=parts
    )
    y = torch.tensor(TRAIN.images)[:4][rank::workers]
    trainer.step(1, Batch(y**2, y, OPERATOR))
    return model


@pytest.mark.parametrize(("parts", "precision"), [(1, "fp32"), (3, "fp32"), (1, "bf16")])
def test_a_penalty_is_added_to_the_loss(parts: int, precision: str) -> None:
    """The gradient is that of the mean over the batch, whatever its parts."""
    model = penalised(1, parts=parts, precision=precision)
    y = torch.tensor(TRAIN.images)[:4].double()
    expected = (2 * (0.5 * y - y**2) * y).mean() + 3 * 0.5**2 * y.mean()
    assert model.gain.grad is not None
    assert float(model.gain.grad) == pytest.approx(float(expected), rel=1e-5)
    assert model.penalty is None


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("batch_size", "parts"), [(1, 1), (3, 2)])
def test_a_network_trains_whose_bottom_is_one_pixel(norm: str, batch_size: int, parts: int) -> None:
    budget = Budget(steps=4, batch_size=batch_size, reports=2)
    config = {**SMALL, "depth": 4, "norm": norm}
    done = training.fit("unet", config, TRAIN, VAL, OPERATOR, budget, 0, microbatches=parts)
    assert math.isfinite(done.psnr)


def test_a_single_value_is_normalised_by_the_remembered_moments() -> None:
    layer = BatchNorm(3)
    layer(torch.rand(4, 3, 5, 5))
    remembered = layer.running_var.clone()
    value = torch.rand(1, 3, 1, 1)
    seen = layer(value)
    torch.testing.assert_close(layer.running_var, remembered)
    torch.testing.assert_close(seen, layer.eval()(value))


@pytest.mark.parametrize("lacking", [{}, {"_is_mkldnn_bf16_supported": None}])
def test_bf16_is_not_chosen_where_nobody_can_say_whether_it_is_fast(
    lacking: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the wheels for macOS on ARM, which have no oneDNN."""

    class Absent:
        def __getattr__(self, name: str) -> object:
            if name not in lacking:
                raise AttributeError(name)

            def fails() -> bool:
                raise RuntimeError("not built in")

            return fails

    monkeypatch.setattr(torch.ops, "mkldnn", Absent())
    assert not optimisation.use_bf16("auto", torch.device("cpu"))
    assert optimisation.use_bf16("bf16", torch.device("cpu"))
    assert math.isfinite(fit({}).psnr)


def test_an_endless_gradient_is_not_taken() -> None:
    """A finite loss may have a gradient that would spoil every weight."""
    with pytest.raises(DivergedError, match="gradient"):
        training.fit(f"{__name__}:Cliff", {}, TRAIN, VAL, OPERATOR, BUDGET, 0, precision="fp32")


def test_a_gpu_is_asked_now_and_then_whether_training_has_diverged() -> None:
    """A step that was not finite changes nothing meanwhile, and is named in the end."""
    model = nn.Conv2d(1, 1, 1)
    recipe, budget = Recipe(warmup=0.0), Budget(steps=20, batch_size=4)
    trainer = optimisation.Trainer(model, recipe, budget, 1, torch.device("cpu"), "fp32")
    trainer.guards[0].every = 4
    x = torch.tensor(TRAIN.images[:4])
    network = trainer.model
    network.forward = lambda y, physics: nn.Conv2d.forward(network, y)  # type: ignore
    weights = []
    for step in (1, 2, 3):
        trainer.step(step, Batch(x, torch.nan * x if step == 2 else x, OPERATOR))
        weights.append(model.weight.detach().clone())
    assert not torch.equal(weights[0], nn.Conv2d(1, 1, 1).weight)
    assert torch.equal(weights[0], weights[1]) and weights[2].isfinite().all()
    assert not torch.equal(weights[1], weights[2])
    with pytest.raises(DivergedError, match="the loss was nan at step 2"):
        trainer.check()
    with pytest.raises(DivergedError, match="at step 2"):
        trainer.step(4, Batch(x, x, OPERATOR))


def test_a_gpu_without_the_memory_for_many_images_is_given_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    class Large(nn.Module):
        def forward(self, y: torch.Tensor, physics: Physics) -> torch.Tensor:
            sizes.append(len(y))
            if len(y) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return 2 * y

    y = torch.rand(40, 1, 2, 2)
    monkeypatch.setattr(validation, "_size", lambda y: 64)
    assert torch.equal(training.reconstruct(Large(), y, OPERATOR), 2 * y)
    assert sizes == [40, 16, 16, 8]
    monkeypatch.setattr(validation, "CHUNK", 64)  # fewer would not be asked for
    with pytest.raises(torch.OutOfMemoryError):
        training.reconstruct(Large(), y, OPERATOR)


class Cliff(nn.Module):
    """The square root of 0 has no finite slope."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, y: torch.Tensor, physics: object) -> torch.Tensor:
        return y + self.weight.abs().sqrt()


COMPILED = """
import json
import numpy as np
from bench import physics, training
from bench.data import ImageSet
from bench.spec import Budget
images = np.random.default_rng(0).random((4, 1, 16, 16), dtype=np.float32)
few = ImageSet(images, list("abcd"), list("abcd"))
for on in (False, True):
    fit = training.fit(
        "unet", {"width": 4, "depth": 2}, few, few, physics.create("gaussian_noise", 0.05, 16),
        Budget(steps=4, batch_size=4, reports=1), 0, precision="fp32", compile_network=on,
    )
    print(json.dumps([fit.psnr, sorted(fit.reconstructor.state_dict())]))
"""


def test_recalibrated_statistics_are_those_of_the_given_measurements() -> None:
    network = methods.create("unet", OPERATOR, norm="batch", **SMALL)
    first = next(part for part in network.modules() if isinstance(part, nn.BatchNorm2d))
    seen: list[np.ndarray] = []
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().numpy()))
    x = torch.tensor(TRAIN.images)
    measured = [OPERATOR.measure(x, [f"{k}{name}" for name in TRAIN.ids]) for k in range(3)]
    first.running_mean.fill_(1e6)  # what was there before counts for nothing
    recalibrate_batch_norm(network, [Batch(x, y, OPERATOR) for y in measured])
    assert len(seen) == 3
    mean = np.mean([batch.mean((0, 2, 3)) for batch in seen], axis=0)
    variance = np.mean([batch.var((0, 2, 3), ddof=0) for batch in seen], axis=0)
    count = seen[0].size / seen[0].shape[1]
    np.testing.assert_allclose(first.running_mean, mean, atol=1e-6)
    np.testing.assert_allclose(first.running_var, variance * count / (count - 1), rtol=1e-4)
    assert first.momentum == 0.1


def test_an_early_validation_judges_the_weights_and_not_moments_that_lag_behind() -> None:
    few = Budget(steps=6, batch_size=4, reports=1)
    config = {**SMALL, "norm": "batch", "lr": 1e-2}
    done = training.fit("unet", config, TRAIN, VAL, OPERATOR, few, 0, precision="fp32")
    x = torch.tensor(VAL.images)
    network = done.reconstructor.train()  # normalised by the images themselves
    with torch.no_grad():
        x_hat = network(OPERATOR.measure(x, VAL.ids), OPERATOR)
    own = float(-10 * torch.log10((x_hat - x).square().mean((1, 2, 3))).mean())
    assert done.psnr == pytest.approx(own, abs=0.5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_trains_alike() -> None:
    """In a process of its own: what checks annotations in tests cannot be compiled."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True
    )
    (plain, names), (compiled, same) = map(json.loads, done.stdout.splitlines())
    assert compiled == pytest.approx(plain, abs=0.05)
    assert same == names


def test_an_unknown_loss() -> None:
    with pytest.raises(UserError, match="did you mean 'mse'"):
        fit({"loss": "mes"})


def test_workers_need_a_group() -> None:
    with pytest.raises(UserError, match=r"torch\.distributed group"):
        fit({}, workers=2)


SHARED: dict[str, dict] = {"plain": {"norm": "none"}, "batch_norm": {"norm": "batch"}}
JUDGED = smooth(4, "judged")


def _judge(rank: int, workers: int) -> list[torch.Tensor]:
    """Both adversarial losses of a batch, or a worker's share of it, with their gradients."""
    torch.manual_seed(0)
    discriminator = Discriminator(4)
    x = torch.tensor(JUDGED.images)[rank::workers]
    x_hat = (1 - x).requires_grad_()
    deceit = generator_loss(discriminator, x_hat)
    deceit.backward()
    assert x_hat.grad is not None
    judgement = discriminator_loss(discriminator, x_hat, x)
    judgement.backward()
    optimisation.average_gradients(discriminator)
    learnt = torch.cat([weight.grad.flatten() for weight in discriminator.parameters()])
    return [deceit.detach(), judgement.detach(), x_hat.grad, learnt]


def _one_of_two(rank: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name, config in SHARED.items():
        done = fit(config, workers=2)
        torch.save(done.reconstructor.state_dict(), f"{folder}/{name}.{rank}.pt")
    torch.save(_judge(rank, 2), f"{folder}/judged.{rank}.pt")
    torch.save(penalised(2, rank).gain.grad, f"{folder}/penalised.{rank}.pt")
    config = {"norm": "none", "loss": "l1 + 0.1 adversarial", "discriminator_width": 4}
    torch.save(fit(config, workers=2).reconstructor.state_dict(), f"{folder}/gan.{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_train_the_same_network_as_one(tmp_path: Path) -> None:
    """With batch normalisation and a discriminator too, whose moments are those of both."""
    mp.spawn(_one_of_two, (str(tmp_path),), nprocs=2)

    def left(name: str) -> list:
        return [torch.load(tmp_path / f"{name}.{k}.pt", weights_only=True) for k in (0, 1)]

    for name, config in SHARED.items():
        first, second = left(name)
        for key, value in fit(config).reconstructor.state_dict().items():
            assert torch.equal(first[key], second[key]), (name, key)
            torch.testing.assert_close(first[key], value, atol=2e-3, rtol=0.05)
    for slope in left("penalised"):
        torch.testing.assert_close(slope, penalised(1).gain.grad)
    # Adam blows rounding up where gradients are small, so a GAN is compared before its steps.
    one, two = left("judged")
    alone = _judge(0, 1)
    for which in (0, 1):
        torch.testing.assert_close((one[which] + two[which]) / 2, alone[which])
    both = torch.stack([one[2], two[2]], dim=1).flatten(0, 1) / 2
    assert (both - alone[2]).norm() < 1e-3 * alone[2].norm()
    assert (one[3] - alone[3]).norm() < 1e-3 * alone[3].norm()
    first, second = left("gan")
    assert all(torch.equal(first[key], second[key]) for key in first)
