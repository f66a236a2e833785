"""Parts of a user's own package, one file each, go through the rules and a training run."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import nn

from bench import (
    api,
    contracts,
    markup,
    methods,
    metrics,
    physics,
    report,
    rules,
    score_columns,
    spec,
    training,
)
from bench.cells import cells_of
from bench.data import ImageSet
from bench.errors import UserError
from bench.scoring import physics_of, score_refit
from bench.spec import Benchmark, Budget
from bench.store import Store

ROOT = Path(__file__).parents[1]
NOISE = [{"name": "gaussian_noise", "levels": [0.1]}]
PSNR = {"objective": "psnr"}
QUANTISER = "my_pkg.degradations.quantiser:Quantiser"
METRIC = "my_pkg.metrics.median_error:MedianError"
LOSS = "0.5 mse + 0.5 my_pkg.losses.log_cosh:log_cosh"


def benchmark(folder: Path) -> Benchmark:
    (folder / "scans").mkdir()
    for number in range(12):
        heights = np.random.default_rng(number).random((16, 16))
        text = "\n".join(" ".join(f"{value:.4f}" for value in row) for row in heights)
        (folder / "scans" / f"p{number}.asc").write_text(f"% a header\n{text}\n")
    dataset = {"path": str(folder / "scans"), "source": "my_pkg.readers:asc", "comment": "%"}
    return spec.parse(
        {
            "dataset": {**dataset, "image_size": 16, "n_val": 2, "n_test": 3},
            "degradations": [
                {"name": QUANTISER, "levels": [4, 8], "gamma": 0.5},
                {"name": "gaussian_noise", "levels": [0.1]},
            ],
            "n_train": [4],
            "metrics": [METRIC],
            "objective": "MedianError",
            "methods": [
                "tv",
                "my_pkg.methods.shrunk:Shrunk",
                {"name": "srcnn", "fixed": {"loss": LOSS, "width": 4}},
            ],
            "budget": {"steps": 3, "batch_size": 2, "reports": 1, "trials": 2},
        }
    )


def test_they_go_through_the_rules_and_a_training_run(own_package: Path) -> None:
    asked = benchmark(own_package)
    assert [line.split()[3] for line in rules.foreign_code(asked)] == [
        "my_pkg.readers", "my_pkg.degradations.quantiser", "my_pkg.methods.shrunk",
        "my_pkg.losses.log_cosh", "my_pkg.metrics.median_error",
    ]  # fmt: skip
    checked, notices = rules.check(asked)
    assert notices == ["tv supports linear physics only: no cells for Quantiser_gamma_0.5"]
    cells = cells_of(checked)
    assert {(cell.task.degradation.label, cell.method.label) for cell in cells} == {
        ("Quantiser_gamma_0.5", "Shrunk"), ("Quantiser_gamma_0.5", "srcnn"),
        ("gaussian_noise", "tv"), ("gaussian_noise", "Shrunk"), ("gaussian_noise", "srcnn"),
    }  # fmt: skip
    prepared = rules.prepare(checked, rules.Shrinkable())
    assert len(prepared.split.test) == 3
    cell = next(cell for cell in cells if cell.method.name == "srcnn")
    operator = physics_of(cell, checked, prepared.split.val)
    fit = training.fit(
        "srcnn", cell.method.fixed, prepared.split.train, prepared.split.val, operator,
        checked.budget, 0, precision="fp32", objective=checked.objective_metric,
    )  # fmt: skip
    error = _median_error(fit.reconstructor, operator, prepared.split.val)
    assert -fit.score == pytest.approx(error.mean(), rel=1e-4)
    rows, _ = score_refit(cell, 0, fit, operator, prepared.split.test, checked.metrics)
    expected = _median_error(fit.reconstructor, operator, prepared.split.test)
    np.testing.assert_allclose(rows["MedianError"], expected, rtol=1e-4)
    x = torch.tensor(prepared.split.test.images)
    y = operator.measure(x, prepared.split.test.ids)
    steps = np.round(np.sqrt(x.numpy()) * 3) / 3
    np.testing.assert_allclose(y.numpy(), steps, atol=1e-6)
    assert training.reconstruct(fit.reconstructor, y, operator).shape == x.shape


def _median_error(model: nn.Module, operator: physics.Physics, images: ImageSet) -> np.ndarray:
    x = torch.tensor(images.images)
    x_hat = training.reconstruct(model, operator.measure(x, images.ids), operator)
    return 100 * np.median(np.abs(x_hat.numpy() - x.numpy()), axis=(1, 2, 3))


def test_report_and_dashboard_show_a_metric_by_what_the_run_declares(own_package: Path) -> None:
    """Without its code: here it is gone by then."""
    asked = spec.parse({**benchmark(own_package).model_dump(), "degradations": NOISE})
    store = Store(own_package / "run")
    store.begin(asked, {"val": "digest"})
    code = rules.metric_code(asked, {})
    assert rules.metric_code(asked, code) == code
    with pytest.raises(UserError, match="the code of MedianError has changed since"):
        rules.metric_code(asked, {"MedianError": "of before"})
    store.write_manifest(metrics=score_columns.declare(metrics.describe(asked.metrics)))
    shutil.rmtree(own_package / "my_pkg")
    errors = {"tv": 4.0, "Shrunk": 2.0, "srcnn": 3.0}
    difficulty = np.random.default_rng(0).normal(0, 0.1, 8)
    for method, error in errors.items():
        cell = f"scans-gaussian_noise-0.1-n{4 * (method == 'srcnn')}-{method}"
        rows = pd.DataFrame({"image": [f"i{k}" for k in range(8)], "MedianError": error})
        rows["MedianError"] += difficulty
        facts = {
            "cell": cell, "task": "scans-gaussian_noise-0.1", "dataset": "scans", "level": 0.1,
            "degradation": "gaussian_noise", "n_train": 4 * (method == "srcnn"), "method": method,
            "kind": "learned" if method == "srcnn" else "classical", "seed": 0,
            "measurement_hash": "h", "psnr": 20.0 + error, "ssim": 0.5, "nmse": 0.1,
            "train_seconds": 1.0, "infer_ms": 1.0, "parameters": 1,
        }  # fmt: skip
        store.write_rows(cell, 0, rows.assign(subject=rows.image, **facts))
        trial = {"cell": cell, "trial": 0, "state": "complete", "psnr": 20.0, "step": 3}
        trial |= {"MedianError": error, "config": "{}", "seconds": 1.0, "error": ""}
        store.write_trials(cell, pd.DataFrame([trial]))
    sys.modules.pop("my_pkg", None)
    board = report.write(store)
    assert board.table["method"].tolist() == ["Shrunk", "srcnn", "tv"]
    assert board.table["rank"].tolist() == [1, 2, 3]
    assert board.table["against_classical"].tolist() == ["", "loses to Shrunk", ""]
    assert board.table["MedianError"].tolist() == pytest.approx(
        [error + difficulty.mean() for error in (2, 3, 4)]
    )
    assert "srcnn (3.0 %) loses to Shrunk (2.0 %)" in board.findings[0]
    assert "+1.0 %" in board.findings[0]
    assert "| Median error (%) |" in (own_package / "run/report/leaderboard.md").read_text()
    app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(ROOT / "dashboard" / "app.py"), str(own_package / "run")])
        app.run()
        assert not app.exception
        table = app.dataframe[0].value
        assert table["method"].tolist() == ["Shrunk", "srcnn", "tv"]
        assert table["MedianError_interval"].tolist() == [
            f"{low:.1f} to {high:.1f}"
            for low, high in zip(
                board.table["MedianError_low"], board.table["MedianError_high"], strict=True
            )
        ]
        assert {card.label: card.value for card in app.metric}["Gain over srcnn"] == "1.0 %"
        for page in ("levels", "viewer", "progress", "tradeoff"):
            app.switch_page(f"views/{page}.py").run()
            assert not app.exception
    assert "my_pkg" not in sys.modules


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({**PSNR, "metrics": ["my_pkg.metrics.median_error:Median"]}, "Median: cannot be imported"),
        ({**PSNR, "metrics": ["pnsr"]}, "did you mean 'psnr'"),
        ({"objective": "MedianErorr"}, "did you mean 'MedianError'"),
        ({"methods": ["tv"], "degradations": [{"name": QUANTISER, "levels": [4]}]}, "linear phys"),
        ({"degradations": [{"name": QUANTISER, "levels": [1]}]}, "Quantiser: level 1 is out of"),
        ({"degradations": [{"name": QUANTISER, "levels": [4], "gama": 1}]}, "mean 'gamma'"),
        ({"methods": [{"name": "srcnn", "fixed": {"loss": "my_pkg:x"}}]}, "my_pkg:x: cannot be"),
        (
            {"degradations": [{"name": "my_pkg.models:Broken", "levels": [1]}]},
            "abstract method A)",
        ),
        (
            {"degradations": [{"name": "my_pkg.models:Lacking", "levels": [1]}]},
            "needs a method A_a",
        ),
        ({"methods": ["my_pkg.models:NeedsMore"]}, "my_pkg.models:NeedsMore: cannot be built for"),
    ],
)
def test_a_mistake_is_named_before_a_run(own_package: Path, change: dict, says: str) -> None:
    (own_package / "my_pkg" / "models.py").write_text(
        "from torch import nn\n"
        "from bench.physics import Physics\n"
        "class Broken(Physics):\n"
        "    unit = 'x'\n"
        "class Lacking(Physics):\n"
        "    unit, levels = 'x', (0, 1)\n"
        "    def A(self, x): return x\n"
        "class NeedsMore(nn.Module):\n"
        "    def __init__(self, width): super().__init__()\n"
    )
    asked = benchmark(own_package).model_dump()
    with pytest.raises(UserError) as caught:
        rules.check(spec.parse({**asked, **change}))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


class Doubled(nn.Module):
    """A network of one weight, which should become 2."""

    def __init__(self, start: float = 1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(start))

    def forward(self, y: torch.Tensor, physics: physics.Physics) -> torch.Tensor:
        return self.factor * y


def images(count: int, seed: int) -> ImageSet:
    values = np.random.default_rng(seed).random((count, 1, 16, 16), dtype=np.float32)
    ids = [f"{seed}.{number}" for number in range(count)]
    return ImageSet(values, ids, ids)


@pytest.mark.parametrize("given", [Doubled, Doubled(0.5)], ids=["class", "network"])
def test_a_class_or_a_network_is_a_method(given: type[nn.Module] | nn.Module) -> None:
    class Halved(physics.find("gaussian_noise")):
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x / 2

    method = methods.find(given)
    assert method.learned
    assert methods.find(method) is method
    assert ("lr" in method.space()) == isinstance(given, type)  # a network is used as it is
    fit = training.fit(
        given, {"lr": 0.05}, images(4, 0), images(2, 1), Halved(1e-6, 16),
        Budget(steps=200, batch_size=2, reports=2), 0, precision="fp32",
    )  # fmt: skip
    assert fit.reconstructor.factor.item() == pytest.approx(2, abs=0.05)
    if isinstance(given, nn.Module):
        assert given.factor.item() == 0.5
        with pytest.raises(UserError, match="unknown option"):
            training.check(given, {"start": 1.0})


def test_a_network_without_weights_is_not_trained() -> None:
    method = methods.find(nn.Identity())
    assert not method.learned
    assert method.space() == {}


def test_what_a_class_supports_may_be_called_serves() -> None:
    class Old(methods.METHODS.find("tv")):
        serves = physics.Denoising

    assert methods.find(Old).supports("gaussian_noise")
    assert not methods.find(Old).supports("gaussian_blur")
    assert methods.find(Old).supported == "linear Denoising"


def test_a_chain_is_linear_if_all_its_steps_are(own_package: Path) -> None:
    blur, noise = {"name": "gaussian_blur", "level": 1}, {"name": "gaussian_noise"}
    for steps, linear in (([blur, noise], True), ([{"name": QUANTISER, "level": 4}, noise], False)):
        operator = physics.create("chain", 0.1, 16, steps=steps)
        assert operator.linear is linear
        for name, supported in (("tv", linear), ("nlm", False), ("unet", True)):
            assert methods.find(name).supports("chain", {"steps": steps}) is supported


def test_the_degradation_of_the_guide_runs_from_a_local_package(own_package: Path) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", guide, re.S)
    (code,) = [text for kind, text in blocks if kind == "python" and "class MyBlur" in text]
    (asked,) = [text for kind, text in blocks if kind == "yaml" and "MyBlur" in text]
    (own_package / "my_pkg" / "physics.py").write_text(code)
    found = list(contracts.check("my_pkg.physics:MyBlur"))
    assert len(found) > 5
    assert not [str(one) for one in found if one.result == "failed"]
    given = {"dataset": {"image_size": 16}, **markup.read(asked, "guide")}
    checked, notices = rules.check(spec.parse(given))
    assert notices == []
    assert len(cells_of(checked)) == 2 * 5
    images = ImageSet(np.random.default_rng(0).random((8, 1, 16, 16), dtype=np.float32),
                      [str(k) for k in range(8)], [str(k) for k in range(8)])  # fmt: skip
    task = api.task(images, "my_pkg.physics:MyBlur", 4, n_val=2, n_test=3)
    before, after = (
        api.evaluate(api.fit(method, task), task).psnr.mean() for method in ("degraded", "tv")
    )
    assert after > before


def test_all_operators_of_ours_are_linear() -> None:
    for name in set(physics.names()) - {"paired"}:
        assert physics.create(name, physics.find(name).presets[0], 32).linear


def test_python_refuses_a_method_that_the_degradation_does_not_suit(own_package: Path) -> None:
    import bench

    images = bench.load(np.random.default_rng(0).random((30, 16, 16)))
    quantised = bench.task(images, QUANTISER, 8)
    with pytest.raises(UserError, match="tv supports linear physics only, not Quantiser"):
        bench.fit("tv", quantised)
    assert bench.fit("degraded", quantised).reconstructor is not None
