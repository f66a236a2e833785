"""Shared by all tests: quiet Ray, shape checks of every annotated function."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import local_package
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's workers are nice by default, and would wait for the tests that run beside them.
os.environ.setdefault("RAY_worker_niceness", "0")
# Images are prepared once, by whichever process needs them first, and none are kept. `make test`
# names a folder for the sessions that it runs side by side.
CACHE = tempfile.TemporaryDirectory(prefix="reconbench-tests-")
os.environ["RECONBENCH_CACHE"] = os.environ.get("RECONBENCH_TESTS_CACHE") or CACHE.name

# Every array shape that an annotation names is checked by the tests themselves, in the modules that
# have any: the checks make up a third of the time of many tests.
CHECKED = ["data", "gallery", "methods", "metrics", "physics", "speed", "statistics"]
if "RECONBENCH_TESTS_UNCHECKED" not in os.environ:  # the tests of Ray, whose workers have no checks
    install_import_hook([f"bench.{name}" for name in CHECKED], "beartype.beartype")


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the package `my_pkg` into the current folder, a new one; return the folder."""
    local_package.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("my_pkg", "faulty")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.fixture
def reconbench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process, which has imported everything: status, output, errors."""

    def run(*words: object) -> tuple[int, str, str]:
        from bench.cli import main

        monkeypatch.setattr(sys, "argv", ["reconbench", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def ray_cluster() -> None:
    """Mark a test that starts a Ray cluster: `make test` runs these in turn.

    It finds their files by the name of this fixture.

    Of two clusters that begin at the same time one may take the port that the other has chosen;
    those of test_lab have networks of their own.
    """


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that start Ray."""
    if isinstance(item, pytest.Function) and "ray_cluster" in item.fixturenames:
        item.add_marker(pytest.mark.ray)
        item.add_marker(pytest.mark.slow)
