"""The page of images: any image of any cell, sorted by its score."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench import image_charts
from bench.image_charts import Display, Picture
from bench.score_columns import STANDARD
from dashboard import reconstructor, run
from dashboard.reconstructor import ForeignCodeError, Reconstructor

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
TASK = "template-gaussian_noise-0.5"
# Speaks as `bench.reconstructions` does, without PyTorch: an image is one number everywhere.
PROCESS = """
import io, json, sys
import numpy as np
for line in sys.stdin:
    asked = json.loads(line)
    head, content = {}, b""
    if asked["cell"].endswith("nlm"):
        head = {"error": "its package is missing"}
    elif asked["cell"].endswith("-unet") and not asked["foreign"]:
        head = {"foreign": ["my_pkg.models"]}
    elif asked["cell"].endswith("wavelet"):
        sys.exit("no memory")
    else:
        archive = io.BytesIO()
        x = np.full((16, 16), 0.5, np.float32)
        np.savez(archive, x=x, x_hat=x + 0.25, start=x, y=x[None])
        content = archive.getvalue()
        head = {"bytes": len(content)}
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\\n" + content)
    sys.stdout.buffer.flush()
"""


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstructor, "COMMAND", [sys.executable, "-c", PROCESS])
    monkeypatch.setattr(Reconstructor, "_lacks_model", lambda *_: False)


def open_images(**query: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params.update({"task": TASK, **query})
    app.run()
    app.switch_page("views/viewer.py").run()
    assert not app.exception, app.exception[0].value
    return app


def words(app: AppTest) -> str:
    return " ".join(one.value for one in [*app.warning, *app.info, *app.caption])


def test_all_test_images_are_offered_the_worst_first(run_folder: Path) -> None:
    app = open_images(sorted="tv", show="tv")
    rows = pd.read_parquet(run_folder / "rows" / f"{TASK}-n0-tv" / "0.parquet")
    expected = rows.sort_values("psnr").image.tolist()
    offered = [one.split(":")[0] for one in app.selectbox(key="image").options]
    assert offered == expected
    assert app.selectbox(key="image").value == "image 0"  # whose pictures are stored
    for label, number in {"Worst": 0, "Median": 11, "Best": 23}.items():
        app.button(key=f"go to {label}").click().run()
        assert app.selectbox(key="image").value == expected[number]
        assert app.query_params["image"] in (expected[number], [expected[number]])


def test_a_picture_that_is_not_stored_is_made_or_the_reason_is_given(run_folder: Path) -> None:
    app = open_images(show="tv", image="image 9")
    assert not app.warning
    assert "24 test images" in words(app)
    assert "cannot be made again: its package is missing" in words(
        open_images(show="nlm", image="image 9")
    ).replace("\\", "")
    assert "process that reconstructs images has ended" in words(
        open_images(show="wavelet", image="image 9")
    )


def test_code_of_other_packages_is_run_only_on_demand(run_folder: Path) -> None:
    app = open_images(show="unet · 25", image="image 9")
    assert "imports code of my\\_pkg\\.models" in words(app)
    (button,) = [one for one in app.button if one.label == "Import it"]
    button.click().run()
    assert not app.warning


def test_the_process_is_started_again_after_it_has_ended(tmp_path: Path) -> None:
    ours = Reconstructor(str(tmp_path))
    try:
        with pytest.raises(ValueError, match="has ended"):
            ours.of_cell("wavelet", 0, "a")
        assert ours.of_cell("tv", 0, "a").error.max() == 0.25
        with pytest.raises(ForeignCodeError, match=r"my_pkg\.models"):
            ours.of_cell("n25-unet", 0, "a")
    finally:
        ours.close()


def test_without_a_model_no_process_is_started(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(reconstructor, "COMMAND", ["no such program"])
    ours = Reconstructor(str(run_folder))
    with pytest.raises(ValueError, match="no model of that cell and seed"):
        ours.of_cell(f"{TASK}-n0-tv", 0, "image 9")
    (run_folder / "models" / f"{TASK}-n0-tv" / "0").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no such program"):
        ours.of_cell(f"{TASK}-n0-tv", 0, "image 9")


def test_scores_are_those_of_the_refit_whose_pictures_are_shown() -> None:
    rows = pd.DataFrame(
        {"cell": ["a"] * 4, "seed": [2, 2, 3, 3], "image": ["x", "y"] * 2,
         "psnr": [20.0, np.inf, 30.0, 30.0]}
    )  # fmt: skip
    assert run.scores_by_image(rows, "psnr")["a"].fillna(-1).to_dict() == {"x": 20.0, "y": -1}


def test_window_and_gamma_change_the_look_and_not_the_values() -> None:
    x = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    display = Display(window=(0.2, 0.6), gamma=2.0, limit=0.3, signed=True)
    figure = image_charts.pictures([Picture(("a",), x, x - 0.5)], 400, display)
    shown, error = (np.asarray(one.z) for one in figure.data)
    np.testing.assert_array_equal(shown, x)
    assert error.min() < 0
    axis, errors = figure.layout.coloraxis, figure.layout.coloraxis2
    assert (axis.cmin, axis.cmax, errors.cmin, errors.cmax) == (0.2, 0.6, -0.3, 0.3)
    at, grey = axis.colorscale[8]  # a quarter of the window
    assert at == 0.25
    assert grey == "rgb(128,128,128)"  # 255 sqrt(1/4), rounded


def test_halves_join_two_pictures() -> None:
    zero, one = (Picture((name,), np.full((2, 10), k)) for k, name in enumerate("ab"))
    joined = image_charts.halves(zero, one, 0.3)
    assert joined.image is not None
    assert joined.image.sum(axis=0).tolist() == [0] * 3 + [2] * 7
    assert joined.error is None


def test_a_scatter_of_very_many_images_keeps_the_extremes() -> None:
    scores = pd.DataFrame({"a": np.arange(50_000.0)})
    kept = image_charts.thinned(scores, 1000)
    assert len(kept) == 1000
    assert (kept.a.min(), kept.a.max()) == (0, 49_999)
    assert kept.a.diff().max() < 60
    figure = image_charts.distribution({"all": scores.a.to_numpy()}, STANDARD["psnr"], ["#000000"])
    assert figure.data[0].boxpoints is False
