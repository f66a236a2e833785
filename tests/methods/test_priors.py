"""Denoisers that are trained on noise of many levels, and reconstruct from anything else."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, pad

from bench import methods, physics, training
from bench.data import ImageSet
from bench.methods.learned import pnp_dncnn, wcrr
from bench.physics import NoiseLevels
from bench.spec import Budget

TASKS = [
    ("gaussian_noise", 0.01, {}),
    ("gaussian_blur", 1.5, {}),
    ("mri_cartesian", 3, {"coils": 2}),
    ("ct_sparse_view", 10, {}),
]


def images(n: int, height: int = 16, width: int = 16) -> Tensor:
    noise = torch.rand(n, 1, height + 4, width + 4, generator=torch.Generator().manual_seed(0))
    return avg_pool2d(noise, 5, stride=1)


def trained_profile(model: nn.Module) -> None:
    """Bend a regulariser's profile both ways, as training does."""
    with torch.no_grad():
        slopes = torch.tensor([6.0, 2.0, 0.5, -0.9, -0.2])
        model.profile.log_slopes.copy_((slopes + wcrr.RHO).log())
        model.log_scales.normal_(std=0.3, generator=torch.Generator().manual_seed(1))


def small(**config: object) -> nn.Module:
    torch.manual_seed(0)
    model = methods.create("wcrr", filters=5, hidden=4, kernel_size=3, **config)
    trained_profile(model)
    return model


# --- the training -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wcrr", "pnp_dncnn"])
def test_one_training_serves_every_degradation(name: str) -> None:
    config, steps = {
        "wcrr": ({"filters": 4, "hidden": 4, "kernel_size": 3, "lr": 0.03}, 10),
        "pnp_dncnn": ({"width": 8, "depth": 4, "lr": 8e-3}, 120),
    }[name]
    few = ImageSet(images(4).numpy(), list("abcd"), list("abcd"))
    budget = Budget(steps=steps, batch_size=4, reports=1)
    noise, blur = (
        training.fit(
            name, config, few, few, physics.create(task, level, 16), budget, 0, precision="fp32"
        )
        for task, level in [("gaussian_noise", 0.01), ("gaussian_blur", 1.5)]
    )
    other = dict(blur.reconstructor.named_parameters())
    for key, weight in noise.reconstructor.named_parameters():
        assert torch.equal(weight, other[key]), key
    operator = physics.create("gaussian_noise", 0.01, 16)
    y, x = operator.measure(images(4), list("efgh")), images(4)
    error = (training.reconstruct(noise.reconstructor, y, operator) - x).square().mean()
    assert error < 0.6 * (y.clamp(0, 1) - x).square().mean()


def test_levels_of_a_prior_are_relative_to_the_error_of_the_estimate() -> None:
    operator = physics.create("gaussian_noise", 0.01, 16)
    model = small()
    model.prepare(images(8), operator, [str(k) for k in range(8)])
    assert model.level(1.0) == pytest.approx(0.1, rel=0.1)
    assert model.level(1e-9) == physics._noise_levels.LEAST


# --- the regulariser --------------------------------------------------------------------------


def test_the_regulariser_is_what_the_paper_defines() -> None:
    """Convolutions one after another, the norm of a dense matrix, psi integrated from psi'."""
    model, level, shape = small(), 0.2, (9, 10)

    def filtered(x: Tensor) -> Tensor:
        for number, kernel in enumerate(model.kernels):
            kernel = kernel - kernel.mean((2, 3), keepdim=True) if number == 0 else kernel
            x = conv2d(pad(x, (1, 1, 1, 1), mode="circular"), kernel.flip(2, 3).double())
        return x

    x = images(1, *shape).double()
    with torch.no_grad():
        basis = torch.eye(90, dtype=torch.float64).view(90, 1, *shape)
        norm = torch.linalg.matrix_norm(filtered(basis).flatten(1), ord=2)
        offset, slope = model.log_scales.double()
        scales = (torch.exp(offset + slope * np.log(level)) / level).view(-1, 1, 1)
        t = (scales * filtered(x)[0] / norm).numpy()
        knots = np.concatenate([[0.0], wcrr.KNOTS])
        slopes = model.profile.slopes.double().numpy()
        heights = np.concatenate([[0.0], np.cumsum(slopes * np.diff(knots))])
        grid = np.linspace(0, np.abs(t).max(), 20001)
        values = np.interp(grid, knots, heights)
        psi = np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(grid))])
        expected = (np.interp(np.abs(t), grid, psi) / scales.numpy() ** 2).sum()
        levels = torch.full((1, 1, 1, 1), level)
        value = model.regulariser(levels, shape).value(x.float())
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_gradient_and_curvature_are_its_derivatives_and_bounded() -> None:
    model, shape = small().double(), (6, 7)
    regulariser = model.regulariser(torch.full((1, 1, 1, 1), 0.1).double(), shape)
    x = 2 * images(1, *shape).double()
    with torch.no_grad():
        gradient = regulariser.gradient(x)
        basis = torch.eye(42, dtype=torch.float64).view(42, 1, *shape)
        hessian = regulariser.hessian(x)(basis).flatten(1)
    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(gradient, jacobian(lambda z: regulariser.value(z).sum(), x))
    slopes = jacobian(regulariser.gradient, x)
    torch.testing.assert_close(hessian, slopes.view(42, 42), atol=1e-9, rtol=1e-6)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert -wcrr.RHO <= eigenvalues.min() < 0 < eigenvalues.max() <= regulariser.steepest


