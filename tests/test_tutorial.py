"""A newcomer follows docs/tutorial.md word for word."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.opened import open_run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial.md").read_text()


@pytest.mark.usefixtures("ray_cluster")
def test_a_network_of_ones_own_comes_onto_the_board(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.S | re.M)
    (text,) = [text for language, text in blocks if language == "yaml"]
    (tmp_path / "mine.yaml").write_text(text)
    lines = [line for language, text in blocks if not language for line in text.splitlines()]
    commands = [line for line in lines if line.startswith("reconbench")]
    assert [line.split()[1] for line in commands] == ["new", "check", "plan", "run", "recommend"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "bench/alias")])
    printed = {}
    for line in commands:
        words = line.split("#")[0].replace('"', "").split()[1:]
        done = subprocess.run(
            [sys.executable, "-m", "bench", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=500,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        printed[words[0]] = done.stdout
    board = open_run(tmp_path / "results/mine").leaderboard
    assert set(board["method"]) == {"tv", "unet", "MyNet"}
    assert board["rank"].notna().all()
    assert "On gaussian_noise 0.1" in printed["recommend"]
    assert "MyNet" in printed["run"]
