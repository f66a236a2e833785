"""Tiles: what an operator of limited reach gives must not depend on them."""

import pytest
import torch
from applying import phantom
from torch.nn.functional import conv2d, interpolate

from bench.errors import UserError
from bench.opened import Run
from bench.reconstruct.refits import Refits
from bench.reconstruct.tiles import tiled

KERNEL = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0)) / 12


def blurred(image: torch.Tensor) -> torch.Tensor:
    return conv2d(image, KERNEL, padding=2)


@pytest.mark.parametrize("shape", [(64, 64), (97, 45), (33, 131), (20, 31)])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_local_operator_is_the_same_in_tiles(shape: tuple[int, int], factor: int) -> None:
    image = torch.rand(2, 1, *shape)

    def function(y: torch.Tensor) -> torch.Tensor:
        return interpolate(blurred(y), scale_factor=factor)

    found, expected = tiled(function, image, 32, 12), function(image)
    assert found.shape == expected.shape
    # Where the image ends inside a tile that is larger, its border is another: 2 pixels.
    inside = (..., slice(0, shape[0] * factor - 4), slice(0, shape[1] * factor - 4))
    torch.testing.assert_close(found[inside], expected[inside])


def test_tiles_that_disagree_leave_no_seam() -> None:
    number = iter(range(100))

    def constant(y: torch.Tensor) -> torch.Tensor:
        return torch.full_like(y, float(next(number) % 2))

    found = tiled(constant, torch.zeros(1, 1, 100, 100), 40, 16)
    assert found.min() == 0 and found.max() == 1
    steps = max(found.diff(dim=-1).abs().max().item(), found.diff(dim=-2).abs().max().item())
    assert steps < 2 / 8  # over the middle half of the overlap, 8 pixels; 1 without blending


def test_a_method_of_one_size_works_in_tiles_of_that_size(
    made_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Refits, number: int, y: torch.Tensor, operator: object) -> torch.Tensor:
        raise RuntimeError("position embeddings of 32x32 pixels")

    y = torch.from_numpy(phantom(70, 50))[None, None]
    refits = Refits(made_run, made_run.cell("gaussian"))
    whole = refits(y, refits.physics((70, 50))).x_hat
    monkeypatch.setattr(Refits, "_whole", refused)
    done: list[float] = []
    found = refits(y, refits.physics((70, 50)), done.append).x_hat
    assert refits.tile == 32
    assert done == [1.0]
    assert found.shape == (1, 70, 50)
    assert abs(found - whole).max() < 0.02
    kspace = Refits(made_run, made_run.cell("tv", degradation="mri_cartesian"))
    operator = kspace.physics((48, 40))
    with pytest.raises(UserError, match=r"only images of 32x32 pixels, .* not of 48x40 \(posit"):
        kspace(operator.measure(torch.zeros(1, 1, 48, 40), ["a"]), operator)


def test_large_images_are_cut_by_themselves(made_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def seen(self: Refits, number: int, y: torch.Tensor, tile: int) -> torch.Tensor:
        sizes.append(tile)
        return y

    monkeypatch.setattr(Refits, "_tiles", seen)
    refits = Refits(made_run, made_run.cell("tv", degradation="gaussian_noise"))
    large = torch.zeros(1, 1, 1200, 900)
    assert refits(large, refits.physics((1200, 900))).x_hat.shape == (1, 1200, 900)
    assert sizes == [512]
