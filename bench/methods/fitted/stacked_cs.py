"""Stacked compressed sensing: filters, fitted in closed form, that correct the result of TV.

A linear filter of small patches (of several TV solutions, of `A_dagger(y)`, and of the update of
the TV solution by the measurement) predicts the error of the TV solution. There is one filter for
each of nine contexts, which a pixel's surroundings decide: how steep the image is, and how far the
TV solutions disagree. Filters by least squares for classes of pixels: RAISR (Romano, Isidoro and
Milanfar, IEEE TCI 3, 2017). Stacking: Wolpert, Neural Networks 5, 1992.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, pad, unfold

from bench.methods.base import Fitted
from bench.methods.classical._transforms import Gradient
from bench.methods.compressed_sensing import CompressedSensing, tv_solution
from bench.physics import Physics
from bench.physics._solvers import regularised_inverse
from bench.ranges import Odd, Relative

SPREAD = 2.0  # of the weights of the further TV solutions, either way
LEVELS = 3  # of steepness, and of disagreement within each
CHANNELS = 5
WINDOW = 5  # pixels over which both are averaged
ENOUGH, COPIES = 100, 8  # images: fewer are turned and mirrored, at most so often
SEEN = 32  # images from which the limits of the contexts are taken
PRECISE = 3e-4  # relative change at which the TV solutions stop
PIXELS = 2**16  # processed at once


class StackedCS(Fitted):
    """Filters that correct compressed sensing, fitted to the training images in seconds.

    Args:
        patch: side of the patches in pixels.
        ridge: weight of the squared norm of the filters, relative to the mean power of what they
            are applied to.
        shrinkage: weight that pulls the filter of a context to that of all contexts together, in
            the same units.
    """

    needs_linear = True
    real_images_only = True
    steepness: Tensor
    disagreement: Tensor

    def __init__(self, patch: Odd = 5, ridge: Relative = 1e-4, shrinkage: Relative = 1e-3):
        super().__init__()
        self.patch, self.ridge, self.shrinkage = patch, ridge, shrinkage
        self.tv = CompressedSensing()
        filters = torch.zeros(LEVELS**2, CHANNELS, patch, patch)
        self.filters = nn.Parameter(filters, requires_grad=False)
        self.register_buffer("steepness", torch.zeros(LEVELS - 1))
        self.register_buffer("disagreement", torch.zeros(LEVELS, LEVELS - 1))

    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Choose the contexts, then solve the normal equations of their filters."""
        self.tv.prepare(images, physics, ids)
        few = max(1, PIXELS // images[0].numel())

        def parts() -> Iterator[tuple[Tensor, Tensor]]:
            """Yield images and their channels, a few at a time."""
            # What a scanner measured is taken as it is.
            x, names = copies(images, ids) if physics.measured is None else (images, list(ids))
            for begin in range(0, len(x), few):
                part = slice(begin, begin + few)
                truth = x[part].to(self.filters.device)
                operator = physics.part(part)
                yield truth, self.channels(operator.measure(truth, names[part]), operator)

        seen = itertools.islice(parts(), -(-SEEN // few))
        self._set_limits(torch.cat([signs(channels) for _, channels in seen]))
        size = self.filters[0].numel()
        gram = self.filters.new_zeros(LEVELS**2, size, size, dtype=torch.float64)
        right = gram.new_zeros(LEVELS**2, size)
        for truth, channels in parts():
            columns = unfold(self._padded(channels), self.patch).transpose(1, 2).flatten(0, 1)
            error = (truth - channels[:, :1]).flatten()
            context = self.contexts(channels).flatten()
            for number in range(LEVELS**2):
                mine = columns[context == number]
                gram[number] += (mine.T @ mine).double()
                right[number] += (mine.T @ error[context == number]).double()
        self.filters.copy_(self._solved(gram, right).view_as(self.filters))

    def _set_limits(self, seen: Float[Tensor, "n 2 h w"]) -> None:
        """Divide pixels into contexts of about equal numbers."""
        ranks = torch.arange(1, LEVELS, device=seen.device) / LEVELS
        steep, disagreeing = (sign.flatten() for sign in seen.unbind(1))
        self.steepness.copy_(steep.sort().values[(ranks * (len(steep) - 1)).long()])
        levels = torch.bucketize(steep, self.steepness)
        for level in range(LEVELS):
            mine = disagreeing[levels == level].sort().values
            if len(mine):  # an image may be flat nearly everywhere
                self.disagreement[level] = mine[(ranks * (len(mine) - 1)).long()]

    def _solved(
        self, gram: Float64[Tensor, "k d d"], right: Float64[Tensor, "k d"]
    ) -> Float[Tensor, "k d"]:
        """Solve for the filters of all contexts, each shrunk to their common one."""
        identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        total = gram.sum(0)
        power = total.diagonal().mean().clamp(min=1e-12)
        common = torch.linalg.solve(total + self.ridge * power * identity, right.sum(0))
        own = gram + self.shrinkage * power / len(gram) * identity
        return (common + torch.linalg.solve(own, right - gram @ common)).float()

    @torch.no_grad()
    def channels(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 5 h w"]:
        """Return x_tv; less x_tv: two other TV solutions, A_dagger(y); its update by y."""
        best = float(self.tv.weight)
        weights = (best, best / SPREAD, best * SPREAD)
        # Solved well, so that contexts do not depend on when the rest of a batch has converged.
        x, finer, coarser = (tv_solution(y, physics, weight, PRECISE) for weight in weights)
        residual = physics.A_adjoint(y) - physics.A_normal(x)
        update = regularised_inverse(physics, residual, self.tv.data_weight(physics))
        return torch.cat([x, finer - x, coarser - x, physics.A_dagger(y) - x, update], dim=1)

    def contexts(self, channels: Float[Tensor, "b 5 h w"]) -> Int64[Tensor, "b 1 h w"]:
        """Return the number of each pixel's context."""
        steep, disagreeing = signs(channels).split(1, dim=1)
        level = torch.bucketize(steep.contiguous(), self.steepness)
        within = (disagreeing[..., None] > self.disagreement[level]).sum(-1)
        return level * LEVELS + within

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct; the result is clipped to [0, 1], the images' range."""
        channels = self.channels(y, physics)
        corrections = conv2d(self._padded(channels), self.filters)
        correction = corrections.gather(1, self.contexts(channels))
        return (channels[:, :1] + correction).clamp(0, 1)

    def _padded(self, channels: Float[Tensor, "b 5 h w"]) -> Float[Tensor, "b 5 h2 w2"]:
        return pad(channels, [self.patch // 2] * 4, mode="replicate")


def signs(channels: Float[Tensor, "b 5 h w"]) -> Float[Tensor, "b 2 h w"]:
    """Return what decides the context: the steepness of x_tv, and how far TV solutions disagree."""
    gradient = Gradient().analyse(channels[:, :1]).square().sum(1, keepdim=True)
    disagreement = (channels[:, 1:2] - channels[:, 2:3]).abs()
    both = pad(torch.cat([gradient, disagreement], dim=1), [WINDOW // 2] * 4, mode="replicate")
    return avg_pool2d(both, WINDOW, stride=1)


def copies(
    images: Float[Tensor, "n 1 h w"], ids: Sequence[str]
) -> tuple[Float[Tensor, "m 1 h w"], list[str]]:
    """Mirror and turn images where they are few; each copy has an id, and noise, of its own."""
    square = images.shape[-1] == images.shape[-2]
    count = min(COPIES if square else COPIES // 2, -(-ENOUGH // len(images)))
    made = []
    for number in range(count):
        copy = images.flip(-1) if number & 1 else images
        copy = copy.flip(-2) if number & 2 else copy
        made.append(copy.transpose(-1, -2) if number & 4 else copy)
    names = [f"{id_}/copy {number}" for number in range(count) for id_ in ids]
    return torch.cat(made), names
