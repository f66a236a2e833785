"""Which part of an error a measurement shows: against the singular value decomposition."""

from typing import Any

import numpy as np
import pytest
import torch

from bench import physics, trust
from bench.physics import Physics

SIDE = 12


def matrix_of(operator: Physics) -> np.ndarray:
    """Apply A to every unit image; complex measurements count as two real ones."""
    units = torch.eye(SIDE * SIDE).reshape(-1, 1, SIDE, SIDE)
    y = operator.A(units).flatten(1)
    parts = torch.view_as_real(y).flatten(1) if y.is_complex() else y
    return parts.double().numpy().T


@pytest.mark.parametrize(
    ("name", "level", "options"),
    [
        ("gaussian_noise", 0.1, {}),
        ("gaussian_blur", 1.5, {}),
        ("super_resolution", 2, {}),
        ("mri_cartesian", 3, {}),
        ("mri_cartesian", 3, {"coils": 2, "mask": "poisson_disc"}),
        ("ct_sparse_view", 6, {}),
    ],
)
def test_the_parts_are_those_of_the_singular_value_decomposition(
    name: str, level: float, options: dict[str, Any]
) -> None:
    operator = physics.create(name, level, (SIDE, SIDE), **options)
    rng = torch.Generator().manual_seed(0)
    x, error = torch.rand(2, 3, 1, SIDE, SIDE, generator=rng)
    found = trust.columns(x + error, x, operator.A(x), operator)
    _, singular, basis = np.linalg.svd(matrix_of(operator), full_matrices=True)
    squares = np.zeros(SIDE * SIDE)
    squares[: len(singular)] = singular**2
    mu = trust.CUT**2 * operator.norm_squared
    parts = error.flatten(1).double().numpy() @ basis.T
    size = np.linalg.norm(x.flatten(1), axis=1)
    for column, kept in (
        ("error_seen", squares / (squares + mu)), ("error_unseen", mu / (squares + mu)),
    ):  # fmt: skip
        expected = np.linalg.norm(parts * kept, axis=1) / size
        assert found[column].numpy() == pytest.approx(expected, rel=0.01, abs=1e-4)


def test_of_denoising_nothing_is_unseen_and_of_undersampling_a_frequency_not_measured_is() -> None:
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    lines = physics.create("mri_cartesian", 4, (16, 16))
    assert lines.mask is not None
    measured = lines.mask[0, 0, 0]  # of frequencies -8 to 7
    frequency = next(k for k in range(1, 8) if not measured[8 + k] and not measured[8 - k])
    detail = torch.cos(2 * torch.pi * frequency * torch.arange(16) / 16).expand(16, 16)
    noise = physics.create("gaussian_noise", 0.1, (16, 16))
    found = trust.columns(x + 0.1 * detail, x, x, noise)
    assert (found["error_unseen"] < 0.02 * found["error_seen"]).all()
    found = trust.columns(x + 0.1 * detail, x, lines.A(x), lines)
    assert (found["error_unseen"] > 1000 * found["error_seen"]).all()


def test_the_truth_fits_the_measurement_as_well_as_the_noise_allows() -> None:
    x = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    for name, level in (("gaussian_noise", 0.1), ("mri_cartesian", 2), ("ct_sparse_view", 30)):
        operator = physics.create(name, level, (64, 64))
        y = operator.measure(x, ["a", "b", "c", "d"])
        fits = trust.columns(x, x, y, operator)["residual_to_noise"]
        assert fits.numpy() == pytest.approx(np.ones(4), rel=0.06)


def test_of_an_operator_that_is_not_linear_only_the_residual_is_known() -> None:
    x = torch.rand(2, 1, 16, 16)
    operator = physics.create("gaussian_noise", 0.1, (16, 16))
    operator.linear = False
    found = trust.columns(x, x, 2 * x, operator)
    assert found.pop("data_residual").numpy() == pytest.approx(0.5)
    assert all(value.isnan().all() for value in found.values())


def test_magnitudes_that_lack_the_phase_tell_nothing() -> None:
    operator = physics.create("mri_cartesian", 2, (16, 16))
    x = torch.rand(2, 1, 16, 16)
    y = operator.A(x)
    assert not any(value.isnan().any() for value in trust.columns(x, x, y, operator).values())
    operator.complex_image = True
    assert all(value.isnan().all() for value in trust.columns(x, x, y, operator).values())
