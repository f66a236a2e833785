"""Part 1: does everything give on the GPU what it gives on the CPU?"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench import contracts
from bench.speed.gpu.setting import Setting

TESTS = Path(__file__).parents[3] / "tests" / "test_gpu.py"
FEW = [("method", "unet"), ("degradation", "gaussian_blur"), ("metric", "psnr")]


def lines(setting: Setting) -> Iterator[dict[str, Any]]:
    """Check the contract of every degradation, method, metric and loss, then run the GPU tests."""
    for kind, name in FEW if setting.quick else contracts.ours():
        outcome = contracts.on_gpu(kind, name)
        if outcome is not None:
            yield {"check": outcome.part, "result": outcome.result, "reason": outcome.reason}
    if setting.quick:
        return
    if find_spec("pytest") is None or not TESTS.exists():
        yield {"check": "tests/test_gpu.py", "result": "not checked", "reason": "no pytest here"}
        return
    yield from _tests()


def _tests() -> Iterator[dict[str, Any]]:
    """Run the tests that are marked `gpu`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
             f"--junitxml={report}", str(TESTS)],
            cwd=TESTS.parents[1], env={**os.environ, "RECONBENCH_TESTS_UNCHECKED": "1"},
        )  # fmt: skip
        cases = ElementTree.parse(report).iter("testcase")
        for case in cases:
            ended = next((one for one in case if one.tag in ("failure", "error", "skipped")), None)
            result = "passed" if ended is None else "failed"
            if ended is not None and ended.tag == "skipped":
                result = "not checked"
            reason = "" if ended is None else " ".join(ended.get("message", "").split())[:200]
            yield {"check": f"test {case.get('name')}", "result": result, "reason": reason}
