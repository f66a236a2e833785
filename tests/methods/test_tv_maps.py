"""TV with a map of weights, against other solvers and finite differences."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bench import methods, physics
from bench.methods.classical import _admm
from bench.methods.classical._transforms import Gradient


def images(n: int, height: int = 16, width: int = 16) -> Tensor:
    noise = torch.rand(n, 1, height + 4, width + 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(noise, 5, stride=1)


@pytest.mark.parametrize(
    ("name", "level", "options"),
    [
        ("gaussian_noise", 0.01, {}),
        ("mri_cartesian", 3, {"coils": 2}),
        ("ct_sparse_view", 10, {}),
    ],
)
def test_before_training_it_is_tv(name: str, level: float, options: dict) -> None:
    operator, x = physics.create(name, level, 16, **options), images(2)
    model = methods.create("tv_maps", width=4, iterations=8)
    y = operator.measure(x, ["a", "b"])
    expected = methods.create("tv", weight=float(model.tv.weight))(y, operator)
    error = (model.eval()(y, operator) - expected).square().mean().sqrt()
    assert error < 0.1 * (expected - operator.A_dagger(y)).square().mean().sqrt()
    again = model(y, operator, model.estimate(y, operator))
    assert torch.equal(again, model(y, operator))


def test_complex_images() -> None:
    operator = physics.create("mri_cartesian", 3, 16, coils=2)
    operator.complex_image = True
    y = operator.A(torch.polar(images(2), 6 * images(4)[2:]))
    model = methods.create("tv_maps", width=4, iterations=4)
    expected = methods.create("tv", weight=float(model.tv.weight))(y, operator)
    x_hat = model(y, operator)
    assert x_hat.is_complex()
    assert (x_hat - expected).abs().square().mean().sqrt() < 0.02
    x_hat.abs().sum().backward()
    assert model.body.head.bias.grad.abs() > 0


def test_a_map_is_the_weight_at_each_pixel() -> None:
    """Against the primal-dual method of the paper, in NumPy, for denoising."""
    operator = physics.create("gaussian_noise", 0.01, 12)
    y = operator.measure(images(1, 12, 12), ["a"])
    model = methods.create("tv_maps", width=4, iterations=400)
    where = torch.linspace(0.2, 3.0, 144).view(1, 1, 12, 12)
    model.relative_map = lambda image: where
    ours = model.eval()(y, operator)[0, 0].detach().numpy()
    weights = float(model.tv.weight) * 0.1 * where[0, 0].numpy().astype(float)
    noisy = y[0, 0].numpy().astype(float)
    x, extrapolated, dual = noisy.copy(), noisy.copy(), np.zeros((2, 12, 12))
    step = 1 / np.sqrt(8)
    for _ in range(3000):
        slopes = np.stack([extrapolated - np.roll(extrapolated, 1, axis) for axis in (0, 1)])
        dual = dual + step * slopes
        dual /= np.maximum(1, np.hypot(*dual) / weights)
        back = sum(part - np.roll(part, -1, axis) for axis, part in enumerate(dual))
        before, x = x, np.clip((x - step * back + step * noisy) / (1 + step), 0, 1)
        extrapolated = 2 * x - before
    np.testing.assert_allclose(ours, x, atol=2e-3)


@pytest.mark.parametrize(("name", "level"), [("gaussian_noise", 0.01), ("ct_sparse_view", 10)])
def test_the_gradient_of_the_iterations(
    name: str, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against finite differences; with an iterative solver, only if that solves exactly."""
    operator = physics.create(name, level, 12)
    y = operator.measure(images(1, 12, 12), ["a"])
    model = methods.create("tv_maps", width=4, iterations=4)
    where = (0.5 + images(2, 12, 12)[1:]).requires_grad_()
    direction = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    target = images(3, 12, 12)[2:]
    estimate = model.estimate(y, operator)
    monkeypatch.setattr(_admm, "INNER_STEPS", 200)
    monkeypatch.setattr(_admm, "INNER_TOLERANCE", 1e-6)

    def loss(weights: Tensor) -> Tensor:
        model.relative_map = lambda image: weights
        return (model(y, operator, estimate) - target).square().sum()

    loss(where).backward()
    step = 3e-3
    with torch.no_grad():
        change = loss(where + step * direction) - loss(where - step * direction)
    expected = float(change) / (2 * step)
    assert float((where.grad * direction).sum()) == pytest.approx(expected, rel=0.05)


def test_shrinking_nothing_has_a_derivative() -> None:
    flat = torch.zeros(1, 2, 3, 3, requires_grad=True)
    Gradient().shrink(flat, 0.1).sum().backward()
    assert torch.equal(flat.grad, torch.zeros_like(flat))
