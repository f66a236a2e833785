"""The run folder: everything that a benchmark leaves behind, written atomically.

    spec.yaml  manifest.json          resolved benchmark; versions, hashes, hardware
    rows/<cell>/<seed>.parquet        one row per test image
    trials/<cell>.parquet  studies/   every configuration tried; the Optuna journal
    images/<cell>/pictures.npz        y, A_dagger(y), x_hat, error of the same few test images, ids
    images/<task>/truth.npz           x of these images
    models/<cell>/<seed>/             weights and what rebuilds the reconstructor
    report/                           leaderboard, audit

It stands in a file system or in an object store. A file is either absent or whole (see
`bench.places`), so a crash, a kill or a full disk costs only the file in hand. A cell's seed is
finished when its rows are there, which is why they are written last.
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import yaml
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import places
from bench.errors import UserError
from bench.places import Place
from bench.spec import Benchmark, parse

ROW_KEYS = (
    "cell",
    "dataset",
    "degradation",
    "level",
    "n_train",
    "method",
    "seed",
    "image",
    "subject",
    "measurement_hash",
)


SIGN_SECONDS, SILENCE_SECONDS = 10.0, 60.0
READERS = 8  # at a time, of tables: each request of an object store takes its time


class Store:
    """Reads and writes one run folder.

    Args:
        folder: the run folder, a path or an address (`s3://`, `gs://`); made when first written to.

    Raises:
        UserError: an address that is none.
    """

    def __init__(self, folder: str | Place):
        self.folder = places.place(folder)

    # --- what the run is -----------------------------------------------------------------

    def begin(self, spec: Benchmark, data_digest: str) -> None:
        """Claim the folder for a benchmark, or take up its earlier run there.

        Raises:
            UserError: the folder belongs to another benchmark file or other images, or cannot
                be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be made ({error.strerror})") from None
        if (self.folder / "spec.yaml").exists():
            self._check_same(spec, data_digest)
            return
        if any(path for path in self.folder.iterdir() if not path.name.startswith(".")):
            raise UserError(f"{self.folder}: is not empty and holds no run; choose another --out")
        self.write_manifest(data=data_digest)
        self._write("spec.yaml", lambda file: file.write(spec.dump().encode()))

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other runs out of the folder while the block runs.

        A file says who is here and is touched as a sign of life; no lock of the file system is
        relied on, since network file systems and object stores do without. What a dead run left is
        taken over.

        Raises:
            UserError: another run is at work in the folder.
        """
        claim = self.folder / "running.json"
        self._refuse_second(claim)
        mine = {"host": socket.gethostname(), "pid": os.getpid()}
        self._write(claim.name, lambda file: file.write(json.dumps(mine).encode()))
        ended = threading.Event()

        def sign_of_life() -> None:
            while not ended.wait(SIGN_SECONDS):
                with contextlib.suppress(OSError, UserError):
                    claim.touch()

        living = threading.Thread(target=sign_of_life, daemon=True)
        living.start()
        try:
            yield
        finally:
            ended.set()
            living.join(SIGN_SECONDS)  # a touch under way would bring the claim back
            with contextlib.suppress(OSError, UserError):
                claim.unlink()

    def _refuse_second(self, claim: Place) -> None:
        try:
            other = json.loads(claim.read_text())
            age = places.age(claim)
        except (FileNotFoundError, json.JSONDecodeError):
            return
        here = other["host"] == socket.gethostname()
        if age > SILENCE_SECONDS or (here and not _alive(other["pid"])):
            return
        raise UserError(
            f"{self.folder}: another run is at work there (process {other['pid']} on "
            f"{other['host']}); wait for it, or choose another --out"
        )

    def _check_same(self, spec: Benchmark, data_digest: str) -> None:
        before = yaml.safe_load(self.spec().dump())
        now = yaml.safe_load(spec.dump())
        changed = [key for key in now if now[key] != before.get(key)]
        if changed:
            raise UserError(
                f"{self.folder}: holds a run of another benchmark file (it differs in "
                f"{', '.join(changed)}); choose another --out, or remove that folder"
            )
        if self.manifest().get("data") != data_digest:
            raise UserError(
                f"{self.folder}: its images are not the ones of the earlier run; "
                "choose another --out, or bring the earlier images back"
            )

    def spec(self) -> Benchmark:
        """Read the resolved benchmark file.

        Raises:
            UserError: the folder holds no run.
        """
        path = self.folder / "spec.yaml"
        if not path.exists():
            raise UserError(f"{self.folder}: holds no run (no spec.yaml){self._runs_inside()}")
        return parse(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))

    def _runs_inside(self) -> str:
        if not isinstance(self.folder, Path):  # a bucket may hold a great deal
            return ""
        runs = [file.parent.name for file in self.folder.glob("*/spec.yaml")]
        return f"; runs in it: {', '.join(sorted(runs))}" if runs else ""

    def manifest(self) -> dict[str, Any]:
        """Read manifest.json; empty where there is none."""
        path = self.folder / "manifest.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def write_manifest(self, **entries: Any) -> None:
        """Add entries to manifest.json."""
        content = json.dumps({**self.manifest(), **entries}, indent=1, default=str)
        self._write("manifest.json", lambda file: file.write(content.encode()))

    # --- results -------------------------------------------------------------------------

    def has_rows(self, cell: str, seed: int) -> bool:
        """Return whether a refit is finished."""
        return (self.folder / "rows" / cell / f"{seed}.parquet").exists()

    def write_rows(self, cell: str, seed: int, rows: pd.DataFrame) -> None:
        """Write a refit's rows: one per test image, `ROW_KEYS` and then metrics and costs."""
        missing = set(ROW_KEYS) - set(rows.columns)
        if missing:
            raise ValueError(f"rows lack {sorted(missing)}")
        self._write(f"rows/{cell}/{seed}.parquet", lambda file: rows.to_parquet(file, index=False))

    def rows(self) -> pd.DataFrame:
        """Read all rows; an empty table before the first refit."""
        return self._tables("rows", ROW_KEYS)

    def write_trials(self, cell: str, trials: pd.DataFrame) -> None:
        """Write a cell's table of trials: `cell, trial, state, psnr, step, seconds, error`, the
        Ray node that ran it, and the configuration as JSON.
        """
        self._write(f"trials/{cell}.parquet", lambda file: trials.to_parquet(file, index=False))

    def count_trials(self, cell: str) -> int:
        """Count the trials in a cell's table."""
        try:
            with places.fetched(self.folder / "trials" / f"{cell}.parquet") as file:
                return parquet.read_metadata(file).num_rows
        except FileNotFoundError:
            return 0

    def trials(self) -> pd.DataFrame:
        """Read the trials of all cells; an empty table before the first."""
        return self._tables("trials", ("cell", "trial", "state", "psnr", "step"))

    @property
    def journal(self) -> Place:
        """The Optuna journal, which optuna-dashboard opens."""
        path = self.folder / "studies" / "journal.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    # --- pictures, models, reports ---------------------------------------------------------

    def write_pictures(self, owner: str, **arrays: np.ndarray) -> None:
        """Write a cell's pictures (y, start, x_hat, error, ids), or a task's truth (x, ids)."""
        name = "truth" if set(arrays) == {"x", "ids"} else "pictures"
        self._write(
            f"images/{owner}/{name}.npz",
            lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
        )

    def write_model(
        self, cell: str, seed: int, recipe: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> None:
        """Write a refit's weights, and the recipe that rebuilds the reconstructor around them."""
        folder = f"models/{cell}/{seed}"
        content = json.dumps(recipe, indent=1).encode()
        self._write(f"{folder}/recipe.json", lambda file: file.write(content))
        if weights:
            whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            with places.written(self.folder / folder / "weights.safetensors") as path:
                save_file(whole, path)

    def read_model(self, cell: str, seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read a refit's recipe and weights (empty for a method without).

        Raises:
            UserError: this cell has no such refit.
        """
        folder = self.folder / "models" / cell / str(seed)
        if not (folder / "recipe.json").exists():
            raise UserError(f"{folder}: no model of that cell and seed")
        recipe = json.loads((folder / "recipe.json").read_text())
        try:
            with places.fetched(folder / "weights.safetensors") as file:
                return recipe, load_file(file)
        except FileNotFoundError:
            return recipe, {}

    def write_report(self, name: str, content: str) -> Place:
        """Write a file of the report folder and return where it is."""
        self._write(f"report/{name}", lambda file: file.write(content.encode()))
        return self.folder / "report" / name

    # --- how -----------------------------------------------------------------------------

    def _tables(self, kind: str, keys: Iterable[str]) -> pd.DataFrame:
        paths = sorted((self.folder / kind).rglob("*.parquet"), key=lambda path: path.parts)
        with ThreadPoolExecutor(READERS) as readers:
            tables = list(readers.map(_table, paths))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(keys))

    def _write(self, relative: str, fill: Callable[[IO[bytes]], object]) -> None:
        with places.written(self.folder / relative) as path, path.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())


def _table(path: Place) -> pd.DataFrame:
    with places.fetched(path) as file:
        return pd.read_parquet(file)


def _alive(pid: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
