"""The batches of a training run: each depends only on the seed and the number of its step."""

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
    """Yield (x, y), augmented and measured, for one step after another, without end.

    Args:
        train: training images.
        physics: measures them, with new noise at each step.
        recipe: how they are augmented.
        size: number of images in a batch.
        seed: with the number of the step, all that a batch depends on.
        device: of the result.
        after: number of steps to skip at the beginning.
        rank: of this worker among those that share each batch.
        workers: number of workers that share each batch.
    """
    images = as_tensor(train)
    order = _order(len(train), size, seed)
    for step, batch in enumerate(itertools.islice(order, after, None), after + 1):
        mine = slice(rank, None, workers)
        # Augmented as a whole batch, so that several workers see the same images as a single one.
        x = images[batch].to(device)  # a batch at a time, to save GPU memory
        x = augment(x, recipe.augment, derive_seed("augment", seed, step))[mine]
        ids = [f"{train.ids[i]}@{seed}.{step}.{k}" for k, i in enumerate(batch)]
        yield x, physics.measure(x, ids[mine])


def _order(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of image indices without end, from shuffled epochs, one after another."""
    pending: list[int] = []
    epoch = 0
    while True:
        while len(pending) < size:
            order = np.random.default_rng(derive_seed("order", seed, epoch))
            pending += order.permutation(count).tolist()
            epoch += 1
        yield pending[:size]
        pending = pending[size:]


def as_tensor(images: ImageSet) -> Float[Tensor, "n 1 h w"]:
    """Return images as a tensor that must not be written to: its memory may be shared."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images.images)
