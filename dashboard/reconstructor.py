"""Asks a process of its own for the reconstruction of any test image.

Models need PyTorch, which the dashboard does not import; see `bench.reconstructions`.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.parsing import one_at_a_time
from dashboard.pictures import CellPictures

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "bench.reconstructions"]


class ForeignCodeError(Exception):
    """The reconstruction needs code of other packages, named in the message."""


class Reconstructor:
    """A process that holds the images and models of a run; it starts with the first request.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: str):
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._alone = threading.Lock()  # pages of several users ask at the same time

    def of_cell(self, cell: str, seed: int, image: str, foreign: bool = False) -> CellPictures:
        """Reconstruct a test image by the refit of a cell.

        Args:
            cell: its id.
            seed: of the refit.
            image: the id of the image.
            foreign: whether code of other packages may be imported that the run names.

        Raises:
            ForeignCodeError: it is needed, but not allowed.
            ValueError: the reconstruction is not possible; the message says why.
        """
        if self._lacks_model(cell, seed):  # known without a process, which takes a second to start
            raise ValueError(f"{self._folder}: no model of that cell and seed")
        request = {"cell": cell, "seed": seed, "image": image, "foreign": foreign}
        with self._alone:
            head, content = self._ask(json.dumps(request).encode() + b"\n")
        if "foreign" in head:
            raise ForeignCodeError(", ".join(head["foreign"]))
        if "error" in head:
            raise ValueError(head["error"])
        with one_at_a_time, np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            x, y, x_hat, start = (arrays[name] for name in ("x", "y", "x_hat", "start"))
        return CellPictures(y, start, x_hat, x)

    def close(self) -> None:
        """End the process."""
        with self._alone:
            self._stop()

    def _lacks_model(self, cell: str, seed: int) -> bool:
        """Return whether a run in a file system has no model of a refit."""
        run = Path(self._folder)
        return run.is_dir() and not (run / "models" / cell / str(seed)).is_dir()

    def _ask(self, request: bytes) -> tuple[dict[str, Any], bytes]:
        process = self._process
        if process is None or process.poll() is not None:
            self._process = process = self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except OSError:  # it has ended; what it said last, if anything, is read below
            pass
        head = process.stdout.readline()
        if not head:
            self._stop()
            raise ValueError(
                "the process that reconstructs images has ended; its terminal says why"
            )
        answer = json.loads(head)
        return answer, process.stdout.read(answer.get("bytes", 0))

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            [*COMMAND, self._folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert process.stdin is not None
        weakref.finalize(self, _end, process.stdin)
        return process

    def _stop(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            _end(self._process.stdin)
            self._process.kill()
            self._process.wait()
        self._process = None


def _end(stdin: IO[bytes]) -> None:
    """Let a process end, which it does with its input."""
    with contextlib.suppress(OSError):
        stdin.close()
