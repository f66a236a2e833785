"""The phase of simulated images: smooth, of the stated size, and the same wherever it is drawn."""

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


def test_complex_images_are_measured_and_reconstructed() -> None:
    x = torch.zeros(2, 1, 32, 32)
    x[:, :, 8:24, 10:20] = 0.8
    plain = create("mri_cartesian", 2, 32, noise_variance=0.0)
    phased = create("mri_cartesian", 2, 32, noise_variance=0.0, complex=True)
    y = phased.measure(x, ["a", "b"])
    assert not torch.allclose(y, plain.measure(x, ["a", "b"]), atol=1e-3)
    torch.testing.assert_close(y, phased.A(x * smooth_phases(["a", "b"], (32, 32))))
    full = create("mri_cartesian", 1, 32, noise_variance=0.0, complex=True)
    torch.testing.assert_close(full.A_dagger(full.measure(x, ["a", "b"])), x, atol=1e-5, rtol=0)
    for name in ("tv", "cg_sense", "wavelet_cs"):
        found = training.magnitude(training.reconstruct(methods.create(name), y, phased))
        assert metrics.evaluate(found, x)["psnr"].min() > 18, name
