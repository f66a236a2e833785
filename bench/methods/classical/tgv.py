"""Total generalised variation of second order: images are piecewise linear, not piecewise flat.

    argmin_{x, w} 1/2 |A x - y|^2 + lambda (|grad x - w|_{2,1} + ratio |E w|_{2,1}),

E the symmetrised derivative. Bredies, Kunisch and Pock, SIAM J. Imaging Sci. 3, 2010; for MRI:
Knoll et al., MRM 65, 2011. ADMM, x and w by turns (Guo, Qin and Yin, 2014).
"""

from typing import Annotated

import torch
from jaxtyping import Complex64, Shaped
from pydantic import Field
from torch import Tensor

from bench.methods.base import Classical
from bench.methods.classical._admm import (
    MOST_STEPS,
    TOLERANCE,
    Update,
    bounded,
    keep,
    natural_weight,
    penalty,
)
from bench.methods.classical._transforms import Gradient, length_of
from bench.physics import Physics
from bench.ranges import Weight


class TGV(Classical):
    """Second-order total generalised variation, for any physics.

    Args:
        weight: lambda, in units of the standard deviation that A^T n has at a pixel.
        ratio: weight of the second derivative against the first.
    """

    needs_linear = True

    def __init__(self, weight: Weight = 0.7, ratio: Annotated[float, Field(gt=0, le=1e3)] = 2.0):
        super().__init__()
        self.weight, self.ratio = weight, ratio

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct images whose edges and slopes are few."""
        b, transform = physics.A_adjoint(y), Gradient()
        strength = self.weight * natural_weight(physics, b)
        mu = penalty(strength, physics, b)
        update = Update(physics, transform, mu, b)
        first, second = strength / mu, self.ratio * strength / mu
        x = update(b, torch.zeros_like(b))
        w = torch.zeros_like(transform.analyse(x))
        u, s, v = torch.zeros_like(w), torch.zeros_like(_symmetrised(w)), torch.zeros_like(x)
        solve_w = _inverse_of_identity_plus_gram((b.shape[-2], b.shape[-1]), b.device)
        done = torch.zeros(len(b), dtype=torch.bool, device=b.device)
        for _ in range(MOST_STEPS):
            slope, bend = transform.analyse(x) - w, _symmetrised(w)
            p, q = _shorten(slope + u, first), _shorten(bend + s, second)
            u, s = u + slope - p, s + bend - q
            right = b + mu * transform.synthesise(p + w - u)
            if b.is_complex():
                right = right + mu * x
            else:
                z = (x + v).clamp(0, 1)
                v = v + x - z
                right = right + mu * (z - v)
            before, x = x, keep(done, x, update(right, x))
            w = _apply(solve_w, transform.analyse(x) - p + u + _symmetrised_adjoint(q - s))
            change = (x - before).flatten(1).norm(dim=1)
            gap = (p - slope).flatten(1).norm(dim=1)
            done |= torch.maximum(change, gap) <= TOLERANCE * x.flatten(1).norm(dim=1)
            if done.all():
                break
        return bounded(x)


def _shorten(vectors: Tensor, limit: float | Tensor) -> Tensor:
    return vectors * (1 - limit / length_of(vectors)).clamp(min=0)


def _symmetrised(w: Shaped[Tensor, "b 2 h w"]) -> Shaped[Tensor, "b 3 h w"]:
    """Return d1 w1, d2 w2 and (d2 w1 + d1 w2) / sqrt(2), forward differences."""
    down, right = w[:, :1], w[:, 1:]
    mixed = (right.roll(-1, -2) - right) + (down.roll(-1, -1) - down)
    return torch.cat([down.roll(-1, -2) - down, right.roll(-1, -1) - right, mixed * 0.5**0.5], 1)


def _symmetrised_adjoint(e: Shaped[Tensor, "b 3 h w"]) -> Shaped[Tensor, "b 2 h w"]:
    """Apply the adjoint of `_symmetrised`."""
    first, second, mixed = e[:, :1], e[:, 1:2], e[:, 2:] * 0.5**0.5
    down = (first.roll(1, -2) - first) + (mixed.roll(1, -1) - mixed)
    right = (second.roll(1, -1) - second) + (mixed.roll(1, -2) - mixed)
    return torch.cat([down, right], 1)


def _inverse_of_identity_plus_gram(
    shape: tuple[int, int], device: torch.device
) -> Complex64[Tensor, "2 2 h w"]:
    """Invert 1 + E^T E, a 2x2 matrix at each frequency."""
    rows, columns = (torch.exp(2j * torch.pi * torch.fft.fftfreq(n).double()) - 1 for n in shape)
    one, two = rows[:, None].expand(shape), columns.expand(shape)
    a = 1 + one.abs() ** 2 + two.abs() ** 2 / 2
    c = 1 + two.abs() ** 2 + one.abs() ** 2 / 2
    b = two.conj() * one / 2
    determinant = a * c - b.abs() ** 2
    inverse = torch.stack([torch.stack([c + 0j, -b]), torch.stack([-b.conj(), a + 0j])])
    return (inverse / determinant).to(device, torch.complex64)


def _apply(matrix: Complex64[Tensor, "2 2 h w"], w: Shaped[Tensor, "b 2 h w"]) -> Tensor:
    spectrum = torch.fft.fft2(w)
    first = matrix[0, 0] * spectrum[:, 0] + matrix[0, 1] * spectrum[:, 1]
    second = matrix[1, 0] * spectrum[:, 0] + matrix[1, 1] * spectrum[:, 1]
    solved = torch.fft.ifft2(torch.stack([first, second], 1))
    return solved if w.is_complex() else solved.real
