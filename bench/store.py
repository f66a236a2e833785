"""The run folder: everything that a benchmark leaves behind, written atomically.

    spec.yaml  manifest.json          resolved benchmark; versions, hashes, hardware
    rows/<cell>/<seed>.parquet        one row per test image
    curves/<cell>/<seed>.parquet      the validations of a network's refit
    trials/<cell>.parquet  studies/   every configuration tried; the Optuna journal
    images/<cell>/pictures.npz        y, A_dagger(y), x_hat, error of the same few test images, ids
    images/<cell>/worst.npz           x, x_hat of the test images with the lowest PSNR, ids
    images/<task>/truth.npz           x of these images
    models/<cell>/<seed>/             weights and what rebuilds the reconstructor
    report/                           leaderboard, audit, summary/ of the tables

It is in a file system or in an object store. A file is either missing or complete (see
`bench.places`), so a crash, a kill or a full disk loses only the file that is being written. A
refit is finished when its rows exist; so they are written last.

Later damage is detected by checksums: in tables, in archives of pictures, in `manifest.json`, and
in `recipe.json`, whose checksum also covers the weights. Readers skip a damaged file and name it in
`Store.damaged`; a run sets it aside and computes its content again.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from bench import claim as claims
from bench import curves, listing, places, run_files, tables
from bench.claim import Claim
from bench.errors import DamagedError, UserError
from bench.places import Place
from bench.run_files import Reader
from bench.spec import Benchmark, conflicts, parse

if TYPE_CHECKING:
    from torch import Tensor

ROW_KEYS = (
    "cell", "dataset", "degradation", "level", "n_train", "method", "seed", "image", "subject",
    "measurement_hash",
)  # fmt: skip
RUN_MARKS = ("spec.yaml", "manifest.json")  # a folder with one of them is a run's
READERS = 8  # threads that read an object store, each request to which is slow
LOCAL_READERS = 2  # more would only wait for each other
TOGETHER = 250  # tables that are joined as soon as they are read: many small ones fill the memory

Content = TypeVar("Content")
Source = tuple[str, int, int, str, int]  # see `Store.sources`


class Store:
    """Reads and writes one run folder.

    Attributes:
        damaged: a line for each damaged file that was left out in reading.
        sources: of `rows`, `trials` and `curves`, once they were read, in order: each file's path
            in the run folder, size and time of modification (ns) before it was read, seal, and the
            number of its lines.

    Args:
        folder: the run folder, a path or an address (`s3://`, `gs://`); made when first written to.
        claim: of the run that writes here, for its workers; see `claimed`.

    Raises:
        UserError: an invalid address.
    """

    def __init__(self, folder: str | Place, claim: Claim | None = None):
        self.folder = places.place(folder)
        self.claim = claim
        self._readers = LOCAL_READERS if isinstance(self.folder, Path) else READERS
        self.damaged: list[str] = []
        self.sources: dict[str, list[Source]] = {}

    # --- what the run is -----------------------------------------------------------------

    def begin(self, spec: Benchmark, data: Mapping[str, str]) -> None:
        """Claim the folder for a benchmark, or resume its earlier run there.

        Args:
            spec: the benchmark; one with more seeds, trials, levels, sizes or methods resumes
                the run, see `bench.spec.conflicts` and `extend`.
            data: a digest of each set of images; it must equal the stored one, if there is one.

        Raises:
            UserError: the folder belongs to another benchmark file or other images, or cannot
                be written.
        """
        self._make()
        if (self.folder / "spec.yaml").exists():
            self._check_same(spec)
        known = self.manifest().get("data", {})
        if any(known.get(part, digest) != digest for part, digest in data.items()):
            raise UserError(
                f"{self.folder}: its images differ from those of the earlier run; "
                "choose another run folder, or restore the earlier images"
            )
        if not (self.folder / "spec.yaml").exists():
            self._write("spec.yaml", spec.dump().encode())
        if not data.keys() <= known.keys():
            self.write_manifest(data={**known, **data})

    def _make(self) -> None:
        try:
            places.make_folder(self.folder.parent)
            if isinstance(self.folder, Path):  # images of patients: readable by the owner only
                self.folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be created ({error.strerror})") from None
        if self._is_foreign():
            raise UserError(f"{self.folder}: is not empty and holds no run; choose another folder")

    def extend(self, spec: Benchmark, **entries: Any) -> None:
        """Store a changed benchmark, once it is known that the run can resume with it.

        Args:
            spec: the benchmark.
            entries: to add to manifest.json.
        """
        grown = self.spec() != spec
        self.write_manifest(**entries, **({"finished": None} if grown else {}))
        if grown:
            self._write("spec.yaml", spec.dump().encode())

    def _is_foreign(self) -> bool:
        """Return whether the folder is not empty and holds no run."""
        if isinstance(self.folder, Path) and not self.folder.exists():
            return False
        own = (".", "running.")
        names = {path.name for path in self.folder.iterdir() if not path.name.startswith(own)}
        return bool(names) and not any(name.startswith(RUN_MARKS) for name in names)

    def set_aside_damaged(self) -> Iterator[str]:
        """Rename each damaged file to `<name>.damaged`; its content is then computed again.

        Yields:
            a line for each, which names it.
        """
        if self._is_foreign():
            return
        kinds: list[tuple[str, str, Reader]] = [
            ("rows", "*.parquet", run_files.table),
            ("trials", "*.parquet", run_files.table),
            ("curves", "*.parquet", run_files.table),
        ]
        if isinstance(self.folder, Path):  # object stores have checksums of their own
            kinds += [
                ("models", "recipe.json", run_files.model),
                ("images", "*.npz", run_files.arrays),
                ("checkpoints", "*.pt", places.read_sealed),
            ]
        checks: list[tuple[Place, Reader]] = [
            (self.folder / "spec.yaml", run_files.yaml_mapping),
            (self.folder / "manifest.json", run_files.unsealed),
        ]
        for folder, pattern, read in kinds:
            checks += [(path, read) for path in (self.folder / folder).rglob(pattern)]
        with ThreadPoolExecutor(self._readers) as readers:
            for error in readers.map(lambda check: run_files.damage_of(*check), checks):
                if error is not None:
                    places.set_aside(error.file)
                    yield f"{error}; it is set aside as {error.file.name}.damaged"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other runs out of the folder while the block runs; see `bench.claim`.

        Raises:
            UserError: another run is using the folder, it holds something other than a run, or it
                cannot be created.
        """
        self._make()
        with claims.held(self.folder) as self.claim:
            try:
                yield
            finally:
                self.claim = None

    def check_claim(self) -> None:
        """Refuse to write if another run has taken the folder over.

        Raises:
            UnwritableError: it has.
        """
        if self.claim is not None:
            self.claim.check()

    def _check_same(self, spec: Benchmark) -> None:
        if changed := conflicts(self.spec(), spec):
            raise UserError(
                f"{self.folder}: holds a run of another benchmark file (it differs in "
                f"{'; '.join(changed)}); choose another run folder, or remove this one"
            )

    def spec(self) -> Benchmark:
        """Read the resolved benchmark file.

        Raises:
            UserError: the folder holds no run.
            DamagedError: the file is damaged.
        """
        path = self.folder / "spec.yaml"
        if not path.exists():
            raise UserError(f"{self.folder}: holds no run (no spec.yaml){self._runs_inside()}")
        return parse(run_files.yaml_mapping(path), str(path))

    def _runs_inside(self) -> str:
        if not isinstance(self.folder, Path):  # a bucket may hold a great deal
            return ""
        runs = [file.parent.name for file in self.folder.glob("*/spec.yaml")]
        return f"; runs in it: {', '.join(sorted(runs))}" if runs else ""

    def manifest(self) -> dict[str, Any]:
        """Read manifest.json; empty if it is missing or damaged."""
        return self._unless_damaged(self.folder / "manifest.json", run_files.unsealed) or {}

    def write_manifest(self, **entries: Any) -> None:
        """Add entries to manifest.json."""
        self._write("manifest.json", run_files.sealed({**self.manifest(), **entries}))

    # --- results -------------------------------------------------------------------------

    def is_finished(self, cell: str, seed: int, config: Mapping[str, Any], pictures: bool) -> bool:
        """Return whether all files of a refit exist.

        Args:
            cell: its cell.
            seed: its seed.
            config: its configuration; more trials may have found a better one than the stored one.
            pictures: whether it stores pictures.
        """
        needed = [f"rows/{cell}/{seed}.parquet"]
        needed += [f"images/{cell}/pictures.npz"] if pictures else []
        recipe = self.folder / "models" / cell / str(seed) / "recipe.json"
        try:
            same = json.loads(recipe.read_text())["config"] == config
        except (FileNotFoundError, ValueError, KeyError):  # absent or damaged
            return False
        return same and all((self.folder / name).exists() for name in needed)

    def drop_rows(self, cell: str, seed: int) -> None:
        """Delete the rows of a refit that is to be repeated, if there are any."""
        self.check_claim()
        (self.folder / "rows" / cell / f"{seed}.parquet").unlink(missing_ok=True)

    def write_rows(self, cell: str, seed: int, rows: pd.DataFrame) -> None:
        """Write a refit's rows: one per test image, `ROW_KEYS` and then metrics and costs."""
        missing = set(ROW_KEYS) - set(rows.columns)
        if missing:
            raise ValueError(f"rows lack {sorted(missing)}")
        self._write(f"rows/{cell}/{seed}.parquet", tables.to_bytes(rows))

    def rows(self) -> pd.DataFrame:
        """Read all rows but those of damaged files; an empty table before the first refit."""
        return tables.with_task(self._tables("rows", ROW_KEYS))

    def write_curve(self, cell: str, seed: int, validations: pd.DataFrame) -> None:
        """Write the validations of a network's refit: `bench.curves.COLUMNS` but `cell, seed`."""
        table = validations.assign(cell=cell, seed=seed)
        self._write(f"curves/{cell}/{seed}.parquet", tables.to_bytes(table))

    def curves(self) -> pd.DataFrame:
        """Read the validations of all refits of networks; runs of earlier versions have none."""
        return self._tables("curves", curves.COLUMNS)

    def write_trials(self, cell: str, trials: pd.DataFrame) -> None:
        """Write a cell's table of trials: `cell, trial, state, psnr, step, seconds, error`, the
        Ray node that ran it, and the configuration as JSON.
        """
        self._write(f"trials/{cell}.parquet", tables.to_bytes(trials))

    def count_trials(self, cell: str) -> int:
        """Count the trials in a cell's table."""
        try:
            with places.local_copy(self.folder / "trials" / f"{cell}.parquet") as file:
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
        places.make_folder(path.parent)
        return path

    # --- pictures, models, reports ---------------------------------------------------------

    def write_pictures(self, owner: str, **arrays: np.ndarray) -> None:
        """Write a cell's pictures (y, start, x_hat, error, ids), or a task's truth (x, ids)."""
        name = "truth" if set(arrays) == {"x", "ids"} else "pictures"
        archive = io.BytesIO()
        np.savez_compressed(archive, allow_pickle=False, **arrays)
        self._write(f"images/{owner}/{name}.npz", archive.getvalue())

    def read_pictures(self, owner: str) -> dict[str, np.ndarray]:
        """Read a cell's pictures, or a task's truth; empty if they are missing or damaged.

        Args:
            owner: the id of the cell or task.
        """
        names = ("pictures.npz", "truth.npz")
        paths = [self.folder / "images" / owner / name for name in names]
        found = next((path for path in paths if path.exists()), paths[0])
        return self._unless_damaged(found, run_files.arrays) or {}

    def write_worst(self, cell: str, **arrays: np.ndarray) -> None:
        """Write a cell's worst test images (x, x_hat, ids, psnr), the worst first."""
        archive = io.BytesIO()
        np.savez_compressed(archive, allow_pickle=False, **arrays)
        self._write(f"images/{cell}/worst.npz", archive.getvalue())

    def read_worst(self, cell: str) -> dict[str, np.ndarray]:
        """Read a cell's worst test images; empty if they are missing or damaged."""
        path = self.folder / "images" / cell / "worst.npz"
        return self._unless_damaged(path, run_files.arrays) or {}

    def write_model(
        self, cell: str, seed: int, recipe: Mapping[str, Any], weights: Mapping[str, "Tensor"]
    ) -> None:
        """Write a refit's weights, and the recipe that rebuilds the reconstructor around them."""
        from safetensors.torch import save  # late: whoever reads results does without PyTorch

        folder = f"models/{cell}/{seed}"
        content = b""
        if weights:
            whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            content = save(whole)
            self._write(f"{folder}/weights.safetensors", content)
        self._write(f"{folder}/recipe.json", run_files.sealed(recipe, content))

    def read_model(self, cell: str, seed: int) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
        """Read a refit's recipe and weights (empty for a method without).

        Raises:
            UserError: this cell has no such refit.
            DamagedError: recipe or weights have changed.
        """
        recipe = self.folder / "models" / cell / str(seed) / "recipe.json"
        try:
            return run_files.model(recipe)
        except FileNotFoundError:
            raise UserError(f"{recipe.parent}: no model of that cell and seed") from None

    def write_report(self, name: str, content: str | bytes) -> Place:
        """Write a file of the report folder and return its path."""
        whole = content.encode() if isinstance(content, str) else content
        self._write(f"report/{name}", whole)
        return self.folder / "report" / name

    # --- reading and writing -------------------------------------------------------------

    def _tables(self, kind: str, keys: Iterable[str]) -> pd.DataFrame:
        listed = listing.files(self.folder / kind).items()
        files = [(f"{kind}/{name}", *facts) for name, facts in listed if name.endswith(".parquet")]
        size = min(TOGETHER, len(files) // self._readers + 1)
        shares = [files[start : start + size] for start in range(0, len(files), size)]
        with ThreadPoolExecutor(self._readers) as readers:
            read = list(readers.map(self._share, shares))
        self.sources[kind] = [source for sources, _ in read for source in sources]
        return tables.joined([table for _, some in read for table in some], keys)

    def _share(self, files: list[tuple[str, int, int]]) -> tuple[list[Source], list[pa.Table]]:
        """Read some tables; return the `sources` that are intact, and their joined content."""
        sources, found = [], []
        for name, size, modified in files:
            if one := self._unless_damaged(self.folder / name, run_files.sealed_table):
                seal, table = one
                sources.append((name, size, modified, seal, len(table)))
                found.append(table)
        return sources, tables.compact(found)

    def _unless_damaged(self, path: Place, read: Callable[[Place], Content]) -> Content | None:
        """Read a file; None if it is missing, or damaged, which is then noted in `damaged`."""
        try:
            return read(path)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            if str(error) not in self.damaged:
                self.damaged.append(str(error))
            return None

    def _write(self, relative: str, content: bytes) -> None:
        self.check_claim()
        with places.atomic_write(self.folder / relative) as path:
            path.write_bytes(content)
