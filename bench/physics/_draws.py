"""Random draws of noise: image by image on the CPU, or for a batch at once on its device."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bench.seeds import derive_seed


class BatchNoise(Sequence[torch.Generator]):
    """The random numbers of a training batch, drawn at once on the device of the images.

    `standard_normal`, `uniform` and `poisson` take it in place of a generator for each image. To
    code that does not know of it, it is such a sequence: its items are generators on the CPU.

    Args:
        seed: all that it depends on.
        total: images in the batch.
        mine: those of this worker, of several that share the batch; their numbers are the same as
            in a batch of one worker.
    """

    def __init__(self, seed: int, total: int, mine: slice = slice(None)):
        self.seed, self.total, self.mine = seed, total, mine
        self._together: torch.Generator | None = None
        self._single: dict[tuple[int, str], torch.Generator] = {}

    def __len__(self) -> int:
        return len(range(self.total)[self.mine])

    def __getitem__(self, item: int) -> torch.Generator:  # type: ignore[override]
        return self.single(item, torch.device("cpu"))

    def together(self, device: torch.device) -> torch.Generator:
        """Return the generator of the whole batch."""
        if self._together is None:
            self._together = torch.Generator(device=device).manual_seed(self.seed)
        return self._together

    def single(self, item: int, device: torch.device) -> torch.Generator:
        """Return the generator of one image, where draws cannot be made for all at once.

        Raises:
            IndexError: there is no such image.
        """
        position = range(self.total)[self.mine][item]
        key = position, str(device)
        if key not in self._single:
            seed = derive_seed("image", self.seed, position)
            self._single[key] = torch.Generator(device=device).manual_seed(seed)
        return self._single[key]


Noise = Sequence[torch.Generator] | BatchNoise


def standard_normal(like: Shaped[Tensor, "b ..."], noise: Noise) -> Shaped[Tensor, "b ..."]:
    """Draw N(0, 1), for each image from its own generator on the CPU, or for a batch at once.

    For a complex measurement, the real and the imaginary part have variance 1 each.
    """
    shape = (*like.shape[1:], 2) if like.is_complex() else like.shape[1:]
    if isinstance(noise, BatchNoise):
        generator = noise.together(like.device)
        whole = torch.randn((noise.total, *shape), generator=generator, device=like.device)
        draws = whole[noise.mine]
    else:
        draws = torch.stack([torch.randn(shape, generator=generator) for generator in noise])
    return (torch.view_as_complex(draws) if like.is_complex() else draws).to(like)


def uniform(like: Float[Tensor, "b ..."], noise: Noise) -> Float[Tensor, "b ..."]:
    """Draw from [0, 1), as `standard_normal` does."""
    shape = like.shape[1:]
    if isinstance(noise, BatchNoise):
        generator = noise.together(like.device)
        whole = torch.rand((noise.total, *shape), generator=generator, device=like.device)
        return whole[noise.mine]
    return torch.stack([torch.rand(shape, generator=generator) for generator in noise]).to(like)


def poisson(rates: Float[Tensor, "b ..."], noise: Noise) -> Float[Tensor, "b ..."]:
    """Draw counts image by image, since the draws of one depend on the rates before it.

    Those of a training batch are drawn on its device, all others on the CPU.
    """
    if isinstance(noise, BatchNoise):
        noise = [noise.single(k, rates.device) for k in range(len(noise))]
    else:
        rates = rates.cpu()
    drawn = [torch.poisson(rate, draw) for rate, draw in zip(rates, noise, strict=True)]
    return torch.stack(drawn)
