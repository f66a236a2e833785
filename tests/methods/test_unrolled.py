"""Networks that apply the operator: against dense linear algebra, and on every linear physics."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import methods, physics, training
from bench.data import ImageSet
from bench.methods.learned import _unrolled
from bench.methods.learned._dihedral import dihedral_mean
from bench.methods.learned.ista_net import ISTANet, Shrinkage, soft
from bench.methods.learned.learned_primal_dual import LearnedPrimalDual
from bench.methods.learned.modl import ERROR, MoDL
from bench.physics import Physics
from bench.spec import Budget

SIZE = (10, 12)
SMALL: dict[str, dict] = {
    "cs_unet": {
        "width": 4, "depth": 1, "iterations": 1, "inner_width": 8, "start": "pseudo_inverse",
    },
    "ista_net": {"width": 8, "phases": 2},
    "learned_primal_dual": {"width": 8, "iterations": 2},
    "modl": {"width": 8, "iterations": 2},
}  # fmt: skip
# One of each shape that a measurement has.
TASKS: dict[str, tuple[str, float, dict]] = {
    "noise": ("gaussian_noise", 0.02, {}),
    "blur": ("gaussian_blur", 1.0, {}),
    "fewer pixels": ("super_resolution", 2, {"noise_variance": 1e-3}),
    "lines": ("mri_cartesian", 2, {}),
    "coils": ("mri_cartesian", 2, {"coils": 3}),
    "spokes": ("mri_radial", 9, {"coils": 2}),
    "spiral": ("mri_spiral", 2, {}),
    "views": ("ct_sparse_view", 9, {}),
    "photons": ("ct_low_dose", 1e4, {"views": 9}),
    "blurred, then coils": (
        "chain", 2.0,
        {"steps": [{"name": "motion_blur", "level": 3}, {"name": "mri_cartesian", "coils": 2}]},
    ),
}  # fmt: skip


def task(case: str, complex_image: bool = False) -> Physics:
    name, level, options = TASKS[case]
    operator = physics.create(name, level, SIZE, **options)
    if complex_image:
        operator.complex_image = True
    return operator


def images(n: int, height: int = SIZE[0], width: int = SIZE[1]) -> Tensor:
    noise = torch.rand(n, 1, height + 4, width + 4, generator=torch.Generator().manual_seed(0))
    return nn.functional.avg_pool2d(noise, 5, stride=1)


def complex_images(n: int) -> Tensor:
    """Images whose phase changes slowly."""
    return images(n) * torch.exp(2j * images(n).flip(0, 3))


def build(name: str, operator: Physics, **config: object) -> Any:
    torch.manual_seed(0)
    return methods.create(name, operator, **{**SMALL[name], **config})


def awake(name: str, operator: Physics, **config: object) -> Any:
    """Build one for training, with other weights than 0, which would hide what is before them."""
    model = build(name, operator, **config).train()
    for weight in model.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.3)
    return model


every_method = pytest.mark.parametrize("name", SMALL)


@every_method
@pytest.mark.parametrize("case", TASKS)
def test_every_linear_physics(name: str, case: str) -> None:
    """Images of twice the brightness are reconstructed twice as bright, and can be learned from."""
    operator = task(case)
    y = operator.measure(images(2), ["a", "b"])
    model = awake(name, operator)
    once, twice = model(y, operator), model(2 * y, operator)
    assert once.shape == (2, 1, *SIZE)
    torch.testing.assert_close(twice, 2 * once, atol=1e-5, rtol=1e-3)
    (once - images(2)).square().mean().backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None, key
        assert torch.isfinite(weight.grad).all(), key


@every_method
@pytest.mark.parametrize("case", ["coils", "spokes"])
def test_complex_images_are_reconstructed_whatever_their_phase(name: str, case: str) -> None:
    """As magnitudes; and the network does see the phase."""
    operator = task(case, complex_image=True)
    y = operator.A(complex_images(2))
    model = awake(name, operator)
    x_hat = model(y, operator)
    assert x_hat.shape == (2, 1, *SIZE)
    assert x_hat.dtype == torch.float32
    assert x_hat.min() >= 0
    x_hat.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    assert (model(1j * y, operator) - x_hat).abs().max() > 1e-4
    tv = build(name, operator, start="tv")
    expected = methods.create("tv", weight=float(tv.tv.weight))(y, operator)
    assert expected.is_complex()
    torch.testing.assert_close(tv.eval()(y, operator), expected.abs().clamp(0, 1))


@every_method
def test_few_steps_improve_on_the_pseudo_inverse(name: str) -> None:
    few = ImageSet(images(8, 16, 16).numpy(), list("abcdefgh"), list("abcdefgh"))
    operator = physics.create("mri_cartesian", 2, 16, noise_variance=0.02)
    done = training.fit(
        name, {"lr": 1e-2, "augment": "none", **SMALL[name]}, few, few, operator,
        Budget(steps=30, batch_size=8, reports=1), 0, precision="fp32",
    )  # fmt: skip
    x = torch.tensor(few.images)
    error = (operator.A_dagger(operator.measure(x, few.ids)) - x).square().mean((1, 2, 3))
    assert done.psnr > float(-10 * error.log10().mean()) + 1
    assert done.step == 30


# --- as published --------------------------------------------------------------------------------


def parameters(name: str, operator: Physics | None = None) -> int:
    return sum(weight.numel() for weight in methods.create(name, operator).parameters())


def test_parameters_of_modl() -> None:
    """Five layers of 3x3, 64 filters, without biases; a scale and a shift each; lambda."""
    convolutions = 9 * (2 * 64 + 3 * 64 * 64 + 64 * 2)
    norms = 2 * (4 * 64 + 2)
    assert parameters("modl", task("lines", complex_image=True)) == convolutions + norms + 1
    real = 9 * (64 + 3 * 64 * 64 + 64) + 2 * (4 * 64 + 1) + 1
    assert parameters("modl") == real


def test_parameters_of_ista_net() -> None:
    """The paper's section 3.4: 9 phases of 32 filters, each with a step and a threshold."""
    phase = 1 * 32 * 9 + 4 * 32 * 32 * 9 + 32 * 1 * 9 + 2
    assert phase == 37_442
    assert parameters("ista_net") == 9 * phase


