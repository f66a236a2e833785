"""Imports follow the layers of CONTRIBUTING.md, and load neither Ray nor Streamlit without need."""

import ast
import re
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


def layers() -> dict[str, int]:
    """Read the depth of every module and package of bench/ from the list in CONTRIBUTING.md."""
    found, depth = {}, 0
    (text,) = re.findall(
        r"^```\n(bench/__init__.*?)^docs/", (ROOT / "CONTRIBUTING.md").read_text(), re.S | re.M
    )
    for line in text.splitlines():
        if entry := re.match(r"( *)bench/(\w+)", line):
            depth = len(entry[1])
            found[entry[2]] = depth
        found |= dict.fromkeys(re.findall(r"(\w+)\.py", line), depth)
    return found


def imported(file: Path) -> set[str]:
    """List the modules and packages of bench/ that a file imports, anywhere in its code."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("bench.")}


def test_imports_run_down_the_layers() -> None:
    depth, bench = layers(), ROOT / "bench"
    files = [file for file in bench.rglob("*.py") if file != bench / "__init__.py"]
    for file in files:
        own = file.relative_to(bench).parts[0].removesuffix(".py")
        assert own in depth, f"{own} is not in the list of CONTRIBUTING.md"
        for name in imported(file) & depth.keys():
            assert depth[name] >= depth[own], f"{file}: {own} imports {name}, a layer above it"


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
