import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import (
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from bench import metrics


def noisy_pair(n: int = 4, height: int = 40, width: int = 37) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, height, width, generator=generator)
    return x + 0.1 * torch.randn(x.shape, generator=generator), x


def test_image_convention_is_scikit_images() -> None:
    x_hat, x = noisy_pair()
    scores = metrics.evaluate(x_hat, x)
    for i in range(len(x)):
        a, b = x[i, 0].double().numpy(), x_hat[i, 0].double().numpy()
        assert scores["psnr"][i] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1))
        assert scores["ssim"][i] == pytest.approx(structural_similarity(a, b, data_range=1))
        assert scores["nmse"][i] == pytest.approx(normalized_root_mse(a, b) ** 2)


def test_volume_convention_is_fastmris() -> None:
    x_hat, x = noisy_pair()
    x, x_hat = 0.4 * x, 0.4 * x_hat
    volumes = ["a", "b", "a", "a"]
    scores = metrics.evaluate(x_hat, x, "volume", volumes=volumes)
    for name in "ab":
        index = [i for i, volume in enumerate(volumes) if volume == name]
        a, b = x[index, 0].double().numpy(), x_hat[index, 0].double().numpy()
        psnr = peak_signal_noise_ratio(a, b, data_range=a.max())
        for i in index:
            one, other = x[i, 0].double().numpy(), x_hat[i, 0].double().numpy()
            assert scores["psnr"][i] == pytest.approx(psnr)
            assert scores["ssim"][i] == pytest.approx(
                structural_similarity(one, other, data_range=a.max())
            )


def test_roi_ignores_the_background() -> None:
    x_hat, x = noisy_pair()
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[..., 10:30, 8:28] = True
    spoilt = torch.where(mask, x_hat, torch.tensor(9.0))
    before = metrics.evaluate(x_hat, x, "roi", mask=mask)["psnr"]
    assert torch.equal(before, metrics.evaluate(spoilt, x, "roi", mask=mask)["psnr"])
    inside = x[0, 0, 10:30, 8:28].double().numpy(), x_hat[0, 0, 10:30, 8:28].double().numpy()
    assert before[0] == pytest.approx(peak_signal_noise_ratio(*inside, data_range=1))


def test_roi_of_everything_is_the_image_convention() -> None:
    x_hat, x = noisy_pair()
    everything = torch.ones_like(x, dtype=torch.bool)
    roi = metrics.evaluate(x_hat, x, "roi", mask=everything)
    image = metrics.evaluate(x_hat, x)
    for name in ("psnr", "ssim"):
        torch.testing.assert_close(roi[name], image[name])


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (2, 1, 12, 9), elements=st.floats(0, 1, width=32)))
def test_a_perfect_reconstruction_is_perfect(image: np.ndarray) -> None:
    x = torch.from_numpy(image)
    scores = metrics.evaluate(x, x)
    assert (scores["psnr"] == metrics.PERFECT).all()
    torch.testing.assert_close(scores["ssim"], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("convention", metrics.CONVENTIONS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_pixel_that_is_no_number_leaves_its_image_without_scores(
    convention: str, bad: float
) -> None:
    x_hat, x = noisy_pair()
    x_hat, x = x_hat[:2].clone(), x[:2]
    whole = metrics.evaluate(x_hat, x, convention, volumes=["a", "b"])
    x_hat[1, 0, 8, 8] = bad
    scores = metrics.evaluate(x_hat, x, convention, volumes=["a", "b"])
    for name, values in scores.items():
        assert values[0] == whole[name][0]
        assert torch.isnan(values[1])


def test_scores_that_a_black_image_leaves_undefined_are_nan() -> None:
    black = torch.zeros(1, 1, 9, 9)
    assert torch.isnan(metrics.evaluate(black + 0.1, black)["nmse"]).all()
    for x_hat in (black, black + 0.1):
        volume = metrics.evaluate(x_hat, black, "volume")
        assert torch.isnan(volume["psnr"]).all()
    assert metrics.evaluate(black + 0.1, black)["psnr"].item() == pytest.approx(20)


def test_the_residual_is_relative_to_the_measurement() -> None:
    y = torch.tensor([[3 + 4j, 0], [0, 0]])
    shares = metrics.residual(y + torch.tensor([[0, 1j], [1, 0]]), y)
    assert shares[0] == pytest.approx(0.2)
    assert torch.isnan(shares[1])


def test_no_foreground_has_no_roi_metric() -> None:
    black = torch.zeros(1, 1, 9, 9)
    assert torch.isnan(metrics.evaluate(black + 0.1, black, "roi")["psnr"]).all()


def test_refusals() -> None:
    x = torch.rand(1, 1, 16, 16)
    with pytest.raises((ValueError, TypeError)):  # the shape check of the tests may come first
        metrics.evaluate(x[..., :8], x)
    with pytest.raises(ValueError, match="unknown convention"):
        metrics.evaluate(x, x, "volumes")
    with pytest.raises(ValueError, match="7x7"):
        metrics.evaluate(x[..., :6], x[..., :6])
