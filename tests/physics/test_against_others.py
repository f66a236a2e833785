"""Operators against independent implementations and analytic answers."""

import math
from collections.abc import Callable

import finufft
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import sigpy
import skimage.measure
import torch
from PIL import Image
from skimage.transform import iradon, radon

from bench import physics
from bench.physics import _nufft
from bench.physics._coils import birdcage
from bench.physics.mri_cartesian import measured

SHAPES = [(32, 32), (33, 33), (33, 24)]


def smooth(height: int, width: int) -> np.ndarray:
    """Draw an image without detail finer than a pixel, dark at its border."""
    noise = np.random.default_rng(0).random((height, width))
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    inside = (rows**2 + columns**2) < 0.6
    return scipy.ndimage.gaussian_filter(noise * inside, 2).astype(np.float32)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


# --- blur ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_gaussian_blur_is_scipys(shape: tuple[int, int], sigma: float) -> None:
    x = np.random.default_rng(1).random(shape).astype(np.float32)
    ours = physics.create("gaussian_blur", sigma, shape).A(tensor(x))[0, 0].numpy()
    theirs = scipy.ndimage.gaussian_filter(
        x.astype(np.float64), sigma, mode="wrap", radius=math.ceil(4 * sigma)
    )
    assert relative(ours, theirs) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_motion_blur_is_scipys_convolution(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(1).random(shape).astype(np.float32)
    operator = physics.create("motion_blur", 6.5, shape, angle=25.0)
    theirs = scipy.signal.convolve2d(x, operator.kernel().numpy(), mode="same", boundary="wrap")
    assert relative(operator.A(tensor(x))[0, 0].numpy(), theirs) < 1e-6


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 200.0])
def test_a_motion_kernel_has_the_moments_of_its_segment(angle: float) -> None:
    length = 9.0
    kernel = physics.create("motion_blur", length, 64, angle=angle).kernel().numpy()
    reach = len(kernel) // 2
    up, right = reach - np.arange(len(kernel))[:, None], np.arange(len(kernel)) - reach
    along = right * np.cos(np.radians(angle)) + up * np.sin(np.radians(angle))
    across = right * np.sin(np.radians(angle)) - up * np.cos(np.radians(angle))
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * along).sum() == pytest.approx(0, abs=1e-9)
    # Linear interpolation onto pixels spreads each point by at most 1/4 pixel squared an axis.
    assert (kernel * along**2).sum() == pytest.approx(length**2 / 12, abs=0.26)
    assert (kernel * across**2).sum() < 0.26


def test_dividing_by_the_kernel_undoes_a_blur_without_noise() -> None:
    x = tensor(smooth(48, 40))
    operator = physics.create("gaussian_blur", 1.0, (48, 40), noise_variance=0.0)
    assert relative(operator.A_dagger(operator.A(x)).numpy(), x.numpy()) < 1e-3


