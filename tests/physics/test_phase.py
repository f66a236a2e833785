"""The phase of simulated images: smooth, of the stated size, and the same wherever it is drawn."""

import pytest
import torch

from bench import methods, metrics, training
from bench.physics import create
from bench.physics._phase import TURN, smooth_phases


def test_it_is_smooth_and_depends_on_the_id_alone() -> None:
    names = [str(number) for number in range(200)]
    found = smooth_phases(names, (32, 24))
    torch.testing.assert_close(found.abs(), torch.ones(200, 1, 32, 24))
    assert torch.equal(smooth_phases(names[7:8], (32, 24)), found[7:8])
    steps = (found[..., 1:] * found[..., :-1].conj()).angle()
    assert steps.abs().max() < 1
    # The change across the image.
    turns = (found * found.mean((2, 3), keepdim=True).conj()).angle()
    assert 0.7 * TURN < turns.std(dim=(2, 3)).mean() < 1.2 * TURN
    fine = smooth_phases(names[:1], (96, 72))[..., 1::3, 1::3]
    torch.testing.assert_close(fine, found[:1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "level", "options"),
    [("mri_cartesian", 2, {}), ("mri_radial", 24, {"coils": 2}), ("mri_spiral", 2, {})],
)
def test_complex_images_are_measured_and_reconstructed(
    name: str, level: float, options: dict
) -> None:
    x = torch.zeros(2, 1, 32, 32)
    x[:, :, 8:24, 10:20] = 0.8
    plain = create(name, level, 32, noise_variance=0.0, **options)
    phased = create(name, level, 32, noise_variance=0.0, complex=True, **options)
    assert type(phased).has_complex_images(None, complex=True)
    y = phased.measure(x, ["a", "b"])
    assert not torch.allclose(y, plain.measure(x, ["a", "b"]), atol=1e-3)
    image = x * smooth_phases(["a", "b"], (32, 32))
    torch.testing.assert_close(y, phased.A(image))
    # <A z, y> = <z, A^H y> in complex numbers.
    inner = (phased.A(image).conj() * y).sum(), (image.conj() * phased.A_adjoint(y)).sum()
    torch.testing.assert_close(*inner, rtol=1e-4, atol=1e-3)
    for method in ("tv", "cg_sense", "wavelet_cs"):
        found = training.magnitude(training.reconstruct(methods.create(method), y, phased))
        assert metrics.evaluate(found, x)["psnr"].min() > 18, method


@pytest.mark.parametrize("name", ["mri_cartesian", "mri_radial"])
def test_a_phase_is_not_noise(name: str) -> None:
    operator = create(name, 2, 32, noise_variance=0.01, complex=True)
    operator.observe(torch.ones(1, 1, 32, 32), ["a"])
    assert operator.noise_std == pytest.approx(0.1)


def test_everything_measured_gives_the_image_back() -> None:
    x = torch.zeros(2, 1, 32, 32)
    x[:, :, 8:24, 10:20] = 0.8
    full = create("mri_cartesian", 1, 32, noise_variance=0.0, complex=True)
    torch.testing.assert_close(full.A_dagger(full.measure(x, ["a", "b"])), x, atol=1e-5, rtol=0)
