"""`reconbench new`: what it writes works as it is, in a package and in ReconBench itself."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import contracts, new
from bench.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_every_kind_in_a_package_passes_the_tests_that_come_with_it(folder: Path) -> None:
    """Their two tests each, in one process as a newcomer would start it."""
    for kind in new.KINDS:
        new.write(kind, f"my_{kind}", "their_parts.inner")
    paths = {"PYTHONPATH": os.pathsep.join([".", *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, **paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout


@pytest.mark.parametrize("kind", new.KINDS)
def test_in_a_checkout_it_goes_to_the_folder_of_its_kind_and_passes_ruff(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    written = new.write(kind, "edge_keeper", folder=tmp_path)
    folders = {str(file.parent.relative_to(tmp_path)) for file in written.files}
    assert new.KINDS[kind].folder in folders
    assert ("search_spaces" in folders) == (kind in ("method", "network"))
    ours = 'lint.isort.known-first-party=["bench"]'  # whose other files are absent here
    for command in (["check", "--config", ours], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten_and_wrong_names_are_refused(folder: Path, reconbench: Any) -> None:
    status, printed, _ = reconbench("new", "metric", "sharpness", "--package", "theirs")
    assert status == 0
    assert "reconbench check theirs.sharpness:Sharpness" in printed
    file = folder / "theirs" / "sharpness.py"
    file.write_text("# mine")
    for words, reason in [
        (("metric", "sharpness", "--package", "theirs"), "exists already"),
        (("metrik", "other", "--package", "theirs"), "did you mean 'metric'"),
        (("metric", "Sharp-ness", "--package", "theirs"), "is not a name for a file"),
        (("metric", "other", "--package", "no-package"), "is not the name of a Python package"),
        (("network", "unet"), "ReconBench has a method of this name"),
    ]:
        status, _, error = reconbench("new", *words)
        assert status == 2
        assert reason in error
    assert file.read_text() == "# mine"
    with pytest.raises(UserError, match="installed, not checked out"):
        new.write("metric", "other", folder=folder)


def test_every_kind_of_part_can_be_begun() -> None:
    assert {kind.word for kind in new.KINDS.values()} == set(contracts.KINDS)
