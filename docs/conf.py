"""Configuration of Sphinx: `make docs` writes the site to docs/_build."""

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

project = "ReconBench"
author = "the ReconBench developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "ReconBench"
html_show_sphinx = False
default_role = "code"
exclude_patterns = ["_build", "generated"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_use_ivar = True


def setup(app: Any) -> None:
    """Write the pages that come from the code."""
    import generate

    app.connect("builder-inited", lambda _: generate.write(Path(__file__).parent / "generated"))