def test_a_constant_costs_nothing() -> None:
    regulariser = small().regulariser(torch.full((1, 1, 1, 1), 0.1), (16, 16))
    flat = torch.full((1, 1, 16, 16), 0.7)
    assert regulariser.value(flat).item() < 1e-9
    assert regulariser.gradient(flat).abs().max() < 1e-5


def test_denoising_is_differentiated_through_its_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against finite differences of the solution itself."""
    for name, number in [
        ("TRAINING_STEPS", 500), ("TRAINING_TOLERANCE", 1e-8),
        ("IMPLICIT_STEPS", 100), ("IMPLICIT_TOLERANCE", 1e-6),
    ]:  # fmt: skip
        monkeypatch.setattr(wcrr, name, number)
    model = small().double()
    level = torch.tensor([0.05, 0.2]).double().view(2, 1, 1, 1)
    clean, weights = images(2, 8, 8).double(), images(4, 8, 8)[2:].double()
    noisy = clean + level * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        return (model.denoise(noisy, level) * weights).sum()

    loss().backward()
    for weight, where in [
        (model.profile.log_slopes, (0,)),
        (model.log_scales, (1, 2)),
        (model.kernels[2], (1, 0, 0, 1)),
    ]:
        values = []
        for change in (1e-4, -1e-4):
            with torch.no_grad():
                weight[where] += change
                values.append(float(loss()))
                weight[where] -= change
        expected = (values[0] - values[1]) / 2e-4
        assert float(weight.grad[where]) == pytest.approx(expected, rel=2e-2, abs=1e-6)


# --- the reconstruction -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "level", "options"), TASKS)
def test_the_reconstruction_converges(name: str, level: float, options: dict) -> None:
    """The objective falls, no step lowers it any more, and a second start ends where it began."""
    operator = physics.create(name, level, 16, **options)
    model = small(relative_level=0.5).eval()
    y = operator.measure(images(2), ["a", "b"])
    with torch.no_grad():
        problem = model.problem(y, operator)

        def descended(start: Tensor, most: int) -> Tensor:
            return problem.solve(start, model._bounds(start), most, 0.0)

        def residual(x: Tensor) -> Tensor:
            moved = (x - problem.step * problem.gradient(x)).clamp(0, 1)
            return (x - moved).flatten(1).norm(dim=1)

        start = operator.A_dagger(y).clamp(0, 1)
        path = [descended(start, most) for most in (1, 5, 25, 125, 625)]
        values = torch.stack([problem.value(x) for x in [start, *path]])
        assert (values.diff(dim=0) <= 1e-6 * values[0].abs()).all()
        end = path[-1]
        assert (residual(end) < 0.02 * residual(start)).all()
        assert 0 <= end.min() <= end.max() <= 1
        again = descended(end, 50)
        assert (problem.value(again) <= problem.value(end) + 1e-4).all()
        assert (again - end).abs().max() < 1e-2
        returned = model(y, operator)
        left = problem.value(returned) - values[-1]
    assert (left < 0.01 * (values[0] - values[-1])).all()


def test_a_function_that_is_not_convex_falls_with_every_step() -> None:
    points: list[Tensor] = []

    def gradient(x: Tensor) -> Tensor:
        points.append(x)
        return 0.1 * x - x.sin()

    start = torch.linspace(-9, 9, 36).view(4, 1, 3, 3) + 0.1
    end = wcrr.descend(gradient, start, 1 / 1.1, 0.9, lambda x: x, 200, 1e-7)
    assert gradient(end).abs().max() < 1e-4
    heights = torch.stack([(0.05 * x**2 + x.cos()).sum((1, 2, 3)) for x in points])
    lowest = heights.cummin(dim=0).values
    # A point that lies higher than one before was not safe: the next one replaces it.
    assert ((heights > lowest + 1e-5).long().diff(dim=0) <= 1).all()
    assert (heights[-1] <= lowest[-1] + 1e-5).all()
    assert (heights[-1] < heights[0] - 1).all()


def test_complex_images_are_reconstructed_by_parts() -> None:
    """With every sample measured and one coil, real and imaginary parts are denoised apart."""
    operator = physics.create("mri_cartesian", 1, 16, noise_variance=0.01)
    operator.complex_image = True
    parts = images(2)
    y = operator.A(torch.complex(parts[:1] - 0.5, parts[1:] - 0.5))
    y = y + 0.1 * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    model = small(weight=2.0).eval()
    with torch.no_grad():
        whole = model(y, operator)
        noisy = operator.A_adjoint(y)
        level = model.level(1.0)
        problem = model.problem(y, operator)
        for part, real in [(noisy.real, whole.real), (noisy.imag, whole.imag)]:
            alone = wcrr.Problem(
                problem.regulariser, lambda v: v, part, problem.strength, 1.0
            ).solve(part, lambda v: v, 300, 1e-5)
            torch.testing.assert_close(real, alone, atol=2e-3, rtol=0)
    assert whole.is_complex() and level > 0


def test_plug_and_play_solves_the_least_squares_problem_of_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One step with a denoiser that changes nothing, against a dense solve."""
    operator = physics.create("ct_sparse_view", 6, 12, noise_variance=1e-4)
    y = operator.measure(images(1, 12, 12), ["a"])
    model = methods.create("pnp_dncnn", width=4, depth=2, steps=1, strength=0.5, last=2.0).eval()
    model.denoise = lambda image, level: image
    monkeypatch.setattr(pnp_dncnn, "SOLVER_STEPS", 500)
    monkeypatch.setattr(pnp_dncnn, "SOLVER_TOLERANCE", 1e-6)
    columns = operator.A(torch.eye(144).view(-1, 1, 12, 12)).flatten(1).T.double()
    z = operator.A_dagger(y).clamp(0, 1).flatten().double()
    mu = 0.5 * 1e-4 / max(49 / 255, model.level(2.0)) ** 2
    system = columns.T @ columns + mu * torch.eye(144, dtype=torch.float64)
    right = columns.T @ y.flatten().double() + mu * z
    expected = torch.linalg.solve(system, right).view(1, 1, 12, 12).clamp(0, 1)
    torch.testing.assert_close(model(y, operator).double(), expected, atol=0.02, rtol=0)


def test_plug_and_play_keeps_the_phase() -> None:
    operator = physics.create("mri_cartesian", 1, 16, noise_variance=1e-6)
    operator.complex_image = True
    x = torch.polar(images(1) + 0.1, 6 * images(2)[1:])
    y = operator.A(x)
    model = methods.create("pnp_dncnn", width=4, depth=2).eval()
    model.denoise = lambda image, level: image
    with torch.no_grad():
        torch.testing.assert_close(model(y, operator), x, atol=0.02, rtol=0)


def test_the_levels_of_the_training_are_told() -> None:
    noisy = NoiseLevels(64)
    x = images(40, 64, 64)
    y = noisy.measure(x, [str(k) for k in range(40)])
    levels = y[:, 1, 0, 0]
    assert (y[:, 1] == levels.view(-1, 1, 1)).all()
    assert noisy.least <= levels.min() < 0.03 < 0.3 < levels.max() <= noisy.greatest
    torch.testing.assert_close((y[:, :1] - x).flatten(1).std(dim=1), levels, rtol=0.06, atol=0)
    torch.testing.assert_close(noisy.measure(x[7:8], ["7"]), y[7:8])
