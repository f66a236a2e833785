"""A run folder from Python: its leaderboard, rows, trials, pictures and models."""

import html
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.errors import UserError, unknown
from bench.spec import Benchmark
from bench.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from bench.model import Model
    from bench.recommend import Recommendation
    from bench.report.leaderboard import Leaderboard

BEST = "best"  # in place of a method's label: the first of its task


class Run:
    """A run folder, finished or not.

    Args:
        folder: a path or an address (`s3://`, `gs://`).

    Raises:
        UserError: the folder holds no run.
    """

    def __init__(self, folder: str | Path):
        self._store = Store(folder)
        self.spec: Benchmark = self._store.spec()

    @property
    def folder(self) -> str:
        """The path or address of the run folder."""
        return str(self._store.folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run has noted of itself: versions, hardware, times, the audit of its images."""
        return self._store.manifest()

    @property
    def leaderboard(self) -> pd.DataFrame:
        """One line for each cell with results, ranked within its task, with 95 % intervals."""
        return self.board.table

    @property
    def board(self) -> "Leaderboard":
        """The leaderboard with what the report says about it."""
        from bench.report.leaderboard import of_store

        return of_store(self._store, self.rows, self.trials)

    @property
    def rows(self) -> pd.DataFrame:
        """One line for each test image and refit: its metrics under every convention."""
        return self._store.rows()

    @property
    def trials(self) -> pd.DataFrame:
        """One line for each configuration that was tried."""
        return self._store.trials()

    @property
    def cells(self) -> pd.DataFrame:
        """The cells that have results: `task, degradation, level, n_train, method`, by id."""
        keys = ["cell", "task", "degradation", "level", "n_train", "method"]
        return self.rows.reindex(columns=keys).drop_duplicates("cell").set_index("cell")

    def recommend(
        self,
        level: float | None = None,
        *,
        degradation: str | None = None,
        n_train: int | None = None,
        max_ms: float | None = None,
        max_parameters: float | None = None,
        max_train_seconds: float | None = None,
    ) -> "Recommendation":
        """Recommend a method by the run's objective; see `bench.recommend.recommend`.

        Args:
            level: may lie between levels of the run; may be left out if it has only one.
            degradation: its label; may be left out if the run has only one.
            n_train: number of training images at hand.
            max_ms: the most milliseconds that an image may take: by `reconbench timing` if the
                run has its times, else by rough times, measured while other trials ran.
            max_parameters: the most parameters that a network may have.
            max_train_seconds: the most seconds that a training may take; these times are rough.

        Raises:
            UserError: nothing can be said; states why.
        """
        from bench import curves, recommend, score_columns, timing_table

        limits = {"infer_ms": max_ms, "parameters": max_parameters,
                  "train_seconds": max_train_seconds}  # fmt: skip
        gains = curves.gains(self._store.curves())
        columns = score_columns.of_run(self._store.manifest())
        return recommend.recommend(
            self.rows,
            level,
            degradation=degradation,
            n_train=n_train,
            limits={name: most for name, most in limits.items() if most is not None},
            objective=columns.get(self.spec.objective, columns["psnr"]),
            rising=set(gains.index[gains["rising"].astype(bool)]),
            timing=timing_table.read(self._store.folder),
        )

    def pictures(self, method: str, **which: object) -> dict[str, np.ndarray]:
        """Return the pictures of a few test images that a cell has stored.

        Args:
            method: its label, the id of a cell, or `best`; see `cell`.
            which: see `model`.

        Returns:
            `x` (ground truth), `x_hat`, `error` (absolute) and `start` (`A_dagger(y)`), each
            (n, 1, h, w); `y`, the measurements; and the `ids` of the images.
        """
        cell = self.cell(method, **which)
        task = str(self.cells.loc[cell, "task"])
        return {**self._store.read_pictures(task), **self._store.read_pictures(cell)}

    def cell(self, method: str, **which: object) -> str:
        """Find the id of the one cell with results that matches.

        Args:
            method: its label, or the id of a cell; or `best`: the first of its task on the
                leaderboard. With `n_train`, methods that need no training images count too.
            which: `level`, `n_train`, `degradation`, `task`; as many as identify one cell, or the
                task.

        Raises:
            UserError: no cell or several; names them.
        """
        cells = self.cells
        if method in cells.index:
            return method
        if method not in {*cells["method"], BEST}:
            raise unknown(f"method of {self.folder}:", method, {*cells["method"], BEST})
        best = method == BEST and BEST not in set(cells["method"])
        found = cells if best else cells[cells["method"] == method]
        for key, value in which.items():
            if key not in found.columns:
                raise unknown("key of a cell:", key, found.columns)
            kept = found[key] == value
            found = found[kept | (found[key] == 0) if best and key == "n_train" else kept]
        if best:
            return self._best(found, which)
        if len(found) != 1:
            asked = ", ".join([method, *(f"{key}={value}" for key, value in which.items())])
            every = found if len(found) else cells[cells["method"] == method]
            raise UserError(
                f"{self.folder}: {len(found)} cells are {asked}; choose one by level, n_train or "
                f"degradation, or by its id: {', '.join(every.index)}"
            )
        return str(found.index[0])

    def _best(self, found: pd.DataFrame, which: Mapping[str, object]) -> str:
        """Return the first of these cells on the leaderboard that has a model."""
        tasks = sorted(set(found["task"]))
        if len(tasks) != 1:
            asked = ", ".join(f"{key}={value}" for key, value in which.items())
            raise UserError(
                f"{self.folder}: {len(tasks)} tasks are {asked or 'in the run'}; choose one by "
                f"degradation, level or task: {', '.join(tasks or sorted(set(self.cells['task'])))}"
            )
        lines = self.board.lines
        ours = lines[lines["cell"].isin(found.index) & (lines["kind"] != "external")]
        if ours.empty:
            raise UserError(f"{self.folder}: no method of {tasks[0]} has a model")
        return str(ours["cell"].iloc[0])

    def seeds(self, cell: str) -> list[int]:
        """List the seeds of a cell's refits."""
        rows = self.rows
        return sorted(int(seed) for seed in rows.loc[rows["cell"] == cell, "seed"].unique())

    def refit(self, cell: str, seed: int) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
        """Read what rebuilds a refit: its recipe, and its weights, which are never unpickled.

        Raises:
            UserError: no such refit, or a damaged file.
        """
        return self._store.read_model(cell, seed)

    def model(self, method: str, *, seed: int = 0, **which: object) -> "Model":
        """Load the refit of a cell, ready to reconstruct.

        The package of a user's method is imported.

        Args:
            method: its label, the id of a cell, or `best`; see `cell`.
            seed: of the refit.
            which: `level`, `n_train`, `degradation`, `task`; as many as identify one cell.

        Raises:
            UserError: no cell or several; no such refit; a damaged file.
        """
        from bench import scoring
        from bench.model import Model

        recipe, weights = self.refit(self.cell(method, **which), seed)
        reconstructor, physics, exact = scoring.rebuild(recipe, weights)
        if not exact:
            warnings.warn(
                "the run does not record the noise level of its images: methods that need it use "
                "that of a phantom",
                stacklevel=2,
            )
        return Model(reconstructor, physics)

    def _repr_html_(self) -> str:
        """Show the leaderboard as the report does, with its sentences."""
        from bench.report import texts

        board = self.board
        headings = list(texts.shown(board).values())
        return "".join(
            [
                *(f"<p>{html.escape(sentence)}</p>" for sentence in board.findings),
                *(
                    f"<h4>{html.escape(task['title'])}</h4>"
                    + pd.DataFrame(task["lines"], columns=headings).to_html(index=False)
                    for task in texts.tasks(board)
                ),
            ]
        )

    def __repr__(self) -> str:
        return f"Run({self.folder!r}: {len(self.cells)} cells with results)"


def open_run(folder: str | Path) -> Run:
    """Open a run folder, finished or not.

    Raises:
        UserError: the folder holds no run.

    >>> open_run("results/nowhere").leaderboard
    Traceback (most recent call last):
    bench.errors.UserError: results/nowhere: holds no run (no spec.yaml)
    """
    return Run(folder)
