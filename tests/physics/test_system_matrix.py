"""The matrix of parallel-beam CT is one copy for all processes of a machine."""

import os
from pathlib import Path

import pytest
import torch

from bench import physics
from bench.physics import _parallel_beam

SHAPE, VIEWS = (64, 64), 120


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECONBENCH_CACHE", str(tmp_path / "cache"))
    _parallel_beam.system_matrix.cache_clear()
    return tmp_path / "cache"


def sinogram() -> torch.Tensor:
    _parallel_beam.system_matrix.cache_clear()
    x = torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    operator = physics.create("ct_sparse_view", VIEWS, SHAPE)
    y = operator.A(x)
    return torch.cat([y.flatten(), operator.A_adjoint(y).flatten()])


def own_memory() -> int:
    """Count the bytes that this process shares with no other and with no file."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def test_every_way_to_the_matrix_gives_the_same_products(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, mapped = sinogram(), sinogram()
    (file,) = cache.glob("*.safetensors")
    os.truncate(file, file.stat().st_size // 2)
    mended = sinogram()
    cache.rename(cache.with_name("elsewhere"))
    cache.write_text("no folder")
    without = sinogram()
    monkeypatch.setenv("RECONBENCH_CACHE", "")
    for other in (mapped, mended, without, sinogram()):
        assert torch.equal(made, other)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_process_has_no_copy_of_its_own(cache: Path) -> None:
    sinogram()
    (file,) = cache.glob("*.safetensors")
    before = own_memory()
    _parallel_beam.system_matrix.cache_clear()
    matrices = _parallel_beam.system_matrix(SHAPE, VIEWS, "cpu")
    pixels = torch.rand(SHAPE[0] * SHAPE[1], 1)
    assert torch.isfinite(matrices[1] @ (matrices[0] @ pixels)).all()
    assert own_memory() - before < file.stat().st_size / 10
