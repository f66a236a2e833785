"""What only a GPU can show; the contracts (test_contracts.py) compare each part on both devices."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench import methods, physics, training
from bench.data import ImageSet
from bench.spec import Budget
from bench.training import Recipe, launching
from bench.training.batches import Batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

OPERATOR = physics.create("gaussian_noise", 0.05, 32)
SMALL = {"width": 8, "depth": 2}


def smooth(n: int, name: str) -> ImageSet:
    noise = torch.rand(n, 1, 40, 40, generator=torch.Generator().manual_seed(len(name)))
    ids = [f"{name}{i}" for i in range(n)]
    return ImageSet(nn.functional.avg_pool2d(noise, 9, stride=1).numpy(), ids, ids)


TRAIN, VAL = smooth(8, "train"), smooth(4, "val")


def fit(device: str, **options: object) -> training.Fit:
    budget = Budget(steps=100, batch_size=4, reports=2)
    return training.fit("unet", SMALL, TRAIN, VAL, OPERATOR, budget, 0, device=device, **options)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_learns_as_on_the_cpu(precision: str) -> None:
    there = fit("cuda", precision=precision)
    assert next(there.reconstructor.parameters()).is_cuda
    assert there.psnr == pytest.approx(fit("cpu", precision="fp32").psnr, abs=0.5)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_network_trains_alike_as_a_graph(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = training.as_tensor(TRAIN)[:4].cuda()
    batch = Batch(x, OPERATOR.measure(x, TRAIN.ids[:4]), OPERATOR)
    scores = []
    for way in ("eager", "graphs"):
        monkeypatch.setenv(launching.VARIABLE, way)
        network = methods.create("unet", norm=norm, **SMALL).cuda()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        _, choice = launching.launched(network, batch, bf16=True)
        assert choice.way == way, choice.reason
        assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())
        scores.append(fit("cuda", precision="bf16").psnr)
    assert scores[1] == pytest.approx(scores[0], abs=0.3)


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    whole = fit("cuda", precision="fp32")
    place = tmp_path / "state.pt"
    job = training.TrainingJob(
        "unet", SMALL, Budget(steps=100, batch_size=4, reports=2), 0, precision="fp32",
        checkpoint=place,
    )  # fmt: skip
    run = training.steps(job, TRAIN, VAL, OPERATOR, "cuda")
    next(run)
    run.close()
    resumed = fit("cuda", precision="fp32", checkpoint=place)
    # Sums of some kernels depend on the order in which blocks end.
    assert resumed.psnr == pytest.approx(whole.psnr, abs=0.3)


def test_validation_and_test_images_are_measured_as_on_the_cpu() -> None:
    x = training.as_tensor(VAL)
    here, there = OPERATOR.measure(x, VAL.ids), OPERATOR.measure(x.cuda(), VAL.ids)
    assert torch.equal(here, there.cpu())


def test_the_noise_of_a_step_depends_on_the_step_alone() -> None:
    def drawn(after: int) -> Iterator[torch.Tensor]:
        found = training.batches(TRAIN, OPERATOR, Recipe(), 4, 3, torch.device("cuda"), after=after)
        return (batch.y for batch in found)

    third = next(itertools.islice(drawn(0), 2, None))
    torch.rand(5, device="cuda")
    assert third.is_cuda and torch.equal(third, next(drawn(2)))


def test_memory_that_runs_out_is_recognised_and_freed() -> None:
    free, _ = torch.cuda.mem_get_info()
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2 * free, dtype=torch.uint8, device="cuda")
    assert training.out_of_memory(caught.value)
    torch.cuda.empty_cache()
    assert np.isfinite(fit("cuda", microbatches=2).psnr)


def test_two_trials_share_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from bench.speed import events_of

    for folder in ("images", "run"):
        (tmp_path / folder).mkdir()
    for images in (smooth(8, "a"), smooth(8, "other")):
        for name, image in zip(images.ids, images.images[:, 0], strict=True):
            np.save(tmp_path / "images" / f"{name}.npy", image)
    events = events_of(
        {
            "name": "shared",
            "dataset": {
                "path": str(tmp_path / "images"),
                "image_size": 32,
                "n_val": 2,
                "n_test": 2,
            },
            "degradations": [{"name": "gaussian_noise", "levels": [0.1]}],
            "n_train": [4],
            "methods": [{"name": "unet", "gpus": 0.5}],
            "budget": {"trials": 2, "steps": 300, "reports": 1},
            "seeds": 1,
            "pictures": 0,
        },
        tmp_path / "run",
    )
    ended = [event for event in events if event["event"] == "ended" and "trial" in event]
    assert len(ended) == 2
    starts = [event["time"] - event["seconds"] for event in ended]
    assert max(starts) < min(event["time"] for event in ended)


@pytest.mark.parametrize("name", ["mri_radial", "mri_spiral"])
def test_samples_off_the_grid_are_transformed_on_the_gpu(name: str) -> None:
    pytest.importorskip("cufinufft")
    x = training.as_tensor(VAL)
    operator = physics.create(name, 4, 32, coils=3)
    y = operator.A(x)
    for here, there in (
        (y, operator.A(x.cuda())),
        (operator.A_adjoint(y), operator.A_adjoint(y.cuda())),
    ):
        assert there.is_cuda
        assert (there.cpu() - here).norm() < 1e-4 * here.norm()


@pytest.mark.parametrize("name", ["modl", "cs_unet", "tv_maps", "wcrr"])
def test_networks_that_know_the_physics_train(name: str) -> None:
    operator = physics.create("mri_cartesian", 2, 32, coils=4)
    config = {"loss": "mse", "lr": 1e-4}
    budget = Budget(steps=2, batch_size=2, reports=1)
    done = training.fit(name, config, TRAIN, VAL, operator, budget, 0, device="cuda")
    assert np.isfinite(done.psnr)
    assert methods.find(name).learned
