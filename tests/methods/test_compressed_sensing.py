"""Solvers against other implementations of the same problem, and against their own promises."""

import numpy as np
import pytest
import pywt
import sigpy.mri.app
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, minimize
from skimage.data import shepp_logan_phantom
from skimage.restoration import denoise_tv_chambolle, richardson_lucy, wiener
from skimage.transform import resize

from bench import methods, metrics, physics
from bench.methods.classical._admm import natural_weight, objective, solve
from bench.methods.classical._transforms import Gradient, SparsifyingTransform, Wavelets
from bench.physics._coils import birdcage
from bench.physics.mri_cartesian import fourier, measured

X = torch.tensor(resize(shepp_logan_phantom(), (48, 48)), dtype=torch.float32)[None, None]
TRANSFORMS = [Gradient(), Wavelets("haar", 3), Wavelets("db2", 2), Wavelets("sym4", 1)]
# Every physics at a level where there is something to do.
TASKS = {
    "gaussian_noise": (0.02, {}),
    "rician_noise": (0.005, {}),
    "poisson_noise": (50, {}),
    "salt_pepper_noise": (0.03, {}),
    "gaussian_blur": (1.5, {}),
    "motion_blur": (7, {}),
    "super_resolution": (2, {}),
    "mri_cartesian": (2.5, {"mask": "gaussian2d", "coils": 2}),
    "mri_radial": (20, {}),
    "mri_spiral": (2, {}),
    "ct_sparse_view": (24, {}),
    "ct_low_dose": (3000, {"views": 60}),
    "chain": (0.02, {}),
}


def operator_of(name: str, size: int = 48) -> physics.Physics:
    level, options = TASKS[name]
    return physics.create(name, level, size, **options)


def psnr(x_hat: torch.Tensor, x: torch.Tensor = X) -> float:
    return float(metrics.evaluate(x_hat, x)["psnr"].mean())


def test_every_degradation_is_a_task_here() -> None:
    """But `paired`, of which no method knows the operator."""
    assert set(TASKS) == set(physics.names()) - {"paired"}


# --- transforms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("shape", [(16, 16), (17, 22)])
@pytest.mark.parametrize("kind", [torch.float32, torch.complex64])
def test_a_transform_has_its_adjoint_and_its_gram(
    transform: SparsifyingTransform, shape: tuple[int, int], kind: torch.dtype
) -> None:
    x = torch.randn(2, 1, *shape, dtype=kind)
    coefficients = transform.analyse(x)
    other = torch.randn_like(coefficients)
    left = torch.vdot(other.flatten(), coefficients.flatten())
    right = torch.vdot(transform.synthesise(other).flatten(), x.flatten())
    assert abs(left - right) < 1e-4 * other.norm() * coefficients.norm()
    again = torch.fft.ifft2(torch.fft.fft2(x) * transform.gram(shape))
    assert torch.allclose(transform.synthesise(coefficients).to(again), again, atol=1e-4)


