import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.metrics import (
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from bench import metrics, score_columns
from bench.errors import UserError


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


def test_scores_with_a_gradient_are_the_compiled_ones() -> None:
    """PyTorch computes what has a gradient, or lies on a GPU; compiled code the rest."""
    x_hat, x = noisy_pair()
    for convention in metrics.CONVENTIONS:
        by_torch = metrics.evaluate(x_hat.clone().requires_grad_(), x, convention)
        for name, values in metrics.evaluate(x_hat, x, convention).items():
            torch.testing.assert_close(by_torch[name].detach(), values, rtol=1e-9, atol=1e-9)
            doubled = metrics.evaluate(x_hat.double(), x.double(), convention)[name]
            torch.testing.assert_close(values, doubled, rtol=1e-9, atol=1e-9)


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


def test_a_metric_is_one_file() -> None:
    x_hat, x = noisy_pair()
    scores = metrics.columns(x_hat, x, ["a"] * 4, ["mae"])
    expected = np.abs(x_hat.double().numpy() - x.double().numpy()).mean((1, 2, 3))
    np.testing.assert_allclose(scores["mae"], expected, rtol=1e-12)
    assert list(scores)[:3] == list(metrics.STANDARD_METRICS)
    assert not {"mae_volume", "mae_roi"} & scores.keys()


def smooth_pair(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    noisy, clean = (torch.nn.functional.avg_pool2d(one, 5, 1) for one in noisy_pair(3, size, size))
    return noisy, clean


def test_ssim_of_2004_is_scikit_images_with_a_gaussian_window() -> None:
    x_hat, x = smooth_pair()
    scores = metrics.evaluate(x_hat, x, metrics=["ssim_wang2004"])["ssim_wang2004"]
    for k, (a, b) in enumerate(zip(x_hat[:, 0].double(), x[:, 0].double(), strict=True)):
        expected = structural_similarity(
            a.numpy(), b.numpy(), data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert scores[k] == pytest.approx(expected, abs=1e-6)


def test_hfen_is_that_of_scipys_laplacian_of_gaussian() -> None:
    """SciPy's kernel has the sum 5e-6, ours 0."""
    x_hat, x = smooth_pair()
    scores = metrics.evaluate(x_hat, x, metrics=["hfen"])["hfen"]
    for k, (a, b) in enumerate(zip(x_hat[:, 0].double(), x[:, 0].double(), strict=True)):
        one, other = (
            ndimage.gaussian_laplace(v.numpy(), 1.5, mode="constant", truncate=7 / 1.5)
            for v in (a, b)
        )
        expected = np.linalg.norm(one - other) / np.linalg.norm(other)
        assert scores[k] == pytest.approx(expected, rel=1e-3)


def test_gmsd_is_that_of_scipys_prewitt() -> None:
    x_hat, x = smooth_pair()
    scores = metrics.evaluate(x_hat, x, metrics=["gmsd"])["gmsd"]
    for k, pair in enumerate(zip(x_hat[:, 0].double(), x[:, 0].double(), strict=True)):
        halves = [one.numpy().reshape(30, 2, 30, 2).mean((1, 3)) for one in pair]
        a, b = (
            np.hypot(*(ndimage.prewitt(half, axis, mode="constant") / 3 for axis in (0, 1)))
            for half in halves
        )
        similarity = (2 * a * b + 170 / 255**2) / (a**2 + b**2 + 170 / 255**2)
        assert scores[k] == pytest.approx(similarity.std(ddof=1), rel=1e-6)


@pytest.mark.parametrize("name", ["ssim_wang2004", "ms_ssim", "hfen", "gmsd"])
def test_a_blur_costs_more_the_wider_it_is(name: str) -> None:
    x = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    blurred = [
        torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, s, s))) for s in (0, 1, 3)
    ]
    scores = [metrics.evaluate(one, x, metrics=[name])[name] for one in blurred]
    sign = metrics.describe([name])[name].sign
    assert scores[0].tolist() == pytest.approx([1.0 if sign > 0 else 0.0] * 2)
    assert (sign * scores[0] > sign * scores[1]).all()
    assert (sign * scores[1] > sign * scores[2]).all()


def test_runs_from_before_metrics_were_declared_are_shown_as_what_is_declared_now() -> None:
    assert metrics.describe() == score_columns.STANDARD == score_columns.of_run({})
    declared = metrics.describe(["mae"])
    manifest = json.loads(json.dumps({"metrics": score_columns.declare(declared)}))
    assert score_columns.of_run(manifest) == declared
    assert declared["psnr"].text(23.756) == "23.76 dB"
    assert declared["mae"].sign == -1


FAULTS = {
    "direction": "class Mine(Metric):\n    label = 'x'\n    def image(self, x_hat, x): ...",
    "label": "class Mine(Metric):\n    direction = 'lower'\n    def image(self, x_hat, x): ...",
    "is not a metric": "class Mine: ...",
    "abstract": "class Mine(Metric):\n    label, direction = 'x', 'lower'",
}


@pytest.mark.parametrize("named", FAULTS)
def test_what_is_no_metric_is_refused(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"faulty_{named.replace(' ', '_')}"
    code = f"from bench.metrics import Metric\n\n{FAULTS[named]}\n"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=named):
        metrics.describe([f"{module}:Mine"])


def test_a_metric_returns_a_number_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    x_hat, x = noisy_pair()
    monkeypatch.setattr("bench.metrics.mae.Mae.image", lambda self, x_hat, x: (x_hat - x).mean())
    with pytest.raises(UserError, match="mae: a metric returns one number per image"):
        metrics.evaluate(x_hat, x, metrics=["mae"])
