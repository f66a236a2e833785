"""The command that measures a GPU, tried on the CPU."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import UserError
from bench.speed import gpu
from bench.speed.gpu import setting, summary
from bench.speed.gpu.setting import SETS, SIZE, Setting

TRIED = ["--device", "cpu", "--quick"]
LINES = ("checks", "training", "reconstruction", "learning", "packing")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("images") / "gpu_images.npy"
    ramp = np.add.outer(np.arange(SIZE), np.arange(SIZE))
    whole = np.stack([(ramp + k) % 256 for k in range(sum(SETS.values()))])
    np.save(file, whole.astype(np.uint8))
    return file


@pytest.fixture(scope="module")
def measured(images: Path) -> dict[str, list]:
    """Measure every part in this process, as each part's own process does."""
    few = Setting("cpu", True, images)
    return {name: list(import_module(f"bench.speed.gpu.{name}").lines(few)) for name in LINES}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_in_a_line_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no GPU; add --device cpu --quick") as caught:
        gpu.main(["--out", str(tmp_path / "gpu.json")])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_every_part_measures(measured: dict[str, list]) -> None:
    assert list(gpu.PARTS) == list(LINES)
    assert sum(gpu.PARTS.values()) < 8 * 60
    assert not [line for lines in measured.values() for line in lines if "error" in line]
    network = next(line for line in measured["training"] if "network" in line)
    for way in ("plain_fp32", "plain_bf16", "ours", "ours_without_data", "ours_eager"):
        assert network[way] > 0
    assert network["launch"] == "eager: there are no launches on a CPU"
    assert network["flops"] > 16**2 * network["parameters"] / 8  # the deepest level counts least
    for line in measured["reconstruction"]:
        assert line["gpu_psnr"] == line["cpu_psnr"]  # the "GPU" is the same processor
    trained = next(line for line in measured["learning"] if "degradation" in line)
    assert trained["steps"] == 4 and len(trained["validations"]) == 4


def test_the_page_shows_what_was_measured_and_which_bars_are_met(measured: dict[str, list]) -> None:
    network = next(line for line in measured["training"] if "network" in line)
    made = [
        {**network, "size": 256, "batch": 32, "plain_fp32": 100.0, "ours": 320.0, "flops": 1e12},
        {**network, "size": 64, "batch": 8, "plain_fp32": 100.0, "ours": 320.0},
        {"product_tflops": 700.0},
        {"data_path": "gaussian_noise", "size": 256, "batch": 32, "seconds": 0.02},
        {"data_path": "mri_radial", "size": 256, "batch": 32, "seconds": 9.0},
        {"compiled": "unet", "size": 256, "batch": 32, "rate": 345.6},
        {"data_path": "chain", "size": 256, "batch": 32, "error": "Error: none"},
    ]
    parts = {name: {"state": "complete", "seconds": 1, "lines": measured[name]} for name in LINES}
    parts["training"]["lines"] = made
    parts["packing"] = {"state": "stopped", "seconds": 60, "lines": [
        {"trials_at_once": 1, "seconds": 30.0}, {"trials_at_once": 2, "seconds": 12.0},
    ]}  # fmt: skip
    whole = {"setting": {"device": "cuda", "quick": False}, "parts": parts}
    text = summary.write({**whole, "machine": {"gpu": "a GPU", "cpus": 16, "torch": "2"}})
    assert "share of the bf16 rate | >= 0.5 | 0.46 | missed" in text
    assert "256x256, batch 32: times the plain fp32 loop | >= 3 | 3.20 | met" in text
    assert "64x64, batch 8: times the plain fp32 loop | >= 5 | 3.20 | missed" in text
    assert "greatest share of a step | <= 0.05 | 0.20 | missed" in text  # not mri_radial's
    assert "gain over one trial at a time | >= 2 | 2.50 | met" in text
    assert "packing: stopped after 60 s" in text and "Error: none" in text
    assert "| unet | 256, 32 | 345.6 |" in text
    assert "mean nothing" not in text
    quick = summary.write({**whole, "setting": setting.Setting("cpu", True).described(),
                        "machine": setting.machine()})  # fmt: skip
    assert "mean nothing" in quick


def test_a_second_call_measures_only_what_is_missing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real processes, of which one is ended at its limit."""
    monkeypatch.setattr(gpu, "PARTS", {"training": 0.3, "packing": 60.0})
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "gpu.json"
    words = [*TRIED, "--images", str(images), "--out", str(out)]
    gpu.main(words)
    first = json.loads(out.read_text())
    assert first["parts"]["training"] == {"state": "stopped", "seconds": 0.3, "lines": []}
    assert first["parts"]["packing"]["state"] == "complete"
    assert first["parts"]["packing"]["lines"] == [{"not_measured": "needs a GPU"}]
    asked: list[str] = []
    done = {"state": "complete", "seconds": 1.0, "lines": []}
    monkeypatch.setattr(gpu, "_run", lambda setting, name, limit: asked.append(name) or done)
    gpu.main(words)
    assert asked == ["training"]
    gpu.main(["--page", str(out)])
    assert "training: complete" in (tmp_path / "docs/speed_gpu.md").read_text()
    with pytest.raises(UserError, match="another setting; name another file by --out"):
        gpu.main([word for word in words if word != "--quick"])
