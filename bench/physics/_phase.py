"""A smooth random phase for magnitude images, such as coils, field and motion give to real ones."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex64
from torch import Tensor

from bench.seeds import derive_seed

ORDER = 3  # greatest number of half waves across the image, along both axes together
TURN = 1.0  # radians: standard deviation of the phase's change over the image


def smooth_phases(ids: Sequence[str], shape: tuple[int, int]) -> Complex64[Tensor, "b 1 h w"]:
    """Draw exp(i phase) for each image, with a seed made only of its id.

    The phase is a uniform angle plus products of cosines of few half waves along rows and columns,
    with normal weights that fall with their order, so that it does not depend on the resolution.
    """
    waves = [
        torch.cos(torch.pi * torch.arange(ORDER + 1)[:, None] * (torch.arange(n) + 0.5) / n)
        for n in shape
    ]
    orders = torch.arange(ORDER + 1)
    total = orders[:, None] + orders
    spread = torch.where((total > 0) & (total <= ORDER), 1 / total.clamp(min=1), 0.0)
    # The mean square of a cosine is 1/2, of a product of two 1/4.
    power = (spread.square() * torch.where((orders[:, None] > 0) & (orders > 0), 0.25, 0.5)).sum()
    phases = []
    for id_ in ids:
        generator = torch.Generator().manual_seed(derive_seed("phase", id_))
        weights = torch.randn(ORDER + 1, ORDER + 1, generator=generator) * spread
        angle = 2 * math.pi * torch.rand((), generator=generator)
        phases.append(angle + TURN * power**-0.5 * waves[0].T @ weights @ waves[1])
    values = torch.stack(phases)[:, None]
    return torch.polar(torch.ones_like(values), values)
