"""The batches of a training run: drawn, augmented and measured, each by its number alone."""

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bench.data import ImageSet
from bench.data.augment import augment
from bench.physics import Physics
from bench.seeds import derive_seed
from bench.training.recipe import Recipe


def batches(
    train: ImageSet,
    physics: Physics,
    recipe: Recipe,
    size: int,
    seed: int,
    device: torch.device,
    *,
    after: int = 0,
    rank: int = 0,
    workers: int = 1,
) -> Iterator[tuple[Float[Tensor, "b 1 h w"], Shaped[Tensor, "b ..."]]]:
    """Yield (x, y), augmented and measured, one step after another, without end.

    Args:
        train: images.
        physics: what measures them, with fresh noise at each step: a simulated degradation can be
            drawn as often as wanted.
        recipe: how they are augmented.
        size: of a batch.
        seed: with the number of the step, all that a batch depends on.
        device: of the result.
        after: steps to leave out at the beginning.
        rank: this worker's place among those that share each batch.
        workers: their number.
    """
    images = as_tensor(train)
    order = _order(len(train), size, seed)
    for step, batch in enumerate(itertools.islice(order, after, None), after + 1):
        mine = slice(rank, None, workers)
        # Drawn for the whole batch, so that several workers see what one would.
        x = images[batch].to(device)  # a batch at a time: trials that share a GPU share its memory
        x = augment(x, recipe.augment, derive_seed("augment", seed, step))[mine]
        ids = [f"{train.ids[i]}@{seed}.{step}.{place}" for place, i in enumerate(batch)]
        yield x, physics.measure(x, ids[mine])


def _order(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of positions without end: shuffled passes over the data, end to end."""
    waiting: list[int] = []
    epoch = 0
    while True:
        while len(waiting) < size:
            order = np.random.default_rng(derive_seed("order", seed, epoch))
            waiting += order.permutation(count).tolist()
            epoch += 1
        yield waiting[:size]
        waiting = waiting[size:]


def as_tensor(images: ImageSet) -> Float[Tensor, "n 1 h w"]:
    """See images as a tensor, not to be written to: they may lie in memory that others share."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images.images)
