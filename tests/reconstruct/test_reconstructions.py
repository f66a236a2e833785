"""Pictures of any test image of any cell, made again by the stored models."""

import io
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from bench.opened import Run
from bench.reconstructions import Reconstructions, answer, serve
from bench.store import Store


def ask(folder: str, requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Serve requests as the process does; return archives as dicts of arrays."""
    said = io.BytesIO()
    serve(folder, io.StringIO("".join(json.dumps(one) + "\n" for one in requests)), said)
    said.seek(0)
    found: list[dict[str, Any]] = []
    while line := said.readline():
        head = json.loads(line)
        content = said.read(head.get("bytes", 0))
        found.append(dict(np.load(io.BytesIO(content))) if content else head)
    return found


def test_every_image_of_every_cell_is_the_one_that_was_scored(made_run: Run) -> None:
    rows = made_run.rows
    asked = rows[rows.image.isin(sorted(rows.image.unique())[::4])]
    keys = asked[["cell", "seed", "image"]].to_dict("records")
    found = ask(made_run.folder, keys)
    assert len(found) > 3 * rows.cell.nunique()
    psnr = [peak_signal_noise_ratio(one["x"], one["x_hat"], data_range=1) for one in found]
    np.testing.assert_allclose(psnr, asked.psnr, atol=1e-3)


def test_they_are_the_stored_pictures_where_there_are_any(made_run: Run) -> None:
    for cell in made_run.rows.cell.unique():
        stored = made_run.pictures(cell)
        request = {"cell": cell, "seed": 0, "image": str(stored["ids"][1])}
        (found,) = ask(made_run.folder, [request])
        np.testing.assert_array_equal(found["y"], stored["y"][1])
        for name in ("x_hat", "start"):
            np.testing.assert_allclose(found[name], stored[name][1, 0], atol=1e-5)


def test_a_request_that_cannot_be_met_is_answered_with_the_reason(made_run: Run) -> None:
    cell = str(made_run.rows.cell.iloc[0])
    image = str(made_run.rows.image.iloc[0])
    bad = [
        {"cell": "nowhere", "seed": 0, "image": image},
        {"cell": cell, "seed": 7, "image": image},
        {"cell": cell, "seed": 0, "image": "nobody"},
        {"cell": cell},
    ]
    *errors, good = ask(made_run.folder, [*bad, {"cell": cell, "seed": 0, "image": image}])
    words = ["no model of that cell", "no model of that cell", "nobody: no test image", "KeyError"]
    assert [word in one["error"] for word, one in zip(words, errors, strict=True)] == [True] * 4
    assert good["x"].shape == (32, 32)
    assert "holds no run" in ask(made_run.folder + "/rows", [])[0]["error"]


def test_other_images_are_refused(made_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made_run.folder, folder)
    Store(folder).write_manifest(data={"test": "another digest"})
    row = made_run.rows.iloc[0]
    (found,) = ask(str(folder), [{"cell": row.cell, "seed": 0, "image": row.image}])
    assert "cannot be read again" in found["error"]


@pytest.mark.parametrize("where", ["recipe", "benchmark file"])
def test_foreign_code_is_named_and_not_imported(
    made_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made_run.folder, folder)
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    row = made_run.rows[made_run.rows.method == "degraded"].iloc[0]
    store = Store(folder)
    if where == "recipe":
        recipe, weights = store.read_model(row.cell, 0)
        store.write_model(row.cell, 0, {**recipe, "method": "evil_module:Net"}, weights)
    else:
        spec = folder / "spec.yaml"
        spec.write_text(spec.read_text().replace("source: template", "source: evil_module:read"))
    found = Reconstructions(str(folder))
    request = {"cell": row.cell, "seed": 0, "image": row.image}
    assert answer(found, request) == ({"foreign": ["evil_module"]}, b"")
    assert "evil_module" not in sys.modules
    if where == "recipe":
        head, _ = answer(found, {**request, "foreign": True})
        assert "evil_module" in head["error"]
