import pytest
import torch
from skimage.data import shepp_logan_phantom
from skimage.restoration import denoise_tv_chambolle
from skimage.transform import resize

from bench import methods, metrics, physics
from bench.errors import UserError

PHANTOM = torch.tensor(resize(shepp_logan_phantom(), (64, 64)), dtype=torch.float32)[None, None]
OPERATOR = physics.create("gaussian_noise", 0.05, 64)
NOISY = OPERATOR.measure(PHANTOM, ["phantom"])


def psnr(x_hat: torch.Tensor) -> float:
    return float(metrics.evaluate(x_hat, PHANTOM)["psnr"])


def test_degraded_is_the_measurement() -> None:
    assert torch.equal(methods.create("degraded")(NOISY, OPERATOR), NOISY)


def test_constant_is_the_mean_training_image_whatever_was_measured() -> None:
    train = torch.rand(7, 1, 64, 64)
    method = methods.create("constant")
    method.prepare(train, OPERATOR, list("abcdefg"))
    answer = method(torch.cat([NOISY, NOISY + 1]), OPERATOR)
    torch.testing.assert_close(answer[0], train.mean(0))
    assert torch.equal(answer[0], answer[1])


def test_no_blind_answer_beats_the_mean_on_the_training_images() -> None:
    train = torch.rand(7, 1, 16, 16)
    method = methods.create("constant")
    method.prepare(train, OPERATOR, list("abcdefg"))

    def error(image: torch.Tensor) -> torch.Tensor:
        return (train - image).square().mean()

    assert error(method(train, OPERATOR)[0]) < error(method.mean + 0.01)


@pytest.mark.parametrize("name", ["tv", "wavelet", "nlm", "median", "gaussian", "tgv"])
def test_denoisers_denoise(name: str) -> None:
    x_hat = methods.create(name)(NOISY, OPERATOR)
    assert x_hat.shape == PHANTOM.shape
    assert x_hat.dtype == torch.float32
    assert 0 <= x_hat.min() <= x_hat.max() <= 1
    assert psnr(x_hat) > psnr(NOISY) + 3


def test_tv_is_as_good_as_scikit_images() -> None:
    weights = (0.5, 0.7, 1.0, 1.3)
    ours = max(psnr(methods.create("tv", weight=weight)(NOISY, OPERATOR)) for weight in weights)
    theirs = max(
        psnr(torch.from_numpy(clean.clip(0, 1)).float()[None, None])
        for weight in weights
        for clean in [
            denoise_tv_chambolle(
                NOISY[0, 0].double().numpy(), weight=weight * 0.05**0.5, eps=1e-6, max_num_iter=1000
            )
        ]
    )
    assert ours > theirs - 0.05


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods.method, "find_spec", lambda package: None)
    assert methods.find("bm3d").missing_extra == "bm3d"
    assert methods.find("espirit_wavelet").missing_extra == "mri"
    assert methods.find("tv").missing_extra is None


def test_bm3d_denoises() -> None:
    pytest.importorskip("bm3d", reason="bm3d's licence is non-commercial: an optional extra")
    assert psnr(methods.create("bm3d")(NOISY, OPERATOR)) > psnr(NOISY) + 3


def test_misspelt() -> None:
    with pytest.raises(UserError, match="did you mean 'wavelet'"):
        methods.create("wavlet")
    with pytest.raises(UserError, match="did you mean 'weight'"):
        methods.create("tv", wieght=1.0)
