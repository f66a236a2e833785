"""Which rooms need neither Ray nor Streamlit: a notebook, a replay and a report load neither."""

import subprocess
import sys

import pytest

WITHOUT = ("ray", "streamlit")


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("bench.rules, bench.cells, bench.scoring, bench.estimate, bench.replay", WITHOUT),
        ("bench.statistics, dashboard.run, dashboard.charts", (*WITHOUT, "torch")),
        ("bench.cli", (*WITHOUT, "torch", "pandas")),
    ],
)
def test_what_is_not_imported(modules: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print(*[m for m in {absent!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
