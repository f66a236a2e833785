"""What a GPU brings: one command of less than eight minutes, and a page from what it measures.

    python -m bench.speed gpu                    measure on this machine's GPU, into gpu.json
    python -m bench.speed gpu --page gpu.json    write docs/speed_gpu.md from it, on any machine
    python -m bench.speed gpu --prepare          write gpu_images.npy, for a machine without nilearn

Each part runs in a process of its own, which is ended at its time limit, so that neither a hanging
compiler nor a crash costs more than the rest of one part. gpu.json is written after each part, and
the same command then measures only the parts that are not complete.

Beside PyTorch, NumPy, SciPy, pandas, h5py, scikit-image (with Pillow) and jaxtyping, the command
needs pydantic (with pydantic-core, annotated-types, typing-inspection) and PyYAML. More is needed
only by these measurements, which are left out, with the reason, where it is missing:

| package | for |
|---|---|
| nilearn, nibabel | the images, unless gpu_images.npy is there |
| pytest | the tests of part 1; without it, the contracts alone are checked |
| numba | scores on the CPU in part 1, and the leaderboard of the CPU in part 4 |
| safetensors | CT (the cache of its system matrix) |
| finufft | non-Cartesian MRI |
| cufinufft | non-Cartesian MRI on the GPU itself |
| PyWavelets | methods with wavelets |
| ray[train,tune], optuna, cmaes, pyarrow, duckdb, joblib, rich, typer, ... | part 5: all of ours |
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bench import places
from bench.errors import UserError
from bench.speed.gpu import summary
from bench.speed.gpu.setting import IMAGES, Setting, machine, prepare

# Seconds for each part, in the order of their worth; together less than eight minutes.
PARTS = {
    "checks": 90.0,
    "training": 130.0,
    "reconstruction": 50.0,
    "learning": 140.0,
    "packing": 60.0,
}
SOFT = 0.85  # the share of its time after which a part begins no further measurement
VERSION = 1


def page() -> str:
    """Measure all parts, and return the page as Markdown.

    Raises:
        UserError: there is no GPU.
    """
    return summary.write(measure(Setting(device="cuda"), Path("gpu.json")))


def main(words: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: no GPU, no images, or a file of another measurement.
    """
    given = _arguments(words)
    if given.page is not None:
        _write_page(_read(given.page))
        return
    setting = Setting(given.device, given.quick, given.images)
    if given.prepare:
        prepare(setting)
    elif given.part is not None:
        _measure_here(setting, given.part, given.lines, given.seconds)
    else:
        found = measure(setting, given.out)
        if setting.device == "cuda":
            _write_page(found)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench.speed gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny images, to try the command")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--images", type=Path, default=IMAGES, help="prepared images")
    parser.add_argument("--prepare", action="store_true", help="write the images, and end")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page, and end")
    for name, kind in (("part", str), ("lines", Path), ("seconds", float)):  # of a part's process
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def measure(setting: Setting, out: Path) -> dict[str, Any]:
    """Measure the parts that are not complete in a file, and return all of them.

    Args:
        setting: device and size of the measurement.
        out: a JSON file, which is replaced after each part.

    Raises:
        UserError: there is no GPU, there are no images, or the file is of another measurement.
    """
    setting.check()
    found: dict[str, Any] = {
        "version": VERSION,
        "setting": setting.described(),
        "machine": machine(),
        "parts": {},
    }
    if out.exists():
        before = _read(out)
        for key in ("version", "setting", "machine"):
            if before[key] != found[key]:
                raise UserError(f"{out}: measured with another {key}; name another file by --out")
        found = before
    if not setting.images.exists():
        prepare(setting)
    for name, limit in PARTS.items():
        if found["parts"].get(name, {}).get("state") == "complete":
            continue
        print(f"{name}: at most {limit:g} s", flush=True)
        found["parts"][name] = _run(setting, name, limit)
        print(f"{name}: {found['parts'][name]['state']}", flush=True)
        with places.atomic_write(out) as temporary:
            temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    if not isinstance(found, dict) or not {"version", "setting", "machine", "parts"} <= set(found):
        raise UserError(f"{file}: not written by `python -m bench.speed gpu`")
    return found


def _run(setting: Setting, name: str, limit: float) -> dict[str, Any]:
    """Measure a part in a process of its own; return its state, seconds and lines."""
    root = Path(__file__).parents[3]
    with tempfile.TemporaryDirectory() as folder:
        lines, errors = Path(folder) / "lines", Path(folder) / "errors"
        lines.touch()
        command = [
            sys.executable, "-m", "bench.speed", "gpu", "--part", name, "--lines", str(lines),
            "--seconds", str(SOFT * limit), *setting.words(),
        ]  # fmt: skip
        start = time.monotonic()
        with errors.open("w") as stream:
            process = subprocess.Popen(
                command, stderr=stream, start_new_session=True,
                env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'bench' / 'alias'}"},
            )  # fmt: skip
            try:
                status = process.wait(limit)
                state = "failed" if status else "complete"
            except subprocess.TimeoutExpired:
                state = "stopped"
            finally:
                _end(process)
        part: dict[str, Any] = {"state": state, "seconds": round(time.monotonic() - start, 1)}
        part["lines"] = [
            json.loads(one) for one in lines.read_text().splitlines(True) if one[-1:] == "\n"
        ]
        if any("left" in line for line in part["lines"]) and state == "complete":
            part["state"] = "stopped"
        if state == "failed":
            part["reason"] = " ".join(errors.read_text().splitlines()[-1:])[:300]
    return part


def _end(process: subprocess.Popen) -> None:
    """End a process with those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _measure_here(setting: Setting, name: str, lines: Path, seconds: float) -> None:
    """Write a part's lines to a file, one after another, until its time is over."""
    ends = time.monotonic() + seconds
    torch.manual_seed(0)
    with lines.open("a") as stream:
        for line in import_module(f"bench.speed.gpu.{name}").lines(setting):
            print(json.dumps(line), file=stream, flush=True)
            print(" ", *(f"{key}={value}" for key, value in line.items()), flush=True)
            if time.monotonic() > ends:
                print(
                    json.dumps({"left": "no time was left for the rest"}), file=stream, flush=True
                )
                return


def _write_page(found: dict[str, Any]) -> None:
    Path("docs").mkdir(exist_ok=True)
    Path("docs/speed_gpu.md").write_text(summary.write(found), encoding="utf-8")
    print("docs/speed_gpu.md")
