"""Floating-point operations, against counts by hand."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy import sparse

from bench import data, physics, training
from bench.flops import count_flops
from bench.methods import compressed_sensing
from bench.scoring import score_images
from bench.spec import DatasetSpec


@pytest.fixture(scope="module")
def split() -> data.Split:
    images = data.load(DatasetSpec(source="template", image_size=32, subjects=40))
    return data.split(images, 4, 4, 4)


def test_a_network_counts_its_convolutions(split: data.Split) -> None:
    """Of srcnn: 9x9, 5x5 and 5x5 kernels, 64 and 32 features, padded; two for each product."""
    operator = physics.create("gaussian_noise", 0.1, 32)
    model = training.build("srcnn", {}, operator).eval()
    found = score_images(model, operator, split.test)
    weights = sum(one.numel() for one in model.parameters() if one.ndim == 4)
    assert found.flops == 2 * weights * 32 * 32


@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_matrix_counts_the_numbers_that_it_stores() -> None:
    matrix = sparse.random(300, 200, density=0.02, format="csr", dtype=np.float32, rng=0)
    ours = torch.sparse_csr_tensor(matrix.indptr, matrix.indices, matrix.data, matrix.shape)
    columns = torch.rand(200, 3)
    assert count_flops(lambda: ours @ columns) == 2 * matrix.nnz * 3
    assert count_flops(lambda: ours.to_dense() @ columns) == 2 * 300 * 200 * 3


def test_what_is_computed_once_and_kept_is_not_counted() -> None:
    """Else the first method of a process would count more than the next one."""
    matrix, column = torch.rand(30, 30), torch.rand(30, 1)
    squared = cache(lambda: matrix @ matrix)
    assert count_flops(lambda: squared() @ column) == 2 * 30 * 30


@pytest.mark.parametrize("name", ["cs_unet", "stacked_cs"])
def test_every_score_pays_for_its_start(
    name: str, split: data.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TV is solved as often for images that another refit was scored on as for new ones."""
    solved = []

    def solve(*given: object) -> torch.Tensor:
        solved.append(given)
        return true_solve(*given)

    true_solve = compressed_sensing.solve
    monkeypatch.setattr(compressed_sensing, "solve", solve)
    operator = physics.create("gaussian_noise", 0.1, 32)
    model = training.build(name, {}, operator).eval()
    counts = []
    for _ in range(2):
        before = len(solved)
        score_images(model, operator, split.test)
        counts.append(len(solved) - before)
    assert counts[0] == counts[1] > 0


def test_a_method_without_weights_has_none(split: data.Split) -> None:
    operator = physics.create("gaussian_noise", 0.1, 32)
    model = training.build("tv", {}, operator)
    assert np.isnan(score_images(model, operator, split.test).flops)
