"""Train a cell's best configuration again, without Ray, and score it on the same test images."""

from collections.abc import Collection, Iterator

import torch

from bench import data, training
from bench.cells import cells_of
from bench.errors import UserError, unknown
from bench.scoring import physics_of, score_refit, training_seed
from bench.store import Store


def replay(
    store: Store, cell_id: str, seeds: Collection[int] = ()
) -> Iterator[tuple[int, float, float]]:
    """Yield (seed, PSNR in the run, PSNR now) for each refit of a cell.

    Args:
        store: the run.
        cell_id: as in its rows.
        seeds: of the refits to replay, if the cell has them; none: all.

    Raises:
        UserError: the run has no such cell or no refit of it.
    """
    spec = store.spec()
    found = {cell.id: cell for cell in cells_of(spec)}
    if cell_id not in found:
        raise unknown(f"cell of {store.folder}:", cell_id, found)
    cell = found[cell_id]
    rows = store.rows()
    rows = rows[rows["cell"] == cell_id]
    for line in store.damaged:
        if f"rows/{cell_id}/" in line:
            raise UserError(f"{line}; rerun the run's command to compute it again")
    if rows.empty:
        raise UserError(f"{store.folder}: {cell_id} has not finished yet")
    split = data.split(
        data.load(spec.dataset), max(spec.n_train), spec.dataset.n_val, spec.dataset.n_test
    )
    known = {int(seed) for seed in rows["seed"].unique()}
    for seed in sorted(known & set(seeds) if seeds else known):
        before = rows.loc[rows["seed"] == seed, "psnr"].mean()
        recipe, _ = store.read_model(cell_id, seed)
        torch.set_num_threads(recipe["threads"])  # another number changes the order of sums
        operator = physics_of(cell, spec, split.val)
        fit = training.fit(
            cell.method.name, recipe["config"], split.train.first(cell.n_train), split.val,
            operator, spec.budget, training_seed(cell, seed), precision=spec.precision,
            compile_network=spec.compile, microbatches=recipe.get("parts", 1),
            objective=spec.objective_metric,
        )  # fmt: skip
        now, _ = score_refit(cell, seed, fit, operator, split.test)
        yield seed, float(before), float(now["psnr"].mean())
