"""The end-to-end variational network: its cascades, and the coils' sensitivities."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import methods, physics
from bench.methods.learned.e2e_varnet import NormUNet, calibration

SMALL = {"cascades": 2, "width": 4, "depth": 2, "map_width": 4, "map_depth": 2}


def images(n: int, size: int = 32) -> Tensor:
    noise = torch.rand(n, 1, size + 8, size + 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.avg_pool2d(noise, 9, stride=1)


class Nothing(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.zeros_like(image)


@pytest.mark.parametrize("sensitivities", ["estimated", "known"])
def test_every_weight_learns_with_several_coils(sensitivities: str) -> None:
    operator = physics.create("mri_cartesian", 4, 32, coils=3)
    y = operator.measure(images(2), ["a", "b"])
    torch.manual_seed(0)
    model = methods.create("e2e_varnet", operator, sensitivities=sensitivities, **SMALL)
    assert (model.maps is not None) == (sensitivities == "estimated")
    model(y, operator).sub(images(2)).square().mean().backward()
    for key, weight in model.named_parameters():
        assert weight.grad.isfinite().all() and weight.grad.any(), key
    maps = model.sensitivities(y, operator)
    power = maps.abs().square().sum(1)
    torch.testing.assert_close(power, torch.ones_like(power))


def test_without_refinement_the_measurement_stays() -> None:
    """In NumPy: the root of the sum of squares of the coils' zero-filled images."""
    operator = physics.create("mri_cartesian", 4, 32, coils=3)
    y = operator.measure(images(2), ["a", "b"])
    model = methods.create("e2e_varnet", operator, **SMALL)
    model.refinements = nn.ModuleList(Nothing() for _ in range(2))
    axes = {"axes": (-2, -1)}
    shifted = np.fft.ifftshift(y.numpy(), **axes)
    coils = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), **axes)
    expected = np.sqrt((np.abs(coils) ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(model(y, operator).detach().numpy(), expected, atol=1e-5)


def test_round_off_in_an_image_without_phase_is_not_amplified() -> None:
    torch.manual_seed(0)
    network, image = NormUNet(4, 2), (images(2) - 0.5) * 30  # standard deviation about 1
    for weight in network.parameters():
        if weight.ndim:
            nn.init.normal_(weight, std=0.2)
    clean, off = (network(torch.complex(image, part)) for part in (0 * image, 2e-6 * image.flip(2)))
    assert (clean - image).abs().max() > 0.1
    torch.testing.assert_close(off, clean, atol=1e-2, rtol=0)


def test_a_cascade_returns_to_the_measurement_what_its_eta_says() -> None:
    """U adds an image of ones in the first cascade; eta of the second takes part of it back."""

    class Ones(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.ones_like(image)

    operator = physics.create("mri_cartesian", 1, 32, noise_variance=0.0)
    y = operator.measure(images(1), ["a"])
    model = methods.create("e2e_varnet", operator, **SMALL)
    model.refinements = nn.ModuleList([Ones(), Nothing()])
    with torch.no_grad():
        model.etas.copy_(torch.tensor([1.0, 0.25]))
        expected = (images(1) - 0.75).abs()
        torch.testing.assert_close(model(y, operator), expected, atol=1e-5, rtol=0)


def test_sensitivities_are_estimated_from_the_centre() -> None:
    lines = physics.create("mri_cartesian", 4, (30, 33)).sampled((30, 33))
    centre = calibration(lines)
    columns = torch.nonzero(centre.all(0))[:, 0].tolist()
    assert columns == list(range(columns[0], columns[-1] + 1)) and 16 in columns
    assert not lines[:, columns[0] - 1].any() and not lines[:, columns[-1] + 1].any()
    assert int(centre.sum()) == 30 * len(columns)

    points = torch.zeros(16, 16, dtype=torch.bool)
    points[4:12, 3:14] = True
    points[0, 0] = True
    square = torch.zeros_like(points)
    square[5:12, 5:12] = True  # as far as the nearest missing point, row 12
    assert torch.equal(calibration(points), square)

    few = torch.zeros(16, 16, dtype=torch.bool)
    few[8, 8] = few[2, 5] = True
    assert torch.equal(calibration(few), few)
    assert calibration(torch.ones(8, 8, dtype=torch.bool)).all()
