"""Shared by all tests: quiet Ray, shape checks of every annotated function."""

import os
import tempfile

from jaxtyping import install_import_hook

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A cache of the tests' own, shared with the processes that they start.
_cache = tempfile.TemporaryDirectory(prefix="reconbench-tests-")
os.environ["RECONBENCH_CACHE"] = _cache.name

# Every array shape that an annotation names is checked by the tests themselves.
install_import_hook("bench", "beartype.beartype")
