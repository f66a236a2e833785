"""An exported method works without the run, and its ONNX file without ReconBench."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from applying import folder_of, phantom
from jaxtyping import config

import bench
from bench import methods, physics
from bench.errors import UserError
from bench.export import card, export
from bench.export.network import Unexportable, on_image
from bench.opened import Run

NOISE = {"degradation": "gaussian_noise"}
ALONE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(found,) = session.run(None, {session.get_inputs()[0].name: numpy.load(sys.argv[2])})
numpy.save(sys.argv[3], found)
"""


@pytest.fixture
def measured() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 1, 44, 38))
    return (phantom(44, 38) + noise).astype(np.float32)


def test_a_network_runs_by_safetensors_torch_export_and_onnx(
    made_run: Run, tmp_path: Path, measured: np.ndarray
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    config.update("jaxtyping_disable", True)  # of the tests' own checks, which cannot be traced
    try:
        done = export(made_run, tmp_path / "net", "unet", which=NOISE)
    finally:
        config.update("jaxtyping_disable", False)
    assert done.reason == ""
    assert folder_of(tmp_path) == sorted(f"net/{name}" for name in done.files)
    settings = json.loads((tmp_path / "net" / "config.json").read_text())
    seed = settings["seed"]
    psnr = {k: recipe["validation_psnr"] for k, recipe in settings["refits"].items()}
    assert psnr[str(seed)] == max(psnr.values())
    expected = made_run.model("unet", seed=seed, **NOISE)(measured)
    np.testing.assert_array_equal(bench.load_model(tmp_path / "net")(measured), expected)
    program = torch.export.load(tmp_path / "net" / "model.pt2").module(check_guards=False)
    found = program(torch.from_numpy(measured)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.save(tmp_path / "y.npy", measured)
    model, y, x_hat = (str(tmp_path / name) for name in ("net/model.onnx", "y.npy", "x_hat.npy"))
    subprocess.run([sys.executable, "-I", "-c", ALONE, model, y, x_hat], check=True)
    np.testing.assert_allclose(np.load(x_hat), expected, atol=1e-4)
    checked = [sys.executable, "-I", str(tmp_path / "net" / "check_onnx.py")]
    assert subprocess.run(checked, capture_output=True).returncode == 0
    examples = dict(np.load(tmp_path / "net" / "examples.npz"))
    examples["x_hat_1"] = examples["x_hat_1"] + 0.001
    np.savez(tmp_path / "net" / "examples.npz", **examples)
    assert subprocess.run(checked, capture_output=True).returncode == 1
    text = (tmp_path / "net" / "README.md").read_text()
    line = made_run.board.lines.set_index("cell").loc[done.cell]
    for said in (
        "Not a medical device", "template", f"{line.psnr:.2f} [{line.psnr_low:.2f}", "6 optimiser",
        "| **unet** | 4 |", "Images are template-derived.", f"It {line.against_classical}.",
    ):  # fmt: skip
        assert said in text, said


def test_a_classical_winner_is_its_settings(
    made_run: Run, tmp_path: Path, measured: np.ndarray, reconbench: Callable[..., tuple]
) -> None:
    status, printed, _ = reconbench(
        "export", made_run.folder, "--degradation", "gaussian_noise", "--out", tmp_path / "tv"
    )
    assert status == 0
    assert printed.splitlines()[1:] == [
        "without ONNX: TV has no weights: config.json is all of it", f"written: {tmp_path / 'tv'}",
    ]  # fmt: skip
    assert folder_of(tmp_path / "tv") == ["README.md", "config.json", "load.py"]
    code = "import load, numpy; numpy.save('../x.npy', load.model(numpy.load('../y.npy')))"
    np.save(tmp_path / "y.npy", measured)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "tv", check=True)
    expected = made_run.model("tv", **NOISE)(measured)
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), expected, atol=1e-6)
    status, _, error = reconbench(
        "export",
        made_run.folder,
        "--method",
        "tv",
        "--out",
        tmp_path / "tv",
        "--degradation",
        "gaussian_noise",
    )
    assert (status, "exists already; give a new folder" in error) == (2, True)


@pytest.mark.parametrize(
    ("name", "options"), [("modl", {}), ("unet", {"start": "tv"}), ("recon_resnet", {})]
)
def test_methods_that_use_the_operator_say_so(name: str, options: dict[str, str]) -> None:
    operator = physics.create("mri_cartesian", 4, 32)
    with pytest.raises(Unexportable, match="uses the operator itself"):
        on_image(methods.create(name, operator, **options), operator)


def test_an_interrupted_export_leaves_nothing(
    made_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object) -> str:
        assert any(path.is_dir() for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(card, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        export(made_run, tmp_path / "net", "tv", which=NOISE)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_folder_is_named(made_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    recipe, _ = made_run.refit(made_run.cell("srcnn", **NOISE), 0)
    settings = {"refits": {"0": recipe}, "seed": 0, "weights": ["0"]}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"seed_0\.safetensors: is damaged"):
        bench.load_model(folder)
    (folder / "seed_0.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"seed_0\.safetensors: is damaged"):
        bench.load_model(folder)
    with pytest.raises(UserError, match="unknown seed '3'"):
        bench.load_model(folder, 3)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: is damaged"):
        bench.load_model(folder)