# --- super-resolution ------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "shape"), [(2, (32, 48)), (4, (128, 128)), (8, (64, 32))])
def test_bicubic_is_pillows(factor: int, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(2).random(shape).astype(np.float32)
    small = (shape[1] // factor, shape[0] // factor)
    theirs = np.asarray(Image.fromarray(x).resize(small, Image.Resampling.BICUBIC))
    ours = physics.create("super_resolution", factor, shape).A(tensor(x))[0, 0].numpy()
    assert ours.shape == (shape[0] // factor, shape[1] // factor)
    assert np.abs(ours - theirs).max() < 1e-5


def test_area_is_scikit_images_block_mean() -> None:
    x = np.random.default_rng(2).random((32, 48)).astype(np.float32)
    operator = physics.create("super_resolution", 4, (32, 48), downsampler="area")
    theirs = skimage.measure.block_reduce(x, (4, 4), np.mean)
    assert np.abs(operator.A(tensor(x))[0, 0].numpy() - theirs).max() < 1e-6


def test_kspace_crop_keeps_the_middle_of_sigpys_transform() -> None:
    x = smooth(66, 54)
    operator = physics.create("super_resolution", 2, (66, 54), downsampler="kspace_crop")
    y = operator.A(tensor(x))[0, 0].numpy()
    ours = sigpy.fft(y.astype(complex), norm=None)
    # Half-pixel shifts aside, which odd halves (33, 27) do not need, k-space is cut, not changed.
    theirs = sigpy.resize(np.fft.fftshift(np.fft.fft2(x)), y.shape) / 4
    assert relative(np.abs(ours), np.abs(theirs)) < 1e-5
    assert y.mean() == pytest.approx(x.mean(), rel=1e-5)
    band_limited = operator.A_dagger(torch.from_numpy(y)[None, None])
    assert relative(operator.A(band_limited)[0, 0].numpy(), y) < 1e-5


# --- MRI -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_kspace_is_sigpys_fft(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(3).random(shape).astype(np.float32)
    operator = physics.create("mri_cartesian", 1, shape, centre_fraction=0)
    assert relative(operator.A(tensor(x))[0, 0].numpy(), sigpy.fft(x.astype(complex))) < 1e-6


@pytest.mark.parametrize(("name", "level"), [("mri_radial", 11), ("mri_spiral", 2)])
@pytest.mark.parametrize("shape", [(24, 24), (21, 30)])
def test_nufft_is_the_exact_sum_and_sigpys(name: str, level: int, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(3).random(shape)
    operator = physics.create(name, level, shape)
    places, _ = operator.samples
    rows, columns = (np.arange(n) - n // 2 for n in shape)
    exact = np.einsum(
        "kr,rc,kc->k",
        np.exp(-2j * np.pi * places[:, :1] * rows / shape[0]),
        x,
        np.exp(-2j * np.pi * places[:, 1:] * columns / shape[1]),
    ) / np.sqrt(x.size)
    ours = operator.A(tensor(x))[0, 0].numpy()
    assert relative(ours, exact) < 1e-5
    assert relative(sigpy.nufft(x.astype(complex), places, oversamp=2, width=6), ours) < 1e-3
    back = operator.decode(torch.from_numpy(ours)[None, None])[0, 0].numpy()
    theirs = sigpy.nufft_adjoint(ours, places, oshape=shape, oversamp=2, width=6)
    assert relative(back, theirs) < 1e-3


def test_a_gpu_transform_is_called_like_finufft(monkeypatch: pytest.MonkeyPatch) -> None:
    """With FINUFFT in place of cuFINUFFT, which takes tensors and needs a GPU."""
    x, operator = tensor(smooth(24, 30)), physics.create("mri_radial", 11, (24, 30), coils=3)
    expected = operator.A(x), operator.A_adjoint(operator.A(x))
    called = []

    def there(name: str, device: torch.device) -> Callable[..., None]:
        def transform(*tensors: torch.Tensor, out: torch.Tensor, eps: float, isign: int) -> None:
            called.append(name)
            arrays = [one.numpy() for one in tensors]
            getattr(finufft, name)(*arrays, out=out.numpy(), eps=eps, isign=isign)

        return transform

    monkeypatch.setattr(_nufft, "_gpu_transform", there)
    torch.testing.assert_close((operator.A(x), operator.A_adjoint(operator.A(x))), expected)
    assert called == ["nufft2d2", "nufft2d2", "nufft2d1"]


@pytest.mark.parametrize(
    ("name", "level", "least"),
    [("mri_radial", 201, 34), ("mri_spiral", 1, 34), ("mri_cartesian", 1, 100)],
)
def test_density_compensation_restores_a_fully_sampled_image(
    name: str, level: int, least: float
) -> None:
    options = {"centre_fraction": 0} if name == "mri_cartesian" else {}
    operator = physics.create(name, level, 128, noise_variance=0.0, coils=4, **options)
    x = tensor(smooth(128, 128))
    x = x / x.max()
    error = (operator.A_dagger(operator.A(x)) - x).square().mean()
    assert -10 * torch.log10(error + 1e-12) > least


@pytest.mark.parametrize("acceleration", [1.0, 2.0, 6.0])
@pytest.mark.parametrize("interleaves", [1, 8])
def test_spirals_are_as_short_as_asked_for(acceleration: float, interleaves: int) -> None:
    operator = physics.create("mri_spiral", acceleration, 128, interleaves=interleaves)
    samples = operator.samples[0].reshape(interleaves, -1, 2)
    length = np.linalg.norm(np.diff(samples, axis=1), axis=-1).sum()
    full = np.pi / 4 * 128**2  # cells of a disc: turns one cell apart
    assert length == pytest.approx(full / acceleration, rel=0.06)


def test_radial_spokes_turn_by_the_golden_angle() -> None:
    samples = physics.create("mri_radial", 5, 64).samples[0].reshape(5, -1, 2)
    angles = np.degrees(np.arctan2(samples[:, -1, 0], samples[:, -1, 1])) % 360
    assert np.allclose(np.diff(angles) % 360, 111.246, atol=1e-3)
    assert np.allclose(samples[:, samples.shape[1] // 2], 0)


@pytest.mark.parametrize("name", ["mri_cartesian", "mri_radial"])
def test_noise_in_kspace_has_the_asked_for_power(name: str) -> None:
    operator = physics.create(name, 32 if name == "mri_radial" else 2, 128, noise_variance=0.03)
    x = torch.zeros(4, 1, 128, 128)
    y = operator.measure(x, list("abcd"))
    samples = y if name == "mri_radial" else y[operator.mask.expand_as(y)]
    for part in (samples.real, samples.imag):
        assert part.var().item() == pytest.approx(0.03, rel=0.03)
    correlation = (samples.real * samples.imag).mean().item()
    assert abs(correlation) < 5 * 0.03 / math.sqrt(samples.numel())


def test_coils_are_smooth_and_share_the_image() -> None:
    maps = birdcage(8, (48, 40))
    assert torch.allclose(maps.abs().square().sum(0), torch.ones(48, 40), atol=1e-5)
    for axis in (1, 2):
        assert maps.diff(dim=axis).abs().max() < 0.12
    magnitudes = maps.abs().mean((1, 2))
    assert magnitudes.max() < 1.5 * magnitudes.min()
    brightest = [divmod(int(one.abs().argmax()), 40) for one in maps]
    assert len(set(brightest)) == 8


def test_measured_kspace_with_espirit_maps() -> None:
    truth = smooth(64, 64)
    maps = birdcage(6, (64, 64)).numpy()
    phase = np.exp(2j * np.linspace(-1, 1, 64))
    kspace = torch.from_numpy(sigpy.fft(maps * truth * phase, axes=(-2, -1)).astype(np.complex64))
    operator, y = measured(kspace, 2.0)
    assert torch.equal(y[0][:, operator.mask[0, 0]], kspace[:, operator.mask[0, 0]])
    full, everything = measured(kspace, 1.0)
    bright = truth > 0.1 * truth.max()
    assert relative(full.A_dagger(everything)[0, 0].numpy()[bright], truth[bright]) < 0.01
    x = torch.randn(1, 1, 64, 64, dtype=torch.complex64)
    left = torch.vdot(operator.A(x).flatten(), y.flatten())
    right = torch.vdot(x.flatten(), operator.A_adjoint(y).flatten())
    assert abs(left - right) < 1e-5 * operator.A(x).norm() * y.norm()
    residual = operator.A(full.A_adjoint(everything)) - y
    assert residual.norm() < 0.01 * y.norm()


# --- CT --------------------------------------------------------------------------------------


def test_line_integrals_of_a_disc_are_its_chords() -> None:
    size, radius, fine = 129, 40.0, 8
    line = (np.arange(size * fine) + 0.5) / fine - size / 2
    disc = (np.hypot(line[:, None], line) < radius).astype(np.float32)
    x = skimage.measure.block_reduce(disc, (fine, fine), np.mean)
    sinogram = physics.create("ct_sparse_view", 24, size).A(tensor(x))[0, 0].numpy()
    offsets = np.arange(len(sinogram)) - (len(sinogram) - 1) / 2
    chords = 2 * np.sqrt(np.maximum(radius**2 - offsets**2, 0)) / size
    assert relative(sinogram, np.broadcast_to(chords[:, None], sinogram.shape)) < 0.015
    # Every view sees the whole disc: its integral is the area.
    assert np.allclose(sinogram.sum(0), np.pi * radius**2 / size, rtol=0.01)


@pytest.mark.parametrize("shape", [(67, 67), (99, 99)])
def test_radon_transform_and_back_projection_are_scikit_images(shape: tuple[int, int]) -> None:
    # Sizes at which both have their centre on a pixel and on a detector.
    x, views = smooth(*shape), 120
    operator = physics.create("ct_sparse_view", views, shape, noise_variance=0.0)
    angles = np.arange(views) * 180 / views
    theirs = radon(x, angles, circle=False) / shape[0]
    ours = operator.A(tensor(x))[0, 0].numpy()
    extra = (len(ours) - len(theirs)) // 2
    ours = ours[extra : extra + len(theirs)]
    assert relative(ours, theirs) < 0.01
    back = operator.A_dagger(operator.A(tensor(x)))[0, 0].numpy()
    image = iradon(theirs * shape[0], angles, circle=False, output_size=shape[0])
    assert relative(back, image) < 0.03
    assert relative(back, x) < 0.05


@pytest.mark.parametrize("window", ["ramp", "shepp-logan", "cosine", "hamming", "hann"])
def test_filters_are_scikit_images(window: str) -> None:
    from skimage.transform.radon_transform import _get_fourier_filter

    from bench.physics._parallel_beam import ramp

    ours = ramp(100, window).numpy()
    size = 2 * (len(ours) - 1)
    theirs = _get_fourier_filter(size, window)[:, 0][: len(ours)] / 2
    assert (
        np.abs(ours - theirs).max() < 5e-3
    )  # of 0.5; scikit-image samples its windows a little differently


def test_few_photons_make_the_noise_of_their_number() -> None:
    photons, opacity = 2000.0, 4.0
    operator = physics.create("ct_low_dose", photons, 64, views=20, opacity=opacity)
    x = tensor(smooth(64, 64))
    ids = [str(i) for i in range(200)]
    clean = operator.A(x)
    y = operator.measure(x.expand(200, -1, -1, -1), ids)
    expected = photons * torch.exp(-opacity * clean)
    counts = photons * torch.exp(-opacity * y)
    torch.testing.assert_close(counts, counts.round(), atol=0.1, rtol=1e-3)
    assert ((counts.mean(0) - expected[0]) / expected[0].sqrt()).abs().mean() < 2 / math.sqrt(200)
    assert (counts.var(0) / expected[0]).mean().item() == pytest.approx(1, abs=0.02)
    deviation = (y - clean).std(0)
    theory = (expected[0]).rsqrt() / opacity
    assert (deviation / theory).mean().item() == pytest.approx(1, abs=0.02)


# --- chains ------------------------------------------------------------------------------------


def test_a_chain_is_its_steps_in_order() -> None:
    x = tensor(smooth(32, 32))
    blur = physics.create("gaussian_blur", 2.6, 32, kernel_size=15, noise_variance=0.0)
    salt = physics.create("salt_pepper_noise", 0.05, 32)
    chain = physics.create("chain", 0.05, 32)  # MedRecon-ARU's code, by default
    y = chain.measure(x, ["a"])
    assert torch.equal(y, salt.measure(blur.A(x), ["a/1"]))
    assert (y == 1).double().mean().item() == pytest.approx(0.025, abs=0.02)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"name": "gaussian_noise"}, {"name": "poisson_noise"}], "here 2 of 2 have none"),
        ([{"name": "gaussian_noise", "level": 0.1}], "here 0 of 1 have none"),
        ([{"name": "mri_cartesian", "level": 4}, {"name": "gaussian_noise"}], "must come last"),
        ([{"name": "gausian_noise"}], "did you mean 'gaussian_noise'"),
        ([{"level": 0.1}, {}], "a step has no name"),
    ],
)
def test_chains_that_make_no_sense(steps: list[dict[str, object]], message: str) -> None:
    from bench.errors import UserError

    with pytest.raises(UserError, match=message):
        physics.create("chain", 0.1, 32, steps=steps)
