"""A smooth random phase for magnitude images, such as coils, field and motion give to real ones."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex64, Float
from torch import Tensor

from bench.physics._draws import BatchNoise, standard_normal, uniform
from bench.seeds import derive_seed

ORDER = 3  # greatest number of half waves across the image, along both axes together
TURN = 1.0  # radians: standard deviation of the phase's change over the image


def smooth_phases(ids: Sequence[str], shape: tuple[int, int]) -> Complex64[Tensor, "b 1 h w"]:
    """Draw exp(i phase) for each image, with a seed made only of its id.

    The phase is a uniform angle plus products of cosines of few half waves along rows and columns,
    with normal weights that fall with their order, so that it does not depend on the resolution.
    """
    phases = []
    for id_ in ids:
        generator = torch.Generator().manual_seed(derive_seed("phase", id_))
        weights = torch.randn(ORDER + 1, ORDER + 1, generator=generator)
        phases.append(_phase(weights, torch.rand((), generator=generator), shape))
    return _turned(torch.stack(phases)[:, None])


def drawn_phases(like: Float[Tensor, "b 1 h w"], noise: BatchNoise) -> Complex64[Tensor, "b 1 h w"]:
    """Draw such phases for a training batch, on its device."""
    few = like.new_empty(len(like), ORDER + 1, ORDER + 1)
    weights, angle = standard_normal(few, noise), uniform(few[:, :1, :1], noise)
    return _turned(_phase(weights, angle, (like.shape[-2], like.shape[-1]))[:, None])


def _phase(
    weights: Float[Tensor, "*b k k"], turn: Float[Tensor, "..."], shape: tuple[int, int]
) -> Float[Tensor, "*b h w"]:
    """Compute phases from their random numbers; `turn` is that of the angle, in [0, 1)."""
    device = weights.device
    orders = torch.arange(ORDER + 1, device=device)
    rows, columns = (
        torch.cos(torch.pi * orders[:, None] * (torch.arange(n, device=device) + 0.5) / n)
        for n in shape
    )
    total = orders[:, None] + orders
    spread = torch.where((total > 0) & (total <= ORDER), 1 / total.clamp(min=1), 0.0)
    # The mean square of a cosine is 1/2, of a product of two 1/4.
    power = (spread.square() * torch.where((orders[:, None] > 0) & (orders > 0), 0.25, 0.5)).sum()
    angle = 2 * math.pi * turn
    return angle + TURN * power**-0.5 * rows.T @ (weights * spread) @ columns


def _turned(phases: Float[Tensor, "b 1 h w"]) -> Complex64[Tensor, "b 1 h w"]:
    return torch.polar(torch.ones_like(phases), phases)
