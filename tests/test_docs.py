"""The documentation builds without a warning, and states what the code has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import methods, physics, spec
from bench.data.sources import READERS
from bench.methods.losses import LOSSES
from bench.metrics import METRICS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", out],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_every_part_and_every_key_has_its_entry(site: Path) -> None:
    for page, names in (("methods", methods.names()), ("degradations", physics.names())):
        headings = re.findall(r"<h\d>([\w.]+)<", (site / f"{page}.html").read_text())
        assert set(names) <= set(headings)
    keys, options = (
        set(re.findall(r'<span class="pre">(\w+)</span>', (site / f"{page}.html").read_text()))
        for page in ("benchmark_file", "own_data")
    )
    for model in (spec.Benchmark, spec.DatasetSpec, spec.MethodSpec, spec.Budget, spec.Search):
        assert set(model.model_fields) <= keys
    assert {*METRICS.names(), *LOSSES.names()} <= keys
    for reader in READERS.names():
        assert set(READERS.defaults(reader)) <= options


def test_every_local_link_of_the_site_leads_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"]+)"', page.read_text()):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:|data:", link) or page.name in ("genindex.html", "search.html"):
                continue
            file = (page.parent / target.partition("?")[0]) if target else page
            assert file.exists(), f"{page.name}: {link}"
            if anchor and file.suffix == ".html":
                assert f'id="{anchor}"' in file.read_text(), f"{page.name}: {link}"


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text()):
            assert re.match(r"https?:", link) or (ROOT / link).exists(), f"{name}: {link}"


@pytest.mark.parametrize("page", ["README.md", "docs/first_run.md", "docs/tutorial.md"])
def test_benchmark_files_that_are_shown_are_valid(page: str, tmp_path: Path) -> None:
    shown = [
        text
        for text in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.S)
        if text.startswith("name:")
    ]
    assert shown
    for number, text in enumerate(shown):
        (tmp_path / f"{number}.yaml").write_text(text)
        spec.load(tmp_path / f"{number}.yaml")


def test_the_default_benchmark_is_shown_as_it_is() -> None:
    default = (ROOT / "bench/specs/small_data.yaml").read_text()
    assert f"```yaml\n{default}```" in (ROOT / "docs/benchmark_file.md").read_text()