@pytest.mark.parametrize(("wavelet", "levels"), [("haar", 3), ("db2", 2), ("db4", 1)])
def test_wavelets_are_pywts_undecimated_ones(wavelet: str, levels: int) -> None:
    ours = Wavelets(wavelet, levels).analyse(X)[0].numpy()
    theirs = pywt.swt2(X[0, 0].numpy(), wavelet, levels, norm=True, trim_approx=True)
    bands = [band for triple in reversed(theirs[1:]) for band in triple] + [theirs[0]]
    assert len(ours) == len(bands)
    # The order of the three bands of a level and their shifts are conventions.
    for level in range(levels):
        found, wanted = (
            sorted(np.abs(band).sum() for band in part[3 * level : 3 * level + 3])
            for part in (ours, bands)
        )
        assert np.allclose(found, wanted, rtol=1e-4)
    assert np.allclose(np.linalg.norm(ours), np.linalg.norm(X.numpy()), rtol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_shrinking_solves_its_little_problem(transform: SparsifyingTransform) -> None:
    """prox: argmin_d 1/2 |d - c|^2 + t |d|."""
    given_c = torch.randn_like(transform.analyse(X))
    best = transform.shrink(given_c, 0.3)

    def value(d: torch.Tensor) -> float:
        return (0.5 * (d - given_c).square().sum() + 0.3 * transform.norm(d)).item()

    for seed in range(5):
        step = 0.05 * torch.randn(best.shape, generator=torch.Generator().manual_seed(seed))
        assert value(best) <= value(best + step)


# --- the sparse problem ------------------------------------------------------------------------


@settings(max_examples=4, deadline=None)
@given(
    name=st.sampled_from(sorted(TASKS)),
    weight=st.floats(0.2, 3.0),
    transform=st.sampled_from(TRANSFORMS[:3]),
)
def test_the_objective_falls_and_ends_where_no_step_improves_it(
    name: str, weight: float, transform: SparsifyingTransform
) -> None:
    operator = operator_of(name)
    y = operator.measure(X, ["a"])
    strength = weight * natural_weight(operator, X)

    def value(x: torch.Tensor) -> float:
        return objective(x, y, operator, transform, strength).item()

    path = [
        value(solve(y, operator, transform, weight, tolerance=0.0, most=steps))
        for steps in (1, 8, 40)
    ]
    assert path[2] <= path[1] * 1.005
    assert path[2] <= path[0] * 1.001
    x = solve(y, operator, transform, weight, tolerance=3e-5, most=300)
    for seed in range(3):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        assert value(x) <= value((x + 0.01 * noise).clamp(0, 1))
    assert value(x) <= value(X) * 1.001  # the truth is feasible, and not the minimum


def test_what_measures_nothing_is_reconstructed_as_nothing() -> None:
    """As k-space with coils whose estimated sensitivities are all 0."""
    operator = physics.create("gaussian_noise", 0.01, 16)
    operator.A = operator.A_adjoint = operator.A_normal = torch.zeros_like
    operator.spectrum = lambda shape: torch.zeros(shape[0], shape[1] // 2 + 1)
    x = solve(torch.rand(1, 1, 16, 16), operator, Gradient(), 0.7)
    torch.testing.assert_close(x, torch.zeros_like(x))


def test_tv_denoising_is_scikit_images() -> None:
    """Mirrored at its borders, an image has the same TV whether it wraps around or not.

    Almost: which two neighbours make a pixel's gradient differs in the mirror image.
    """
    operator = physics.create("gaussian_noise", 0.01, 96)
    noisy = physics.create("gaussian_noise", 0.01, 48).measure(X, ["a"])
    theirs = denoise_tv_chambolle(
        noisy[0, 0].double().numpy(), weight=0.1, eps=1e-9, max_num_iter=5000
    )
    mirrored = torch.cat([noisy, noisy.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)
    bright = mirrored + 2  # away from the bounds, which scikit-image does not know
    ours = solve(bright / 5, _scaled(operator, 5), Gradient(), 1.0, tolerance=1e-6, most=3000)
    ours = (5 * ours - 2)[0, 0, :48, :48].numpy()
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.1 * np.std(noisy.numpy() - X.numpy())


@pytest.mark.parametrize("name", ["gaussian_noise", "gaussian_blur", "ct_sparse_view"])
def test_the_minimum_is_scipys(name: str) -> None:
    """L-BFGS-B on the same functional, its corners rounded off a little."""
    operator = operator_of(name, 20)
    x = X[..., 12:32, 12:32]
    y = operator.measure(x, ["a"])
    transform, weight = Gradient(), 0.7
    strength = weight * natural_weight(operator, x)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        image = torch.tensor(flat.reshape(1, 1, 20, 20), dtype=torch.float32, requires_grad=True)
        length = (transform.analyse(image).square().sum(1) + 1e-8).sqrt().sum()
        total = 0.5 * (operator.A(image) - y).square().sum() + strength * length
        total.backward()
        return total.item(), image.grad.double().numpy().ravel()

    found = minimize(
        value, np.full(400, 0.5), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 400,
        options={"maxiter": 400},
    )  # fmt: skip
    theirs = torch.tensor(found.x.reshape(1, 1, 20, 20), dtype=torch.float32)
    ours = solve(y, operator, transform, weight, tolerance=1e-5, most=800)
    values = [objective(image, y, operator, transform, strength).item() for image in (ours, theirs)]
    assert values[0] <= values[1] * 1.002
    assert (ours - theirs).square().mean().sqrt() < 0.01


def _scaled(operator: physics.Physics, factor: float) -> physics.Physics:
    return physics.create("gaussian_noise", operator.level / factor**2, operator.shape)


@pytest.mark.parametrize(
    ("app", "transform"),
    [("TotalVariationRecon", Gradient()), ("L1WaveletRecon", Wavelets("db4", 3))],
)
def test_the_default_stop_is_as_good_as_sigpys_hundred_iterations(
    app: str, transform: SparsifyingTransform
) -> None:
    operator = physics.create("mri_cartesian", 3, 64, mask="poisson_disc")
    x = torch.tensor(resize(shepp_logan_phantom(), (64, 64)), dtype=torch.float32)[None, None]
    y = operator.measure(x, ["a"])
    maps, mask = operator.sensitivities(x).numpy(), operator.mask[0].float().numpy()
    best = max(
        psnr(torch.from_numpy(np.abs(answer)[None, None].astype(np.float32)), x)
        for lam in (1e-3, 3e-3, 1e-2)
        for answer in [
            getattr(sigpy.mri.app, app)(
                y[0].numpy(), maps, lam, weights=mask, max_iter=100, show_pbar=False
            ).run()
        ]
    )
    ours = max(psnr(solve(y, operator, transform, weight), x) for weight in (0.3, 0.7, 1.0))
    assert ours >= best


def test_measured_kspace_is_solved_in_complex_numbers() -> None:
    maps, phase = birdcage(6, (48, 48)), torch.exp(2j * torch.linspace(-1, 1, 48))
    kspace = fourier(maps * X[0] * phase)
    noise = torch.randn(2, *kspace.shape, generator=torch.Generator().manual_seed(0))
    operator, y = measured(kspace + 0.01 * torch.complex(*noise), 3.0, mask="gaussian2d")
    assert operator.noise_std == pytest.approx(0.01, rel=0.3)
    start = operator.A_dagger(y)
    for name in ("tv", "wavelet_cs", "tgv", "espirit_wavelet"):
        x_hat = methods.create(name)(y, operator)
        assert x_hat.is_complex()
        assert psnr(x_hat.abs()) > psnr(start) + 1
    x_hat = methods.create("cg_sense", weight=1e-2, steps=100)(y, operator)
    theirs = sigpy.mri.app.SenseRecon(
        y[0].numpy(), operator.maps[0].numpy(), lamda=1e-2 * operator.norm_squared,
        weights=operator.mask[0].float().numpy(), max_iter=100, show_pbar=False,
    ).run()  # fmt: skip
    assert np.linalg.norm(x_hat[0, 0].numpy() - theirs) < 2e-3 * np.linalg.norm(theirs)


# --- deconvolution, CT ---------------------------------------------------------------------------


def test_wiener_is_scikit_images() -> None:
    operator = physics.create("gaussian_blur", 1.5, 48, noise_variance=1e-3)
    y = operator.measure(X, ["a"])
    ours = methods.create("wiener", weight=20.0)(y, operator)[0, 0].numpy()
    theirs = wiener(y[0, 0].numpy(), operator.kernel().numpy(), balance=20e-3, clip=False)
    assert np.abs(ours - theirs.clip(0, 1)).max() < 1e-3


def test_richardson_lucy_is_scikit_images_where_the_border_is_black() -> None:
    operator = physics.create("gaussian_blur", 1.0, 64, noise_variance=0.0)
    x = torch.zeros(1, 1, 64, 64)
    x[..., 16:-16, 16:-16] = X[..., 8:-8, 8:-8]
    y = operator.A(x).clamp(min=0)
    ours = methods.create("richardson_lucy", steps=6)(y, operator)[0, 0].numpy()
    theirs = richardson_lucy(y[0, 0].numpy(), operator.kernel().numpy(), num_iter=6, clip=False)
    inside = np.s_[16:-16, 16:-16]
    assert np.abs(ours[inside] - theirs[inside].clip(0, 1)).max() < 1e-3


def test_sirt_goes_to_the_bounded_least_squares_solution() -> None:
    operator = physics.create("ct_sparse_view", 40, 12, noise_variance=0.0)
    x = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    y = operator.A(x)
    columns = [operator.A(one.view(1, 1, 12, 12)).flatten().numpy() for one in torch.eye(144)]
    exact = lsq_linear(np.stack(columns, axis=1), y.flatten().numpy(), bounds=(0, 1)).x
    found = methods.create("sirt", steps=5000)(y, operator).flatten().numpy()
    assert np.abs(found - exact).mean() < 0.02
    errors = [
        (operator.A(methods.create("sirt", steps=steps)(y, operator)) - y).norm().item()
        for steps in (1, 5, 25, 125)
    ]
    assert errors == sorted(errors, reverse=True)


def test_a_tuned_window_helps_filtered_back_projection_in_noise() -> None:
    operator = physics.create("ct_low_dose", 50, 48, views=60)
    y = operator.measure(X, ["a"])
    plain = methods.create("fbp", window="ramp")(y, operator)
    assert torch.equal(plain, operator.A_dagger(y).clamp(0, 1))
    damped = methods.create("fbp", window="hann", cutoff=0.6)(y, operator)
    assert psnr(damped) > psnr(plain) + 2


# --- every method on every task that it supports -----------------------------------------------

SERVED = [
    (method, task)
    for task in TASKS
    for method in methods.names("classical")
    if methods.find(method).supports(task) and methods.find(method).missing_extra is None
]
SLOW = {"dip_tv": {"steps": 8, "width": 16}, "pnp": {"steps": 3}}


@pytest.mark.parametrize(("method", "task"), SERVED)
def test_every_method_reconstructs_every_task_it_supports(method: str, task: str) -> None:
    operator = operator_of(task)
    x = torch.cat([X, X.flip(-1)])
    y = operator.measure(x, ["a", "b"])
    built = methods.create(method, **SLOW.get(method, {}))
    if method == "constant":
        built.prepare(x, operator, ["a", "b"])
    x_hat = built(y, operator)
    assert x_hat.shape == x.shape
    assert x_hat.dtype == torch.float32
    assert torch.isfinite(x_hat).all()
    if method != "degraded":
        assert 0 <= x_hat.min() <= x_hat.max() <= 1
    if method in ("tv", "tgv", "wavelet_cs") and task != "salt_pepper_noise":
        # Rician noise is not white: its bias cannot be denoised.
        margin = 0.4 if task == "rician_noise" else 0.5
        assert psnr(x_hat, x) > psnr(operator.A_dagger(y), x) + margin


def test_an_untrained_network_denoises() -> None:
    operator = operator_of("gaussian_noise")
    y = operator.measure(X, ["a"])
    x_hat = methods.create("dip_tv", steps=250)(y, operator)
    assert psnr(x_hat) > psnr(y) + 2
    assert torch.equal(x_hat, methods.create("dip_tv", steps=250)(y, operator))
