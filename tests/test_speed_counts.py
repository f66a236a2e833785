"""What training asks of a GPU, counted without one; the bars are those of docs/speed_counts.md."""

import pytest
import torch

from bench.speed import counts
from bench.speed._pretended import DEVICE, Counting


def test_the_counting_finds_what_a_gpu_would_wait_for() -> None:
    x = torch.rand(4, 4)
    with Counting() as counting:
        there = x.to(DEVICE)
        there = there + there.T
        assert float(there.sum()) == 1.0
        torch.rand(2)
        assert there.cpu().device.type == "cpu"
    found = counting.counts
    assert (found.uploads, found.uploaded, found.waits, found.draws) == (1, 64, 2, 1)
    assert found.launches == 3  # the copy, the sum of two, the sum of all
    with pytest.raises(RuntimeError, match="tensors on the CPU and on the device"), Counting():
        torch.nn.functional.conv2d(there[None, None], x[None, None])


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "rician_noise", "gaussian_blur", "super_resolution",
             "mri_cartesian, 8 coils"],
)  # fmt: skip
def test_a_batch_is_drawn_on_the_gpu(name: str) -> None:
    found = counts.data_path(name)
    assert found.waits == 0
    assert found.draws <= 1  # of the augmentation, four numbers an image
    assert found.uploads <= 3 and found.uploaded < 1000


@pytest.mark.parametrize("name", ["unet", "modl"])
def test_a_step_neither_copies_nor_waits(name: str) -> None:
    found = counts.step(name, counts.NETWORKS[name])
    assert (found.uploads, found.waits, found.draws) == (0, 0, 0)
    assert found.launches > 100
