import math

import pytest
import torch
from torch import nn

from bench import methods, physics, training
from bench.data import ImageSet
from bench.errors import UserError
from bench.methods import compressed_sensing
from bench.methods.compressed_sensing import CompressedSensing
from bench.physics import Physics
from bench.spec import Budget

NETWORKS = methods.names("learned")
# Small networks of every kind, for what does not depend on size.
SMALL: dict[str, dict] = {
    "attention_residual_unet": {"width": 12, "depth": 2},
    "cs_unet": {"width": 4, "depth": 2, "iterations": 2, "inner_width": 8},
    "dncnn": {"width": 8, "depth": 5},
    "e2e_varnet": {"cascades": 2, "width": 4, "depth": 2},
    "ista_net": {"width": 8, "phases": 2},
    "kspace_gan": {"width": 8},
    "learned_primal_dual": {"width": 8, "iterations": 2},
    "modl": {"width": 8, "iterations": 2},
    "nafnet": {"width": 8, "encoder": "1-1-2"},
    "pnp_dncnn": {"width": 8, "depth": 4, "steps": 3},
    "recon_resnet": {"width": 8, "blocks": 2},
    "restormer": {"width": 8, "blocks": "1-1-2", "refinement": 1},
    "srcnn": {"width": 8},
    "srgan_cbam": {"width": 16, "blocks": 2},
    "tv_maps": {"width": 4, "iterations": 4},
    "unet": {"width": 4},
    "wcrr": {"filters": 8, "hidden": 4, "kernel_size": 3},
}
MRI = {"e2e_varnet", "kspace_gan"}
HEADS_AT_0 = {"cs_unet", "modl", "tv_maps"}  # before training


def task(name: str, height: int = 32, width: int = 32, noise: float = 1e-6) -> Physics:
    """A task that a network supports: super-resolution for srgan_cbam, k-space for some."""
    if name == "srgan_cbam":
        return physics.create("super_resolution", 2, (height, width), noise_variance=noise)
    if name in MRI:
        return physics.create("mri_cartesian", 2, (height, width), noise_variance=noise)
    return physics.create("gaussian_noise", noise, (height, width))


def images(n: int, height: int = 32, width: int = 32) -> torch.Tensor:
    noise = torch.rand(n, 1, height + 8, width + 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.avg_pool2d(noise, 9, stride=1)


def measured(name: str, height: int = 32, width: int = 32) -> tuple[torch.Tensor, Physics]:
    operator = task(name, height, width)
    x = images(2, height, width)
    return operator.measure(x, ["a", "b"]), operator


def build(name: str, operator: Physics, **config: object) -> nn.Module:
    torch.manual_seed(0)
    return methods.create(name, operator, **{**SMALL[name], **config})


def test_every_network_is_tried_here() -> None:
    assert set(SMALL) == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(32, 32), (34, 46), (33, 47), (10, 16)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    if name == "srgan_cbam" and size[0] % 2:
        size = (34, 48)  # half of an odd number of pixels cannot be measured
    y, operator = measured(name, *size)
    x_hat = build(name, operator).eval()(y, operator)
    assert x_hat.shape == (2, 1, *size)
    assert x_hat.dtype == torch.float32
    assert 0 <= x_hat.min() <= x_hat.max() <= 1


NORMED = [
    "attention_residual_unet",
    "cs_unet",
    "dncnn",
    "kspace_gan",
    "modl",
    "pnp_dncnn",
    "recon_resnet",
    "srgan_cbam",
    "tv_maps",
    "unet",
]


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_every_weight_has_a_gradient(name: str, norm: str) -> None:
    _gradients(name, norm=norm)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(NORMED)))
def test_every_weight_of_the_others_has_a_gradient(name: str) -> None:
    _gradients(name)


def _gradients(name: str, **config: object) -> None:
    y, operator = measured(name)
    model = build(name, operator, **config)
    with torch.no_grad():  # weights that begin at 0 would hide what stands before them
        for weight in model.parameters():
            if (weight.ndim == 3 or name in HEADS_AT_0) and not weight.any():
                weight.fill_(0.5)
    model(y, operator).sub(images(2) ** 2).square().mean().backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None, key
        assert torch.isfinite(weight.grad).all(), key
        # a bias before a normalisation has no say
        assert weight.grad.any() or key.endswith("bias"), key


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_gives_a_float32_image_near_the_exact_one(name: str) -> None:
    y, operator = measured(name)
    model = build(name, operator).eval()
    exact = model(y, operator)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(y, operator)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05


# --- sizes as published ------------------------------------------------------------------------


