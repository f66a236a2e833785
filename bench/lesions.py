"""Do methods show a small lesion, and do they draw lesions where there are none?

A disc of known contrast and size is added to each test image before it is measured. Both images,
with and without the disc, get the same noise, so that the difference of their reconstructions is
what the method makes of the disc. For a linear method this does not depend on the rest of the
image; a network may erase a small lesion although it scores well.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from bench import data, scoring, training
from bench.cells import cells_of, finished
from bench.data import ImageSet
from bench.errors import UserError
from bench.lesion_table import COLUMNS
from bench.metrics import foreground
from bench.physics import Physics
from bench.seeds import derive_seed
from bench.spec import Cell
from bench.store import Store


def disc(radius: int) -> Float[Tensor, "1 1 d d"]:
    """Return a disc of ones within 2 radius + 1 pixels."""
    offsets = torch.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).float()[None, None]


def plant(
    x: Float[Tensor, "b 1 h w"], ids: Sequence[str], radius: int, contrast: float
) -> Float[Tensor, "b 1 h w"]:
    """Return the lesion to add to each image: brighter in dark tissue, darker in bright tissue.

    Args:
        x: images in [0, 1].
        ids: one for each, which decides where it is: anywhere in the foreground where it fits.
        radius: pixels.
        contrast: its difference to the image, at most 0.5.

    Returns:
        discs of +contrast or -contrast; 0 for an image without room for it.
    """
    room = _inside(foreground(x), radius)
    lesions = torch.zeros_like(x)
    for k, name in enumerate(ids):
        places = room[k, 0].nonzero()
        if not len(places):
            continue
        rng = np.random.default_rng(derive_seed("lesion", name, radius))
        row, column = places[int(rng.integers(len(places)))].tolist()
        rows, columns = (slice(at - radius, at + radius + 1) for at in (row, column))
        mask = disc(radius)[0, 0]
        bright = (x[k, 0, rows, columns] * mask).sum() / mask.sum() > 0.5
        lesions[k, 0, rows, columns] = mask * (-contrast if bright else contrast)
    return lesions


def recovered(
    with_lesion: Float[Tensor, "b 1 h w"],
    without: Float[Tensor, "b 1 h w"],
    lesions: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """Return the share of the contrast that is shown; NaN where there is no lesion."""
    shown = ((with_lesion - without) * lesions).sum((1, 2, 3))
    return shown / lesions.square().sum((1, 2, 3))


def false_lesions(
    x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"], radius: int, contrast: float
) -> list[int]:
    """Count in each reconstruction the spots that look like a lesion and are none.

    A spot is where the error, averaged over a disc of this radius within the foreground, exceeds
    half the contrast, and is greatest among its neighbours up to a radius away.
    """
    kernel, inside = disc(radius), _inside(foreground(x), radius)
    error = conv2d(x_hat - x, kernel / kernel.sum(), padding=radius).abs() * inside
    greatest = max_pool2d(error, 2 * radius + 1, stride=1, padding=radius)
    spots = (error == greatest) & (error > contrast / 2)
    # Equal neighbours are one spot.
    return [int(ndimage.label(one[0].numpy(), np.ones((3, 3)))[1]) for one in spots]


def _inside(where: Tensor, radius: int) -> Tensor:
    """Mark the centres around which a disc lies within a region, and within the image."""
    height, width = where.shape[-2:]
    outside = max_pool2d((~where).float(), 2 * radius + 1, stride=1, padding=radius) > 0
    within = torch.zeros_like(where)
    within[..., radius : height - radius, radius : width - radius] = True
    return ~outside & within


def examine(
    store: Store, radii: Sequence[int], contrast: float, images: int, levels: Sequence[float] = ()
) -> Iterator[pd.DataFrame]:
    """Examine the first refit of each cell of a run; yield the lines of each: `COLUMNS`.

    Args:
        store: the run.
        radii: of the lesions, in pixels.
        contrast: of the lesions, of images in [0, 1].
        images: number of test images that are used, from the first.
        levels: the tasks that are examined; default: all.

    Raises:
        UserError: no such level, no cell with a model, images that are measured or too small.
    """
    spec = store.spec()
    if not 0 < contrast <= 0.5 or any(radius < 1 for radius in radii):
        raise UserError("a lesion has a contrast of at most 0.5 and a radius of at least 1 pixel")
    if 2 * max(radii) + 1 > spec.dataset.image_size:
        raise UserError(f"radius {max(radii)}: does not fit into {spec.dataset.image_size} pixels")
    cells = finished(cells_of(spec), set(store.rows()["cell"]), levels)
    loaded = data.load(spec.dataset)
    if loaded.measured is not None:
        raise UserError("lesions cannot be added to what a scanner measured")
    sizes = max(spec.n_train), spec.dataset.n_val, spec.dataset.n_test
    test = data.split(loaded, *sizes).test.first(images)
    for cell in cells:
        model, operator, _ = scoring.rebuild(*store.read_model(cell.id, 0))
        yield _examine_cell(cell, model, operator.of(test), test, radii, contrast)


def _examine_cell(
    cell: Cell,
    model: torch.nn.Module,
    operator: Physics,
    test: ImageSet,
    radii: Sequence[int],
    contrast: float,
) -> pd.DataFrame:
    x = training.as_tensor(test)
    without = _reconstructed(model, operator, x, test.ids)
    tables = []
    for radius in radii:
        lesions = plant(x, test.ids, radius, contrast)
        planted = _reconstructed(model, operator, x + lesions, test.ids)
        tables.append(
            pd.DataFrame(
                {
                    "cell": cell.id,
                    "degradation": cell.task.degradation.label,
                    "level": cell.task.level,
                    "n_train": cell.n_train,
                    "method": cell.method.label,
                    "image": test.ids,
                    "subject": test.subjects,
                    "radius": radius,
                    "contrast": contrast,
                    "recovered": recovered(planted, without, lesions).numpy(),
                    "false_lesions": false_lesions(without, x, radius, contrast),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _reconstructed(
    model: torch.nn.Module, operator: Physics, x: Tensor, ids: Sequence[str]
) -> Tensor:
    found = []
    for begin in range(0, len(x), training.CHUNK):
        part = slice(begin, begin + training.CHUNK)
        bound = operator.part(part)
        y = bound.measure(x[part], list(ids[part]))
        found.append(training.magnitude(training.reconstruct(model, y, bound)))
    return torch.cat(found)
