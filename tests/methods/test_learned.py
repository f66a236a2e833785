import pytest
import torch

from bench import methods, physics, training
from bench.data import ImageSet
from bench.spec import Budget

OPERATOR = physics.create("gaussian_noise", 0.01, 32)
NETWORKS = methods.names("learned")


def images(n: int, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (9, 16)])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_any_size(name: str, size: tuple[int, int], norm: str) -> None:
    y = images(2, *size)
    x_hat = methods.create(name, width=4, norm=norm).eval()(y, OPERATOR)
    assert x_hat.shape == y.shape
    assert x_hat.dtype == torch.float32
    assert 0 <= x_hat.min() <= x_hat.max() <= 1


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_has_a_gradient(name: str) -> None:
    model = methods.create(name, width=4)
    model(images(2), OPERATOR).square().mean().backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None, key
        assert torch.isfinite(weight.grad).all(), key


def test_parameters_of_the_unet() -> None:
    """The count of fastMRI's U-Net with 32 channels and 4 poolings is 7.76 M without biases."""
    model = methods.create("unet", width=32, depth=4, norm="none")
    convolutions = sum(weight.numel() for weight in model.parameters() if weight.ndim == 4)
    assert convolutions == pytest.approx(7.76e6, rel=0.002)


def test_parameters_of_the_attention_gates() -> None:
    gates = methods.create("attention_residual_unet", width=8, depth=1, norm="none").gates
    # skip 8 -> 4 without bias, gate 16 -> 4 with bias, psi 4 -> 1 with bias
    assert sum(weight.numel() for weight in gates.parameters()) == 8 * 4 + (16 * 4 + 4) + (4 + 1)


@pytest.mark.parametrize(
    ("name", "skip"), [("unet", "residual"), ("attention_residual_unet", "global_skip")]
)
def test_a_global_skip_starts_from_the_input(name: str, skip: str) -> None:
    model = methods.create(name, width=4, **{skip: True}).eval()
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    y = images(2)
    assert torch.equal(model(y, OPERATOR), y)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_overfits_a_single_batch(name: str) -> None:
    smooth = torch.nn.functional.avg_pool2d(images(2, 40, 40), 9, stride=1).numpy()
    few = ImageSet(smooth, ["a", "b"], ["a", "b"])
    quiet = physics.create("gaussian_noise", 1e-6, 32)
    config = {"width": 16, "lr": 5e-3, "augment": "none", "weight_decay": 0.0}
    budget = Budget(steps=400, batch_size=2, reports=4)
    fit = training.fit(name, config, few, few, quiet, budget, seed=0, precision="fp32")
    assert fit.psnr > 35