def count(name: str, **config: object) -> int:
    return sum(weight.numel() for weight in methods.create(name, **config).parameters())


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        ("srcnn", {}, (81 * 64 + 64) + (25 * 64 * 32 + 32) + (25 * 32 + 1)),  # 9-5-5
        ("srcnn", {"mapping": 1}, (81 * 64 + 64) + (64 * 32 + 32) + (25 * 32 + 1)),  # 9-1-5
        # 15 convolutions without bias, each with a mean and a scale to learn
        ("dncnn", {}, (9 * 64 + 64) + 15 * (9 * 64 * 64 + 2 * 64) + (9 * 64 + 1)),
        # the same with the noise level as a second channel
        ("pnp_dncnn", {}, (18 * 64 + 64) + 15 * (9 * 64 * 64 + 2 * 64) + (9 * 64 + 1)),
        # convolutions to 4, 8 and 60 channels, two numbers a filter for its scale, the profile:
        # fewer than the paper's 15,000
        ("wcrr", {}, 25 * (4 + 4 * 8 + 8 * 60) + 2 * 60 + 5),
    ],
)
def test_parameters_of_the_plain_networks(name: str, config: dict, parameters: int) -> None:
    assert count(name, **config) == parameters


@pytest.mark.parametrize(
    ("name", "config", "millions"),
    [
        ("recon_resnet", {}, 17.27),  # the paper's table 1
        ("attention_residual_unet", {"preset": "medrecon"}, 50.4),  # "about 50 M"
        ("nafnet", {}, 17.11),  # NAFNet-GoPro-width32
        ("restormer", {}, 26.12),  # the paper's 26.12 M, less colour
        ("e2e_varnet", {}, 29.94),  # fastMRI's VarNet; "about 30 M"
        ("unet", {"width": 64, "depth": 4, "norm": "none"}, 31.03),  # the first U-Net
    ],
)
def test_parameters_as_published(name: str, config: dict, millions: float) -> None:
    assert count(name, **config) == pytest.approx(millions * 1e6, abs=0.006e6)


def test_parameters_of_the_unet_of_fastmri() -> None:
    """The count of fastMRI's U-Net with 32 channels and 4 poolings is 7.76 M without biases."""
    model = methods.create("unet", width=32, depth=4, norm="none")
    convolutions = sum(weight.numel() for weight in model.parameters() if weight.ndim == 4)
    assert convolutions == pytest.approx(7.76e6, rel=0.002)


def test_parameters_of_the_super_resolution_generator() -> None:
    """SRResNet's convolutions: ends of 9x9, 16 blocks of two, one more, two that enlarge."""
    block = 2 * (9 * 64 * 64 + 64 + 2 * 64) + 1  # with batch norms and a PReLU
    ends = (81 * 64 + 64 + 1) + (81 * 64 + 1)
    rest = (9 * 64 * 64 + 64 + 2 * 64) + 2 * (9 * 64 * 256 + 256 + 1)
    assert count("srgan_cbam", attention=False) == ends + 16 * block + rest
    cbam = (64 * 4 + 4) + (4 * 64 + 64) + 2 * 49
    assert count("srgan_cbam") == ends + 16 * (block + cbam) + rest


def test_parameters_of_the_attention_gates() -> None:
    gates = methods.create("attention_residual_unet", width=8, depth=1, norm="none").gates
    # skip 8 -> 4 without bias, gate 16 -> 4 with bias, psi 4 -> 1 with bias
    assert sum(weight.numel() for weight in gates.parameters()) == 8 * 4 + (16 * 4 + 4) + (4 + 1)


# --- what makes each what it is ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("unet", {"residual": True}),
        ("attention_residual_unet", {"global_skip": True}),
        ("recon_resnet", {"global_skip": True}),
        ("srcnn", {"global_skip": True}),
        ("dncnn", {}),
        ("nafnet", {}),
        ("restormer", {}),
        ("srgan_cbam", {"global_skip": True}),
    ],
)
def test_a_global_skip_starts_from_the_pseudo_inverse(name: str, config: dict) -> None:
    y, operator = measured(name)
    model = build(name, operator, **config).eval()
    nn.init.zeros_(model.last_layer.weight)
    nn.init.zeros_(model.last_layer.bias)
    expected = operator.A_dagger(y).clamp(0, 1)
    torch.testing.assert_close(model(y, operator), expected, atol=1e-6, rtol=0)


STARTED = [name for name in NETWORKS if methods.find(name).has_start]
INSERT_THE_MEASUREMENT = ["cs_unet", "ista_net", "modl", "recon_resnet"]  # which changes the image


