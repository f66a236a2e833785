"""Shared by all tests: quiet Ray, shape checks of every annotated function."""

import os

from jaxtyping import install_import_hook

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["RECONBENCH_CACHE"] = ""  # tests prepare their images anew, and leave none behind

# Every array shape that an annotation names is checked by the tests themselves.
install_import_hook("bench", "beartype.beartype")
