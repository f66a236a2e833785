"""Pairs of images go through the whole pipeline, and a shifted one is found."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from bench import api, audit, data, report, rules, spec, training
from bench.cells import cells_of
from bench.data import Dataset
from bench.data.template import make
from bench.errors import UserError
from bench.physics import create
from bench.scoring import physics_of, score_refit
from bench.spec import Benchmark
from bench.store import Store

COUNT, SIZE, SIGMA = 14, 32, 0.1
SHIFTED = 3  # number of the pair whose measurement is moved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write pairs of 8-bit pictures: slices of the template, and the same with noise."""
    folder = tmp_path_factory.mktemp("pairs")
    found = make(None, SIZE, subjects=COUNT)
    slices = found.images[:: len(found) // COUNT]
    generator = np.random.default_rng(0)
    for part in ("full", "low"):
        (folder / part).mkdir()
    for number, image in enumerate(slices[:COUNT, 0]):
        clean = 0.2 + 0.6 * image
        noisy = clean + SIGMA * generator.standard_normal(clean.shape)
        noisy = np.roll(noisy, (5, -4), (0, 1)) if number == SHIFTED else noisy
        for part, ending, values in (("full", "png", clean), ("low", "tif", noisy)):
            grey = (255 * values).round().clip(0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / part / f"p{number:02d}.{ending}")
    return folder


def parsed(folder: Path, **further: object) -> Benchmark:
    dataset = {"path": str(folder / "full"), "measured": str(folder / "low"), "image_size": SIZE}
    return spec.parse(
        {
            "dataset": {**dataset, "n_val": 3, "n_test": 4, "subject_regex": "p.."},
            "degradations": [{"name": "paired"}, {"name": "gaussian_noise", "levels": [0.01]}],
            "n_train": [6],
            "methods": ["degraded", "tv", "gaussian", {"name": "srcnn", "fixed": {"width": 4}}],
            "budget": {"steps": 3, "batch_size": 2, "reports": 1, "trials": 2},
            **further,
        }
    )


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return data.load(parsed(folder).dataset)


def test_both_of_a_pair_are_scaled_alike(dataset: Dataset) -> None:
    assert dataset.measured is not None
    y = dataset.measured.read()
    error = y.numpy() - dataset.images
    fine = [i for i in range(len(dataset)) if i != SHIFTED]
    assert abs(error[fine].mean()) < 2e-3
    assert dataset.images.min() == pytest.approx(0.2, abs=0.01)
    assert error[fine].std() == pytest.approx(SIGMA, rel=0.05)
    assert dataset.measured.noise_std == pytest.approx(SIGMA, rel=0.3)


def test_the_audit_finds_the_shifted_pair(dataset: Dataset) -> None:
    worst, second = dataset.audit.pairs[:2]
    assert worst["name"] == f"p{SHIFTED:02d}.png"
    assert (worst["rows"], worst["columns"]) == (-5, 4)
    assert (second["rows"], second["columns"]) == (0, 0)
    assert dataset.audit.findings["shifted_pairs"] == 1
    page = audit.page(vars(dataset.audit))
    assert "1 pairs are not registered" in page
    assert "| -5, 4 |" in page


def test_a_benchmark_of_pairs(folder: Path, tmp_path: Path) -> None:
    checked, notices = rules.check(parsed(folder))
    assert "tv supports linear physics only: no cells for paired" in notices
    cells = cells_of(checked)
    assert {cell.method.label for cell in cells if cell.task.degradation.name == "paired"} == {
        "degraded", "gaussian", "srcnn",
    }  # fmt: skip
    prepared = rules.prepare(checked, rules.Shrinkable())
    split = prepared.split
    store = Store(tmp_path / "run")
    store.begin(checked, rules.digests(split, checked.n_train))
    for cell in cells:
        if cell.task.degradation.name != "paired" or cell.method.label == "gaussian":
            continue
        operator = physics_of(cell, checked, split.val)
        assert operator.noise_std == pytest.approx(split.val.measured.noise_std)
        fit = training.fit(
            cell.method.name, cell.method.fixed, split.train, split.val, operator,
            checked.budget, 0, precision="fp32",
        )  # fmt: skip
        rows, scored = score_refit(cell, 0, fit, operator, split.test, kept=2)
        assert scored.y.shape == (2, 1, SIZE, SIZE)
        np.testing.assert_array_equal(scored.y, split.test.take([0, 1]).measured.read())
        np.testing.assert_allclose(
            rows["noise_std"], split.test.measured.noise[split.test.measured.index]
        )
        assert rows["data_residual"].isna().all()
        if cell.method.label == "degraded":
            y = split.test.measured.read().numpy()
            wanted = [
                peak_signal_noise_ratio(x[0], y[i, 0], data_range=1)
                for i, x in enumerate(split.test.images)
            ]
            np.testing.assert_allclose(rows["psnr"], wanted, rtol=1e-4)
        store.write_rows(cell.id, 0, rows)
    store.write_manifest(audit=prepared.audit, cells=3, notices=notices)
    report.write(store)
    page = (tmp_path / "run/report/leaderboard.md").read_text()
    assert "no cells for paired" in page
    assert "pairs of image and measurement" in page


def test_from_python(dataset: Dataset) -> None:
    task = api.task(dataset, "paired", 1, n_val=3, n_test=4)
    model = api.fit("gaussian", task)
    y = task.test.measured.read().numpy()
    assert model.of(task.test)(y).shape == y.shape
    assert (
        api.evaluate(model, task).psnr > api.evaluate(api.fit("degraded", task), task).psnr
    ).all()


def test_measurements_are_mirrored_with_their_images(dataset: Dataset) -> None:
    recipe = training.Recipe(augment="strong", draws=2)
    operator = create("paired", 1, SIZE)
    some = dataset.first(4)
    drawn = training.batches(some, operator, recipe, 4, 0, torch.device("cpu"))
    by_image = {
        image.tobytes(): y for image, y in zip(some.images, some.measured.read(), strict=True)
    }
    mirrored = 0
    for _, batch in zip(range(3), drawn, strict=False):
        for x, y in zip(batch.x, batch.y, strict=True):
            flipped = x.numpy().tobytes() not in by_image
            mirrored += flipped
            plain, measured = (x.flip(-1), y.flip(-1)) if flipped else (x, y)
            assert torch.equal(measured, by_image[plain.numpy().tobytes()])
    assert 0 < mirrored < 12


def test_measurements_are_sent_by_the_name_of_their_file(dataset: Dataset) -> None:
    some = dataset.take([2, 5])
    sent = pickle.dumps(some.measured)
    assert len(sent) < 4000
    assert torch.equal(pickle.loads(sent).read(), some.measured.read())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"measured": None}, "paired: needs pairs: set dataset.measured"),
        ({"measured": "nowhere"}, "nowhere"),
        ({"measured_regex": "("}, "dataset.measured_regex: '\\(' is no pattern"),
        ({"measured_regex": "q(\\d)"}, "none of the 14 files"),
        ({"measured_regex": "p(\\d)"}, "both belong to '0'"),
    ],
)
def test_mistakes_are_named(folder: Path, change: dict[str, str | None], says: str) -> None:
    given = parsed(folder)
    dataset = {**given.model_dump()["dataset"], **change}
    asked = spec.parse({**given.model_dump(), "dataset": dataset})
    with pytest.raises(UserError, match=says):
        rules.prepare(rules.check(asked)[0], rules.Shrinkable())


def test_pairs_are_found_by_a_pattern_or_a_table(folder: Path, dataset: Dataset) -> None:
    given = parsed(folder).model_dump()["dataset"]
    table = folder / "pairs.csv"
    lines = [f"p{number:02d}.png,p{number:02d}.tif" for number in range(COUNT)]
    table.write_text("\n".join(["file,measured", *lines]))
    for more in ({"measured_regex": r"p(\d+)"}, {"measured_csv": str(table)}):
        found = data.load(spec.DatasetSpec.model_validate({**given, **more}))
        assert found.measured.digests == dataset.measured.digests
    (folder / "low" / "p00.tif").rename(folder / "p00.tif")
    fewer = data.load(parsed(folder).dataset)
    (folder / "p00.tif").rename(folder / "low" / "p00.tif")
    assert len(fewer) == COUNT - 1
    assert fewer.audit.files["images without a measurement"] == 1