@pytest.mark.parametrize("name", STARTED)
def test_until_it_is_trained_it_is_the_compressed_sensing_that_it_starts_from(name: str) -> None:
    operator, x = task(name, noise=0.01), images(3)
    model = build(name, operator, start="tv")
    assert model.usable_untrained
    model.prepare(x, operator, list("abc"))
    y = operator.measure(x, list("def"))
    expected = methods.create("tv", weight=float(model.tv.weight))(y, operator)
    assert torch.equal(model.eval()(y, operator), expected)
    assert torch.equal(model(y, operator, model.estimate(y, operator)), expected)
    trained = model.train()(y, operator)
    if name not in INSERT_THE_MEASUREMENT:
        torch.testing.assert_close(trained, expected, atol=1e-5, rtol=0)
    assert not model.tv.alone


def test_solutions_of_tv_are_kept_for_the_next_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; those of another operator, weight or measurement are others."""
    operator, x = task("unet", noise=0.01), images(3)
    y = operator.measure(x, list("abc"))
    first = compressed_sensing.tv_solution(y, operator, 0.7)
    solved: list[float] = []

    def solve(y, physics, transform, weight, tolerance):
        solved.append(weight)
        return methods.create("tv", weight=weight)(y, physics)

    monkeypatch.setattr(compressed_sensing, "solve", solve)
    kept = compressed_sensing.tv_solution(y, operator, 0.7)
    assert torch.equal(kept, first)
    kept.zero_()
    assert torch.equal(compressed_sensing.tv_solution(y, operator, 0.7), first)
    assert solved == []
    blurred = physics.create("gaussian_blur", 2.0, tuple(x.shape[-2:]), noise_variance=0.01)
    compressed_sensing.tv_solution(y, operator, 0.8)
    compressed_sensing.tv_solution(y, blurred, 0.7)
    compressed_sensing.tv_solution(y + 1, operator, 0.7)
    assert solved == [0.8, 0.7, 0.7]
    with compressed_sensing.solved_anew():
        compressed_sensing.tv_solution(y, operator, 0.7)
        compressed_sensing.tv_solution(y, operator, 0.7)
    assert solved[3:] == [0.7, 0.7]
    monkeypatch.setattr(compressed_sensing, "KEPT", 0)
    compressed_sensing.tv_solution(y, operator, 0.7)
    compressed_sensing.tv_solution(y, operator, 0.7)
    assert solved[5:] == [0.7]


def test_compressed_sensing_is_tuned_on_training_images() -> None:
    """Within 0.05 dB of the best weight of a fine grid, and it knows its error."""
    operator, x = task("unet", noise=0.01), images(3)
    tuned = CompressedSensing()
    tuned.prepare(x, operator, list("abc"))
    y = operator.measure(x, list("abc"))
    errors = [
        (methods.create("tv", weight=float(weight))(y, operator) - x).square().mean((1, 2, 3))
        for weight in [*torch.logspace(-1.5, 1, 30), tuned.weight]
    ]
    psnrs = [float(-10 * error.log10().mean()) for error in errors]
    assert psnrs[-1] > max(psnrs) - 0.05
    assert float(tuned.error) == pytest.approx(float(errors[-1].mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize(("norm", "shift"), [("instance", 0.3), ("batch", 0), ("none", 0)])
@pytest.mark.parametrize("name", ["unet", "dncnn", "attention_residual_unet"])
def test_the_result_has_the_brightness_and_contrast_of_the_input(
    name: str, norm: str, shift: float
) -> None:
    """a x + b is mapped to a f(x) + b; instance normalisation alone would map it to f(x)."""
    model = build(name, task(name), norm=norm).train()
    x, operator = images(2), task(name)
    once, twice = model(x, operator), model(0.5 * x + shift, operator)
    torch.testing.assert_close(twice, 0.5 * once + shift, atol=1e-4, rtol=1e-3)


def test_the_gan_for_super_resolution_starts_from_the_small_image() -> None:
    operator = physics.create("super_resolution", 4, 64)
    y = operator.measure(images(2, 64, 64), ["a", "b"])
    assert y.shape[-1] == 16
    model = methods.create("srgan_cbam", operator, **SMALL["srgan_cbam"])
    seen: list[torch.Size] = []
    model.stem.register_forward_hook(lambda layer, given, result: seen.append(given[0].shape))
    assert model(y, operator).shape[-1] == 64
    assert seen == [y.shape]


@pytest.mark.parametrize(("factor", "enlargements"), [(2, 1), (3, 1), (4, 2), (6, 2), (8, 3)])
def test_the_generator_enlarges_by_the_factor_of_the_task(factor: int, enlargements: int) -> None:
    operator = physics.create("super_resolution", factor, 48)
    model = methods.create("srgan_cbam", operator, **SMALL["srgan_cbam"])
    assert sum(isinstance(layer, nn.PixelShuffle) for layer in model.up) == enlargements
    y = operator.measure(images(1, 48, 48), ["a"])
    assert model(y, operator).shape == (1, 1, 48, 48)
    with pytest.raises(ValueError, match="enlarge"):
        model(images(1), task("unet"))


def test_the_gan_for_super_resolution_denoises_too() -> None:
    operator = task("unet")
    model = methods.create("srgan_cbam", operator, **SMALL["srgan_cbam"])
    assert model(images(2), operator).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("coils", [1, 3])
def test_the_kspace_gan_keeps_what_was_measured(coils: int) -> None:
    operator = physics.create("mri_cartesian", 3, (33, 32), coils=coils)
    y = operator.measure(images(2, 33, 32), ["a", "b"])
    model = methods.create("kspace_gan", operator, width=8)
    kspace = model.complete(y, operator)
    mask = operator.mask.expand_as(y)
    assert torch.equal(kspace[mask], y[mask])
    assert kspace[~mask].abs().min() > 0


@pytest.mark.parametrize("coils", [1, 4])
def test_recon_resnet_is_consistent_with_cartesian_data(coils: int) -> None:
    """Where a frequency and its mirror are measured, the image agrees with y, whatever it was."""
    operator = physics.create("mri_cartesian", 2, 32, coils=coils, noise_variance=0.0)
    y = operator.measure(images(2), ["a", "b"])
    free, bound = (
        build("recon_resnet", operator, data_consistency=on).eval() for on in (False, True)
    )
    bound.load_state_dict(free.state_dict())
    before, after = ((operator.A(m(y, operator)) - y).norm() for m in (free, bound))
    assert after < 0.5 * before
    if coils == 1:
        symmetric = operator.spectrum((32, 32)) == 1
        seen = torch.fft.rfft2(free.train().network(operator.A_dagger(y)), norm="ortho")
        assert symmetric.any() and seen.shape[-2:] == symmetric.shape
        kept = torch.fft.rfft2(bound.train()(y, operator), norm="ortho")
        truth = torch.fft.rfft2(images(2), norm="ortho")
        torch.testing.assert_close(
            kept[..., symmetric], truth[..., symmetric], atol=1e-5, rtol=1e-4
        )


def test_presets_fill_in_what_is_not_given() -> None:
    small = methods.create("attention_residual_unet", preset="medrecon", width=4)
    assert small.sigmoid
    assert small.scaling == "none"  # a sigmoid's result lies on the scale of the images
    skipping = methods.create("attention_residual_unet", sigmoid=True, global_skip=True)
    assert skipping.scaling == "standard"
    assert small.stride == 16
    assert small.head.in_channels == 4
    with pytest.raises(UserError, match="did you mean 'medrecon'"):
        methods.create("attention_residual_unet", preset="medrekon")
    space = methods.find("attention_residual_unet").space({"preset": "medrecon"})
    assert set(space) == {"lr", "weight_decay", "augment"}


# --- learning ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_overfits_a_single_batch(name: str) -> None:
    few = ImageSet(images(2, 16, 16).numpy(), ["a", "b"], ["a", "b"])
    config: dict = {
        "attention_residual_unet": {"width": 16, "lr": 5e-3},
        "cs_unet": {"width": 8, "depth": 2, "iterations": 2, "inner_width": 8},
        "dncnn": {"width": 16, "depth": 5, "lr": 5e-3},
        "e2e_varnet": {"cascades": 2, "width": 8, "depth": 1, "lr": 1e-2, "loss": "mse"},
        "ista_net": {"width": 16, "phases": 2, "lr": 5e-3},
        "kspace_gan": {"width": 16, "lr": 8e-3, "loss": "mse"},
        "learned_primal_dual": {"width": 24, "iterations": 3, "lr": 1e-2},
        "modl": {"width": 16, "iterations": 2, "lr": 5e-3},
        "nafnet": {"width": 16, "encoder": "1-1-2", "lr": 3e-3},
        "pnp_dncnn": {"width": 8, "depth": 4, "lr": 5e-3},
        "recon_resnet": {"width": 16, "blocks": 3, "lr": 3e-3, "dropout": 0.0, "loss": "mse"},
        "restormer": {"width": 8, "blocks": "1-1-2", "lr": 5e-3},
        "srcnn": {"width": 32, "lr": 4e-3},
        "srgan_cbam": {"width": 32, "blocks": 3, "lr": 3e-3, "loss": "mse", "pretrain": 0.0},
        "tv_maps": {"width": 4, "iterations": 2},
        "unet": {"width": 16, "lr": 5e-3},
        "wcrr": {"filters": 2, "hidden": 2, "kernel_size": 3, "lr": 2e-2},
    }[name]
    budget = Budget(steps=80, batch_size=2, reports=1)
    fit = training.fit(
        name, {"augment": "none", "weight_decay": 0.0, **config}, few, few, task(name, 16, 16),
        budget, seed=0, precision="fp32",
    )  # fmt: skip
    assert math.isfinite(fit.psnr)
    assert fit.psnr > 31
