"""Which rooms need neither Ray nor Streamlit: a notebook, a replay and a report load neither."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
WITHOUT = ("ray", "streamlit")


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("bench.report, bench.report.combine", (*WITHOUT, "torch")),
        ("bench.rules, bench.cells, bench.scoring, bench.estimate, bench.replay", WITHOUT),
        (
            "bench.statistics, dashboard.run, bench.image_charts, dashboard.reconstructor",
            (*WITHOUT, "torch"),
        ),
        ("bench.cli", (*WITHOUT, "torch", "pandas")),
    ],
)
def test_what_is_not_imported(modules: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print(*[m for m in {absent!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("pins", ["constraints.txt", "constraints-oldest.txt"])
def test_the_versions_that_are_pinned_are_admitted(pins: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / pins).read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if "==" in line and line[0] != "#")
    admitted = [Requirement(text) for text in project["dependencies"]]
    both = [one for one in admitted if one.name.lower() in pinned]
    assert len(both) >= 3
    for one in both:
        assert one.specifier.contains(pinned[one.name.lower()], prereleases=True), one