@pytest.mark.parametrize(("case", "channels"), [("views", 1), ("lines", 2), ("coils", 6)])
def test_parameters_of_learned_primal_dual(case: str, channels: int) -> None:
    """Three layers of 3x3, 32 filters, with biases, and PReLUs with a slope for each channel."""

    def block(before: int, after: int) -> int:
        return (9 * before * 32 + 32) + (9 * 32 * 32 + 32) + (9 * 32 * after + after) + 2 * 32

    dual, primal = block((5 + 1 + 1) * channels, 5 * channels), block(5 + 1, 5)
    assert parameters("learned_primal_dual", task(case)) == 10 * (dual + primal)


def test_samples_along_a_trajectory_are_convolved_along_it() -> None:
    model = LearnedPrimalDual(physics=task("spokes"))
    weights = list(model.duals.parameters())
    assert weights[0].shape == (32, 7 * 4, 1, 3)


# --- equations -----------------------------------------------------------------------------------


def dense(operator: Physics, dtype: torch.dtype) -> Tensor:
    """Write A as a matrix, from the images of all single pixels."""
    height, width = operator.shape
    basis = torch.eye(height * width, dtype=dtype).view(-1, 1, height, width)
    return operator.A(basis).flatten(1).T


@pytest.mark.parametrize("case", ["blur", "fewer pixels", "coils", "views"])
def test_a_turn_of_modl_solves_its_quadratic_problem(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(A^H A + lambda)^-1 (A^H y + lambda D(x)) of the start."""
    monkeypatch.setattr(_unrolled, "TOLERANCE", 1e-6)
    operator = task(case)
    y = operator.measure(images(2), ["a", "b"])
    model = awake("modl", operator, iterations=1, solver_steps=60, norm="none")
    x = operator.A_dagger(y)
    scale = x.square().mean((1, 2, 3), keepdim=True).sqrt()
    denoised = x + scale * model.network(x / scale)
    weight = (max(operator.noise_std, 1e-3) / ERROR) ** 2 * model.log_factor.exp()
    A = dense(operator, torch.float32)
    normal = (A.mH @ A).real + weight * torch.eye(A.shape[1])
    right = (A.mH @ y.flatten(1).T).real + weight * denoised.flatten(1).T
    expected = torch.linalg.solve(normal.double(), right.double()).T.view_as(x).float()
    torch.testing.assert_close(model(y, operator), expected, atol=2e-4, rtol=0)


def test_a_turn_of_modl_solves_it_for_complex_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unrolled, "TOLERANCE", 1e-6)
    operator = task("coils", complex_image=True)
    y = operator.A(complex_images(2))
    model = awake("modl", operator, iterations=1, solver_steps=60, norm="none")
    A = dense(operator, torch.complex64)
    x = (A.mH @ y.flatten(1).T).T.view(2, 1, *SIZE)  # the filled k-space of a Cartesian grid
    scale = x.abs().square().mean((1, 2, 3), keepdim=True).sqrt()
    parts = model.network(torch.cat([x.real, x.imag], dim=1) / scale) * scale
    denoised = x + torch.complex(*parts.split(1, dim=1))
    weight = (operator.noise_std / ERROR) ** 2 * model.log_factor.exp()
    normal = A.mH @ A + weight * torch.eye(A.shape[1])
    right = A.mH @ y.flatten(1).T + weight * denoised.flatten(1).T
    expected = torch.linalg.solve(normal, right).T.view_as(x).abs()
    torch.testing.assert_close(model(y, operator), expected, atol=2e-4, rtol=0)


def test_modl_weighs_by_the_error_of_the_tv_that_it_starts_from() -> None:
    operator = task("noise")
    model = build("modl", operator, start="tv")
    model.prepare(images(3), operator, list("abc"))
    expected = operator.noise_variance / float(model.tv.error) ** 2
    assert model.weight(operator).item() == pytest.approx(expected)


def test_cs_unet_is_modl_until_its_unet_corrects_something() -> None:
    """And the measurement after a U-Net that corrects nothing is a turn without a network."""
    operator = task("coils")
    y = operator.measure(images(2), ["a", "b"])
    modl = awake("modl", operator, width=8, iterations=1, solver_steps=6)
    ours = build("cs_unet", operator).train()
    left_out = ours.load_state_dict(modl.state_dict(), strict=False).missing_keys
    assert {name.partition(".")[0] for name in left_out} == {"unet"}
    torch.testing.assert_close(ours(y, operator), modl(y, operator))
    nn.init.zeros_(modl.last_layers[0].weight)
    nn.init.zeros_(modl.last_layers[0].bias)
    measured_last = build("cs_unet", operator, iterations=0, data_last=True).train()
    measured_last.log_factor.data = modl.log_factor.data
    torch.testing.assert_close(measured_last(y, operator), modl(y, operator))


def turned(x: Tensor, times: int, mirrored: bool) -> Tensor:
    return torch.rot90(x.flip(-1) if mirrored else x, times, (-2, -1))


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_the_mean_over_copies_turns_with_the_image(size: tuple[int, int]) -> None:
    """For a linear filter it is the filter's own mean, and one without directions stays."""
    torch.manual_seed(0)
    network, x = nn.Conv2d(2, 3, 3, padding=1), torch.rand(2, 2, *size)
    mean = dihedral_mean(network, x)
    kernels = [
        turned(network.weight, times, mirrored) for times in range(4) for mirrored in (False, True)
    ]
    filtered = nn.functional.conv2d(x, torch.stack(kernels).mean(0), network.bias, padding=1)
    torch.testing.assert_close(mean, filtered)
    for times, mirrored in product(range(4), (False, True)):
        other = dihedral_mean(network, turned(x, times, mirrored))
        torch.testing.assert_close(other, turned(mean, times, mirrored))
    nn.init.constant_(network.weight, 0.1)
    torch.testing.assert_close(dihedral_mean(network, x), network(x))


def test_cs_unet_turns_with_the_measurement_outside_training() -> None:
    operator = physics.create("gaussian_noise", 0.01, 12)
    y = operator.measure(images(2, 12, 12), ["a", "b"])
    ours = awake("cs_unet", operator, solver_steps=6).eval()
    plain = awake("cs_unet", operator, solver_steps=6, averaged=False).eval()
    plain.load_state_dict(ours.state_dict())
    for times, mirrored in product(range(4), (False, True)):
        there = turned(y, times, mirrored)
        torch.testing.assert_close(
            ours(there, operator), turned(ours(y, operator), times, mirrored)
        )
    assert not torch.allclose(plain(y.flip(-1), operator), plain(y, operator).flip(-1), atol=1e-3)
    assert torch.equal(ours.train()(y, operator), plain.train()(y, operator))


def test_parameters_of_cs_unet() -> None:
    """A MoDL, and a U-Net of two inputs in place of one; fewer than a million."""
    own = parameters("cs_unet")
    unet = methods.create("unet", width=16, depth=3)
    modl = sum(w.numel() for w in MoDL(16).parameters())
    assert own == modl + sum(w.numel() for w in unet.parameters()) + 9 * 16
    assert own < 1e6


def test_ista_net_without_corrections_is_gradient_descent() -> None:
    operator = task("views")
    y = operator.measure(images(2), ["a", "b"])
    model = build("ista_net", operator, phases=3).train()
    for layer in model.last_layers:
        nn.init.zeros_(layer.weight)
    A = dense(operator, torch.float32)
    longest = torch.linalg.matrix_norm(A, ord=2) ** 2
    x = operator.A_dagger(y).flatten(1).T
    for _ in range(3):
        x = x - 0.5 / longest * A.T @ (A @ x - y.flatten(1).T)
    found = model(y, operator).flatten(1).T
    assert (found - x).norm() < 0.03 * (operator.A_dagger(y).flatten(1).T - x).norm()


def test_a_phase_of_ista_net_is_penalised_by_what_its_inverse_misses() -> None:
    """With a transform that is the identity, and one that doubles."""
    shrinkage = Shrinkage(1, 2).train()
    with torch.no_grad():
        for layer in shrinkage.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight)
        nn.init.dirac_(shrinkage.input.weight[1:])
        shrinkage.threshold.fill_(0.3)
    correction, asymmetry = shrinkage(images(2))
    torch.testing.assert_close(correction, soft(images(2), torch.tensor(0.3)))
    assert asymmetry.item() == 0
    with torch.no_grad():
        shrinkage.inverse[0].weight *= 2
    assert shrinkage(images(2))[1].item() == pytest.approx(float(images(2).square().mean()))


