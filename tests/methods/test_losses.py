import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import laplace, uniform_filter
from skimage.metrics import structural_similarity
from torch import nn

from bench.errors import UserError
from bench.methods import losses
from bench.methods.losses import perceptual
from bench.methods.losses.adversarial import Discriminator, discriminator_loss, generator_loss
from bench.methods.losses.edge import edge
from bench.methods.losses.ms_ssim import SCALES, ms_ssim
from bench.methods.losses.ssim import ssim

# Those that are computed from the images alone.
PLAIN = sorted({*losses.LOSSES.names()} - {"perceptual", "adversarial"})


def pair(size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.rand(2, 1, size + 4, size + 4, generator=torch.Generator().manual_seed(0))
    x = nn.functional.avg_pool2d(noise, 5, stride=1)
    x_hat = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return x_hat.requires_grad_(), x


# --- mixes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("mse", {"mse": 1.0}),
        ("0.84 ms_ssim + 0.16 l1", {"ms_ssim": 0.84, "l1": 0.16}),
        ("0.84*ms_ssim+0.16*l1", {"ms_ssim": 0.84, "l1": 0.16}),
        ("mse + 1e-3 adversarial", {"mse": 1.0, "adversarial": 1e-3}),
        ("1e+2 mse+l1", {"mse": 100.0, "l1": 1.0}),
    ],
)
def test_mixes_are_read(text: str, weights: dict[str, float]) -> None:
    assert losses.parse(text) == weights


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mes", "did you mean 'mse'"),
        ("mse +", "is not a sum"),
        ("", "is not a sum"),
        ("mse - l1", "is not a sum"),
        ("l1 + 2 l1", "appears twice"),
    ],
)
def test_mistakes_in_mixes(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        losses.parse(text)


@given(weights=st.dictionaries(st.sampled_from(PLAIN), st.floats(0.01, 10), min_size=1))
@settings(max_examples=25, deadline=None)
def test_a_mix_is_the_weighted_sum_of_its_parts(weights: dict[str, float]) -> None:
    x_hat, x = pair(24)
    text = " + ".join(f"{weight} {name}" for name, weight in weights.items())
    whole = losses.Criterion(text)(x_hat, x).detach()
    parts = sum(
        weight * losses.LOSSES.find(name)(x_hat, x).detach() for name, weight in weights.items()
    )
    assert float(whole) == pytest.approx(float(parts), rel=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_each_part_is_least_at_the_truth_and_leads_there(name: str) -> None:
    x_hat, x = pair()
    part = losses.Criterion(name)
    at_truth = float(part(x, x))
    assert at_truth == pytest.approx(1e-3 if name == "charbonnier" else 0, abs=1e-6)
    value = part(x_hat, x)
    assert value.item() > at_truth
    (slope,) = torch.autograd.grad(value, x_hat)
    nearer = x_hat - 1e-3 * slope / slope.norm() * x.norm()
    assert part(nearer, x).item() < value.item()


def test_bf16_results_are_compared_in_float32() -> None:
    x_hat, x = pair()
    assert losses.Criterion("mse")(x_hat.bfloat16(), x).dtype == torch.float32


# --- against others ------------------------------------------------------------------------------


def test_ssim_is_that_of_scikit_image() -> None:
    x_hat, x = pair()
    theirs = [
        structural_similarity(a, b, data_range=1.0)
        for a, b in zip(x_hat.detach()[:, 0].numpy(), x[:, 0].numpy(), strict=True)
    ]
    assert float(ssim(x_hat, x)) == pytest.approx(1 - np.mean(theirs), abs=1e-5)


def _terms(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean SSIM by scikit-image, and mean contrast-structure: SSIM divided by the luminance."""
    _, whole = structural_similarity(a, b, data_range=1.0, full=True)
    mean_a, mean_b = uniform_filter(a, 7), uniform_filter(b, 7)
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    inside = (slice(3, -3), slice(3, -3))
    return float(whole[inside].mean()), float((whole / luminance)[inside].mean())


@pytest.mark.parametrize(("size", "scales"), [(112, 5), (150, 5), (64, 4), (16, 2), (8, 1)])
def test_ms_ssim_from_scikit_images_ssim(size: int, scales: int) -> None:
    x_hat, x = pair(size)
    exponents = np.array(SCALES[:scales]) * sum(SCALES) / sum(SCALES[:scales])
    expected = []
    for a, b in zip(x_hat.detach()[:, 0].double().numpy(), x[:, 0].double().numpy(), strict=True):
        product = 1.0
        for scale, exponent in enumerate(exponents):
            if scale:
                half = [n // 2 * 2 for n in a.shape]
                a, b = (
                    v[: half[0], : half[1]].reshape(half[0] // 2, 2, half[1] // 2, 2).mean((1, 3))
                    for v in (a, b)
                )
            both, contrast = _terms(a, b)
            product *= (both if scale == scales - 1 else contrast) ** exponent
        expected.append(product)
    assert float(ms_ssim(x_hat, x)) == pytest.approx(1 - np.mean(expected), abs=2e-5)


def test_ms_ssim_of_unlike_images_is_finite() -> None:
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    negative = (1 - x).requires_grad_()
    value = ms_ssim(negative, x)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(negative.grad).all()


def test_edge_is_the_laplacian_of_scipy_and_its_diagonal_part() -> None:
    """The 8-neighbour kernel is the sum of the 4-neighbour one and its diagonal counterpart."""
    x_hat, x = pair()
    d = (x_hat - x).detach()[:, 0].double().numpy()
    sums = []
    for image in d:
        wide = np.pad(image, 1, mode="reflect")
        diagonal = wide[:-2, :-2] + wide[:-2, 2:] + wide[2:, :-2] + wide[2:, 2:] - 4 * image
        sums.append(np.abs(laplace(image, mode="mirror") + diagonal).mean() / 16)
    assert float(edge(x_hat, x)) == pytest.approx(np.mean(sums), rel=1e-5)


# --- perceptual ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "convolutions", "parameters"),
    # torchvision's VGG16 and VGG19, 138,357,544 and 143,667,240, less their dense layers
    [("vgg16", 13, 138_357_544 - 123_642_856), ("vgg19", 16, 143_667_240 - 123_642_856)],
)
def test_vgg_has_torchvisions_names_and_size(name: str, convolutions: int, parameters: int) -> None:
    network = perceptual.layers(perceptual.NETWORKS[name].blocks)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert sum(isinstance(layer, nn.Conv2d) for layer in network) == convolutions
    if name == "vgg19":
        last = network[perceptual.NETWORKS[name].depth - 2]  # conv5_4 is features.34
        assert network[34] is last
        assert last.out_channels == 512


def _weights_file(path: Path, name: str = "vgg16") -> Path:
    network = perceptual.layers(perceptual.NETWORKS[name].blocks)
    state = {f"features.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(3)}, path)
    return path


def test_perceptual_weights_from_a_file_of_ones_own(tmp_path: Path) -> None:
    x_hat, x = pair(32)
    source = str(_weights_file(tmp_path / "mine.pth"))
    criterion = losses.Criterion("l1 + 0.1 perceptual", source)
    assert not any(weight.requires_grad for weight in criterion.parameters())
    value = criterion(x_hat, x)
    assert float(value) > float(losses.Criterion("l1")(x_hat, x))
    assert float(criterion(x, x)) == 0
    value.backward()
    assert x_hat.grad.any()
    # what it compares: VGG16 after conv3_3 and its activation, on ImageNet's scale, absolutely
    network = perceptual.layers((2, 2, 3, 3, 3))
    state = torch.load(source, weights_only=True)
    network.load_state_dict({key: state[f"features.{key}"] for key in network.state_dict()})
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (perceptual.MEAN, perceptual.STD))
    seen = [network[:16]((image.detach().repeat(1, 3, 1, 1) - mean) / std) for image in (x_hat, x)]
    expected = (seen[0] - seen[1]).abs().mean()
    assert float(criterion.losses["perceptual"](x_hat, x)) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_missing_perceptual_weights_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for source, file in [("vgg19", "vgg19-dcbb9e9d.pth"), ("vgg16", "vgg16-397923af.pth")]:
        with pytest.raises(UserError) as caught:
            losses.Criterion("perceptual", source)
        for part in (str(tmp_path / "checkpoints" / file), f"models/{file}", "perceptual=none"):
            assert part in str(caught.value)
    with pytest.raises(UserError, match=r"nowhere\.pth"):
        losses.Criterion("perceptual", str(tmp_path / "nowhere.pth"))


def test_damaged_or_foreign_perceptual_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = _weights_file(tmp_path / "checkpoints" / "vgg16-397923af.pth")
    found = hashlib.sha256(cached.read_bytes()).hexdigest()[:8]
    with pytest.raises(UserError, match=f"begins with {found} and not 397923af"):
        losses.Criterion("perceptual", "vgg16")
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    with pytest.raises(UserError, match="holds no weights"):
        losses.Criterion("perceptual", str(text))
    other = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, other)
    with pytest.raises(UserError, match="neither VGG16 nor VGG19"):
        losses.Criterion("perceptual", str(other))


def test_without_the_perceptual_part_the_rest_stays() -> None:
    criterion = losses.Criterion("mse + 0.006 perceptual + 0.001 adversarial", "none")
    assert set(criterion.weights) == {"mse", "adversarial"}
    with pytest.raises(UserError, match="nothing is left"):
        losses.Criterion("perceptual", "none")


# --- adversarial ---------------------------------------------------------------------------------


def test_the_discriminator_of_srgan() -> None:
    """Eight convolutions of the published widths; it judges images of any size."""
    model = Discriminator()
    widths = [layer.out_channels for layer in model if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [layer.stride[0] for layer in model if isinstance(layer, nn.Conv2d)] == [1, 2] * 4
    small = Discriminator(4)
    for size in ((32, 32), (33, 47)):
        assert small(torch.rand(3, 1, *size)).shape == (3, 1)


def test_adversarial_losses_are_binary_cross_entropies() -> None:
    x_hat, x = pair(32)
    model = Discriminator(4).eval()
    judged = {"real": model(x), "made": model(x_hat)}
    entropy = nn.functional.binary_cross_entropy_with_logits
    one, zero = torch.ones(2, 1), torch.zeros(2, 1)
    assert float(generator_loss(model, x_hat)) == pytest.approx(
        float(entropy(judged["made"], one)), rel=1e-5
    )
    assert float(discriminator_loss(model, x_hat, x)) == pytest.approx(
        float(entropy(judged["real"], one) + entropy(judged["made"], zero)), rel=1e-5
    )


def test_each_side_teaches_its_own_network_only() -> None:
    x_hat, x = pair(32)
    model = Discriminator(4)
    generator_loss(model, x_hat).backward()
    assert x_hat.grad.any()
    assert all(weight.grad is None for weight in model.parameters())
    x_hat.grad = None
    discriminator_loss(model, x_hat, x).backward()
    assert x_hat.grad is None
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_discriminator_learns_to_tell_images_apart() -> None:
    x_hat, x = pair(32)
    torch.manual_seed(0)
    model = Discriminator(8)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(30):
        optimiser.zero_grad()
        discriminator_loss(model, x_hat, x).backward()
        optimiser.step()
    assert float(model(x).min()) > float(model(x_hat).max())
