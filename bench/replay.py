"""Train best configurations of a run again, without Ray, and score them on the same test images."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import pandas as pd
import torch

from bench import data, training
from bench.cells import cells_of
from bench.data import Split
from bench.errors import UserError, unknown
from bench.scoring import physics_of, score_refit, training_seed
from bench.spec import Benchmark, Cell
from bench.store import Store


class Replayed(NamedTuple):
    """A refit trained again, with its mean PSNR over the test images, in dB."""

    cell: str
    seed: int
    before: float  # in the run
    now: float


def replay(
    store: Store, cell_ids: Sequence[str], seeds: Collection[int] = ()
) -> Iterator[Replayed]:
    """Train refits of cells again, one after the other.

    Args:
        store: the run.
        cell_ids: as in its rows.
        seeds: of the refits to replay, where a cell has them; none: all.

    Raises:
        UserError: the run has no such cell, or a cell is unfinished or damaged. Raised before
            the first refit.
    """
    spec = store.spec()
    known = {cell.id: cell for cell in cells_of(spec)}
    rows = store.rows()
    for cell_id in cell_ids:
        _check(store, cell_id, known, rows)
    split = data.split(
        data.load(spec.dataset), max(spec.n_train), spec.dataset.n_val, spec.dataset.n_test
    )
    for cell_id in cell_ids:
        stored = rows[rows["cell"] == cell_id]
        for seed in sorted(int(number) for number in stored["seed"].unique()):
            if not seeds or seed in seeds:
                before = float(stored.loc[stored["seed"] == seed, "psnr"].mean())
                now = _again(store, spec, known[cell_id], split, seed)
                yield Replayed(cell_id, seed, before, now)


def _check(store: Store, cell_id: str, known: dict[str, Cell], rows: pd.DataFrame) -> None:
    """Refuse a cell that cannot be replayed."""
    if cell_id not in known:
        raise unknown(f"cell of {store.folder}:", cell_id, known)
    for line in store.damaged:
        if f"rows/{cell_id}/" in line:
            raise UserError(f"{line}; rerun the run's command to compute it again")
    if not (rows["cell"] == cell_id).any():
        raise UserError(f"{store.folder}: {cell_id} has not finished yet")


def _again(store: Store, spec: Benchmark, cell: Cell, split: Split, seed: int) -> float:
    """Train one refit again and return its mean PSNR over the test images, in dB."""
    recipe, _ = store.read_model(cell.id, seed)
    torch.set_num_threads(recipe["threads"])  # another number changes the order of sums
    operator = physics_of(cell, spec, split.val)
    fit = training.fit(
        cell.method.name, recipe["config"], split.train.first(cell.n_train), split.val,
        operator, spec.budget, training_seed(cell, seed), precision=spec.precision,
        compile_network=spec.compile, microbatches=recipe.get("parts", 1),
        objective=spec.objective_metric,
    )  # fmt: skip
    scores, _ = score_refit(cell, seed, fit, operator, split.test)
    return float(scores["psnr"].mean())
