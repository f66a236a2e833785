import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from bench.data.augment import PRESETS, _turn, augment


def blobs(n: int = 4, height: int = 40, width: int = 52) -> torch.Tensor:
    noise = torch.rand(n, 1, height + 8, width + 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(noise, 9, stride=1)


@pytest.mark.parametrize("preset", PRESETS)
def test_results_are_images_and_depend_on_the_seed_alone(preset: str) -> None:
    x = blobs()
    once = augment(x, preset, 1)
    torch.manual_seed(99)
    assert torch.equal(once, augment(x, preset, 1))
    assert once.shape == x.shape
    assert 0 <= once.min() <= once.max() <= 1


def test_none_changes_nothing_and_flips_only_mirror() -> None:
    x = blobs(16)
    assert torch.equal(augment(x, "none", 0), x)
    mirrored = augment(x, "flips", 0)
    kinds = {
        "kept" if torch.equal(new, old) else "mirrored" if torch.equal(new, old.flip(-1)) else "?"
        for new, old in zip(mirrored, x, strict=True)
    }
    assert kinds == {"kept", "mirrored"}


@pytest.mark.parametrize("angle", [0.0, 0.2, -0.3])
@pytest.mark.parametrize("size", [1.0, 0.9, 1.1])
def test_turning_is_scipys_affine_transform(angle: float, size: float) -> None:
    x = blobs(1)
    ours = _turn(x, torch.tensor([angle]), torch.tensor([size]))[0, 0].numpy()
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / size
    centre = (np.array(ours.shape) - 1) / 2
    theirs = affine_transform(
        x[0, 0].numpy(), rotation, centre - rotation @ centre, order=1, mode="constant"
    )
    inner = (slice(10, -10), slice(10, -10))
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-4)
