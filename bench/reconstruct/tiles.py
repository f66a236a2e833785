"""Images in overlapping tiles, blended so that no seam is seen."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

# Shares of the overlap of two tiles: at the edge of a tile, where it does not see its surroundings,
# it counts for nothing; from there on its weight rises.
MARGIN = 0.25


def tiled(
    function: Callable[[Float[Tensor, "b 1 t t"]], Float[Tensor, "b 1 ft ft"]],
    y: Float[Tensor, "b 1 h w"],
    tile: int,
    overlap: int,
) -> Float[Tensor, "b 1 fh fw"]:
    """Apply a function to square tiles and blend its results.

    An image that is smaller than a tile is extended by its edge pixels.

    Args:
        function: maps a tile to its reconstruction, which may have more pixels.
        y: images.
        tile: side of a tile in pixels of y.
        overlap: of neighbouring tiles, at least; less than half a tile.
    """
    height, width = y.shape[-2:]
    y = pad(y, (0, max(0, tile - width), 0, max(0, tile - height)), mode="replicate")
    total: Tensor | None = None
    for top in _starts(y.shape[-2], tile, overlap):
        for left in _starts(y.shape[-1], tile, overlap):
            found = function(y[..., top : top + tile, left : left + tile])
            factor = found.shape[-1] // tile
            if total is None:
                shape = (*found.shape[:2], factor * y.shape[-2], factor * y.shape[-1])
                total, weight = found.new_zeros(shape), found.new_zeros(shape[-2:])
            rows, columns = (
                _ramps(factor * tile, factor * overlap, start > 0, start + tile < side).to(found)
                for start, side in ((top, y.shape[-2]), (left, y.shape[-1]))
            )
            window = rows[:, None] * columns
            where = (
                slice(factor * top, factor * (top + tile)),
                slice(factor * left, factor * (left + tile)),
            )
            total[..., where[0], where[1]] += window * found
            weight[where] += window
    assert total is not None
    return (total / weight)[..., : factor * height, : factor * width]


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Place tiles evenly along a side, from its beginning to its end."""
    if side <= tile:
        return [0]
    count = -(-(side - overlap) // (tile - overlap))
    return [round(k * (side - tile) / (count - 1)) for k in range(count)]


def _ramps(tile: int, overlap: int, before: bool, after: bool) -> Float[Tensor, " tile"]:
    """Return the weights along a tile: they rise and fall where it has a neighbour."""
    margin = int(MARGIN * overlap)
    rising = ((torch.arange(tile) + 0.5 - margin) / max(1, overlap - 2 * margin)).clamp(0, 1)
    weights = torch.ones(tile)
    if before:
        weights = torch.minimum(weights, rising)
    if after:
        weights = torch.minimum(weights, rising.flip(0))
    return weights
