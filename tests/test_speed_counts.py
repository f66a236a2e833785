"""What training asks of a GPU, counted without one; the bars are those of docs/speed_counts.md."""

import pytest
import torch
from torch import Tensor

from bench import physics
from bench.physics import Physics
from bench.speed import counts
from bench.speed._pretended import DEVICE, Counting, pretended


def test_the_counting_finds_what_a_gpu_would_wait_for() -> None:
    x = torch.rand(4, 4)
    with Counting() as counting:
        there = x.to(DEVICE)
        there = there + there.T
        assert float(there.sum()) == 1.0
        torch.rand(2)
        assert there.cpu().device.type == "cpu"
    found = counting.counts
    assert (found.uploads, found.uploaded, found.synchronisations, found.draws) == (1, 64, 2, 1)
    assert found.launches == 3  # the copy, the sum of two, the sum of all
    with pytest.raises(RuntimeError, match="tensors on the CPU and on the device"), Counting():
        torch.nn.functional.conv2d(there[None, None], x[None, None])


class Gain(Physics):
    """A user's degradation with a buffer, as its contract asks for."""

    unit, levels, presets = "factor", (0, 9), (1, 2, 4)
    gain: Tensor

    def __init__(self, level: float, image_size: physics.Size):
        super().__init__(level, image_size, 0.01)
        self.register_buffer("gain", torch.tensor([level]))

    def A(self, x: Tensor) -> Tensor:
        return self.gain * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.gain * y


def test_buffers_of_users_degradations_move_to_the_gpu_in_a_chain_too() -> None:
    alone = physics.create(Gain, 2, 8)
    steps = [{"name": f"{__name__}:Gain"}, {"name": "poisson_noise", "level": 10}]
    chain = physics.create("chain", 2, 8, steps=steps)
    with pretended(), Counting():
        for operator in (alone, chain):
            moved = operator.to(DEVICE)
            y = moved.A(torch.rand(2, 1, 8, 8, device=DEVICE))
            assert moved.A_adjoint(y).device == DEVICE
            assert moved.noise_std > 0
            assert moved.norm_squared > 0


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "rician_noise", "gaussian_blur", "super_resolution",
             "mri_cartesian, 8 coils"],
)  # fmt: skip
def test_a_batch_is_drawn_on_the_gpu(name: str) -> None:
    found = counts.data_path(name)
    assert found.synchronisations == 0
    assert found.draws <= 1  # of the augmentation, four numbers an image
    assert found.uploads <= 3 and found.uploaded < 1000


@pytest.mark.parametrize("name", ["unet", "modl"])
def test_a_step_neither_copies_nor_synchronises(name: str) -> None:
    found = counts.step(name, counts.NETWORKS[name])
    assert (found.uploads, found.synchronisations, found.draws) == (0, 0, 0)
    assert found.launches > 100
