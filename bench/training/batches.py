"""The batches of a training run: each depends only on the seed and the number of its step."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench.data import ImageSet
from bench.data.augment import augment, mirror, mirrored
from bench.data.measurement import Measured
from bench.methods import Reconstructor
from bench.physics import BatchNoise, Physics
from bench.seeds import derive_seed
from bench.training.recipe import Recipe

RESIDENT = 2**30  # bytes of training images that are kept on the device, not moved batch by batch


@dataclass(frozen=True)
class Batch:
    """Training images as a network sees them.

    Attributes:
        x: images, magnitude in [0, 1].
        y: their measurements.
        physics: the operator of these images.
        estimate: what `Reconstructor.estimate` made of these; None if there is nothing.
    """

    x: Float[Tensor, "b 1 h w"]
    y: Shaped[Tensor, "b ..."]
    physics: Physics
    estimate: Shaped[Tensor, "b ..."] | None = None

    def part(self, where: slice) -> "Batch":
        """Take some of the images."""
        first = None if self.estimate is None else self.estimate[where]
        return Batch(self.x[where], self.y[where], self.physics.part(where), first)

    def reconstruct(self, network: nn.Module) -> Float[Tensor, "b 1 h w"]:
        """Call a network on the measurements."""
        if self.estimate is None:
            return network(self.y, self.physics)
        return network(self.y, self.physics, self.estimate)


Drawn = dict[tuple[int, int], Batch]  # of single images, by position and number of the draw


@torch.no_grad()
def estimate(network: nn.Module, y: Shaped[Tensor, "b ..."], physics: Physics) -> Tensor | None:
    """Compute what a network begins with; None for one that says nothing of it."""
    if not isinstance(network, Reconstructor):
        return None
    return network.estimate(y, physics)


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
    network: nn.Module | None = None,
    drawn: Drawn | None = None,
) -> Iterator[Batch]:
    """Yield batches, augmented and measured, for one step after another, without end.

    Args:
        train: training images.
        physics: measures them.
        recipe: how they are augmented, and how many draws of each are kept.
        size: number of images in a batch.
        seed: with the number of the step, all that a batch depends on.
        device: of the result.
        after: number of steps to skip at the beginning.
        rank: of this worker among those that share each batch.
        workers: number of workers that share each batch.
        network: computes the estimates in the batches; default: none.
        drawn: the draws so far, for several calls that share them; see `Recipe.draws`.
    """
    order = _order(len(train), size, seed)
    drawn = {} if drawn is None else drawn
    mine = slice(rank, None, workers)
    images = as_tensor(train)
    if images.nbytes <= RESIDENT:
        images = images.to(device)

    def examples(some: Examples, ids: Sequence[str], noise: BatchNoise | None = None) -> Batch:
        operator = physics if some.measured is None else physics.bind(some.measured)
        if noise is None:
            y = operator.measure(some.x, ids)
        else:
            y = operator.measure_batch(some.x, ids, noise)
        return Batch(
            some.x, y, operator, None if network is None else estimate(network, y, operator)
        )

    for step, batch in enumerate(itertools.islice(order, after, None), after + 1):
        if recipe.draws:
            chosen = [(i, epoch % recipe.draws) for epoch, i in batch[mine]]
            new = list(dict.fromkeys(key for key in chosen if key not in drawn))
            if new:
                each = [
                    _augmented(
                        train, images[[i]].to(device), physics, recipe, [i],
                        derive_seed("augment", train.ids[i], draw),
                    )
                    for i, draw in new
                ]  # fmt: skip
                made = examples(Examples.of(each), [f"{train.ids[i]}@draw {n}" for i, n in new])
                drawn.update((key, made.part(slice(n, n + 1))) for n, key in enumerate(new))
            yield _joined([drawn[key] for key in chosen])
            continue
        indices = [i for _, i in batch]
        # Augmented as a whole batch, so that several workers see the same images as a single one.
        chosen_seed = derive_seed("augment", seed, step)
        x = images[torch.tensor(indices).to(images.device)].to(device)
        some = _augmented(train, x, physics, recipe, indices, chosen_seed, mine)
        ids = [f"{train.ids[i]}@{seed}.{step}.{k}" for k, i in enumerate(indices)]
        noise = BatchNoise(derive_seed("batch noise", seed, step), len(indices), mine)
        yield examples(some, ids[mine], noise)


@dataclass(frozen=True)
class Examples:
    """Augmented images, with what was measured of them, if the dataset brings it."""

    x: Float[Tensor, "b 1 h w"]
    measured: Measured | None

    @classmethod
    def of(cls, parts: Sequence["Examples"]) -> "Examples":
        """Join some of them."""
        measured = [part.measured for part in parts if part.measured is not None]
        joined = Measured.joined(measured) if measured else None
        return cls(torch.cat([part.x for part in parts]), joined)


def _augmented(
    train: ImageSet,
    x: Float[Tensor, "b 1 h w"],
    physics: Physics,
    recipe: Recipe,
    indices: list[int],
    seed: int,
    mine: slice = slice(None),
) -> Examples:
    """Augment the images at some positions; what was measured of them is only mirrored."""
    if train.measured is None or not physics.takes(train.measured.kind):
        return Examples(augment(x, recipe.augment, seed)[mine], None)
    which = mirrored(len(x), recipe.augment, seed)
    measured = train.measured.take(indices[mine]).mirrored(which[mine])
    return Examples(mirror(x, which)[mine], measured)


def _joined(parts: Sequence[Batch]) -> Batch:
    estimates = [part.estimate for part in parts if part.estimate is not None]
    measured = [part.physics.measured for part in parts if part.physics.measured is not None]
    operator = parts[0].physics
    return Batch(
        torch.cat([part.x for part in parts]),
        torch.cat([part.y for part in parts]),
        operator.bind(Measured.joined(measured)) if measured else operator,
        torch.cat(estimates) if estimates else None,
    )


def _order(count: int, size: int, seed: int) -> Iterator[list[tuple[int, int]]]:
    """Yield batches of (epoch, index of an image) without end, from shuffled epochs."""
    pending: list[tuple[int, int]] = []
    epoch = 0
    while True:
        while len(pending) < size:
            order = np.random.default_rng(derive_seed("order", seed, epoch))
            pending += [(epoch, i) for i in order.permutation(count).tolist()]
            epoch += 1
        yield pending[:size]
        pending = pending[size:]


def as_tensor(images: ImageSet) -> Float[Tensor, "n 1 h w"]:
    """Return images as a tensor that must not be written to: its memory may be shared."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images.images)
