import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from bench import physics, training
from bench.data import ImageSet
from bench.errors import DivergedError, UserError
from bench.spec import Budget

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
    seen: list[training.Progress] = []
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


def test_a_classical_method_is_validated_once() -> None:
    done = training.fit("tv", {"weight": 1.0}, TRAIN, VAL, OPERATOR, BUDGET, 0)
    assert [progress.step for progress in done.history] == [0]
    assert done.parameters == 0


def test_batches_are_passes_over_all_images() -> None:
    stream = training._batches(5, 3, seed=0)
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


def test_an_unknown_loss() -> None:
    with pytest.raises(UserError, match="did you mean 'mse'"):
        fit({"loss": "mes"})


def test_workers_need_a_group() -> None:
    with pytest.raises(UserError, match=r"torch\.distributed group"):
        fit({}, workers=2)


def _one_of_two(rank: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    done = fit({"norm": "none"}, workers=2)
    torch.save(done.reconstructor.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_train_the_same_network_as_one(tmp_path: Path) -> None:
    mp.spawn(_one_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{k}.pt", weights_only=True) for k in (0, 1))
    alone = fit({"norm": "none"}).reconstructor.state_dict()
    for key, value in alone.items():
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], value, atol=2e-3, rtol=0.05)