def test_soft_thresholding() -> None:
    values = torch.linspace(-2, 2, 21)
    expected = nn.functional.softshrink(values, 0.5)
    torch.testing.assert_close(soft(values, torch.tensor(0.5)), expected)


def test_ista_net_has_its_penalty_in_training_alone() -> None:
    operator = task("noise")
    y = operator.measure(images(4), list("abcd"))
    model = build("ista_net", operator, symmetry=0.5).train()
    model(y, operator)
    whole = model.penalty.item()
    parts = []
    for part in y.split(2):
        model(part, operator)
        parts.append(model.penalty.item())
    assert whole > 0
    assert sum(parts) / 2 == pytest.approx(whole, rel=1e-5)
    model.eval()(y, operator)
    assert model.penalty is None


@pytest.mark.parametrize("case", ["fewer pixels", "coils", "spokes", "views"])
def test_learned_primal_dual_by_hand(case: str) -> None:
    """Algorithm 3 of the paper, with one image and one measurement in memory."""
    operator = task(case)
    y = operator.measure(images(1), ["a"])
    model = build("learned_primal_dual", operator, primal=1, dual=1).train()
    norm = operator.norm_squared**0.5
    scale = operator.A_dagger(y).square().mean().sqrt()

    def flat(values: Tensor) -> Tensor:
        """Real and imaginary parts of each coil, one after the other."""
        if not values.is_complex():
            return values
        return torch.stack([part for c in values[0] for part in (c.real, c.imag)])[None]

    def called(block: nn.Module, *values: Tensor) -> Tensor:
        stacked = torch.cat(values, dim=1)
        line = stacked.ndim == 3
        return block(stacked[:, :, None])[:, :, 0] if line else block(stacked)

    f, h, g = torch.zeros(1, 1, *SIZE), torch.zeros_like(flat(y)), flat(y / norm / scale)
    for dual, primal in zip(model.duals, model.primals, strict=True):
        h = h + called(dual, h, flat(operator.A(f) / norm), g)
        back = torch.complex(h[:, ::2], h[:, 1::2]) if y.is_complex() else h
        f = f + called(primal, f, operator.A_adjoint(back.contiguous()) / norm)
    torch.testing.assert_close(model(y, operator), scale * f, atol=1e-6, rtol=1e-4)


def test_learned_primal_dual_starts_from_zero_or_from_an_image() -> None:
    operator = task("views")
    y = operator.measure(images(2), ["a", "b"])
    for from_zero in (True, False):
        model = build("learned_primal_dual", operator, from_zero=from_zero).train()
        for layer in model.last_layers:
            nn.init.zeros_(layer.weight)
        expected = 0 * operator.A_dagger(y) if from_zero else operator.A_dagger(y)
        torch.testing.assert_close(model(y, operator), expected)


def test_published_sizes_are_the_defaults() -> None:
    modl, ista, lpd = MoDL(), ISTANet(), LearnedPrimalDual()
    assert (modl.iterations, len(ista.shrinkages), len(lpd.duals)) == (10, 9, 10)
    assert (lpd.primal, lpd.dual, lpd.from_zero, ista.symmetry) == (5, 5, True, 0.01)
    assert set(ista.steps.tolist()) == {0.5}
