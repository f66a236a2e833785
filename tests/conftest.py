"""Shared by all tests: quiet Ray, shape checks of every annotated function."""

import os
import tempfile

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's workers are nice by default, and would wait for the tests that run beside them.
os.environ.setdefault("RAY_worker_niceness", "0")
# Images are prepared once in a session, by whichever process needs them first, and none are kept.
CACHE = tempfile.TemporaryDirectory(prefix="reconbench-tests-")
os.environ["RECONBENCH_CACHE"] = CACHE.name

# Every array shape that an annotation names is checked by the tests themselves, in the modules that
# have any: the checks make up a third of the time of many tests.
CHECKED = ["data", "gallery", "methods", "metrics", "physics", "speed", "statistics"]
install_import_hook([f"bench.{name}" for name in CHECKED], "beartype.beartype")


@pytest.fixture
def ray_cluster() -> None:
    """Say of a test that it starts a Ray cluster: `make test` runs these in turn.

    Of two clusters that begin at the same time one may take the port that the other has chosen;
    those of test_lab have networks of their own.
    """


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that start Ray."""
    if isinstance(item, pytest.Function) and "ray_cluster" in item.fixturenames:
        item.add_marker(pytest.mark.ray)
        item.add_marker(pytest.mark.slow)
