"""Pictures of a degradation: x, y, A_dagger(y) and the sampling mask."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationError
from torch import Tensor

from bench import data, methods, metrics, physics, training
from bench.data.measured import load_measured
from bench.errors import UserError
from bench.options import checked_options
from bench.physics import Paired, Physics
from bench.physics.mri_cartesian import MRICartesian, measured
from bench.spec import DatasetSpec

SIDE, SMALL_SIDE = 256, 160  # pixels of a panel; of one in the gallery
GAP, CAPTION, TEXT = 8, 40, 14
INK, PAPER = (30, 30, 30), (255, 255, 255)
SHEET, SHEET_COLUMNS = 48, 8  # pictures of a contact sheet, and in a row of it
LETTERS = 20  # in a line of a caption
DECADES = 4.0  # range of the logarithmic scale of k-space

T = TypeVar("T")


@dataclass(frozen=True)
class Panel:
    """A grey picture in [0, 1] with one or two lines of text above it."""

    caption: str
    image: Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class Score:
    """The scores of a reconstruction.

    Attributes:
        psnr: in dB.
        ssim: see `bench.metrics`.
        residual: |A x_hat - y| / |y|.
    """

    psnr: float
    ssim: float
    residual: float

    def __str__(self) -> str:
        known = [] if math.isnan(self.psnr) else [f"{self.psnr:.2f} dB, SSIM {self.ssim:.3f}"]
        if not math.isnan(self.residual):
            known.append(f"residual {self.residual:.3f}")
        return ", ".join(known)


@dataclass(frozen=True)
class Degraded:
    """One degraded image with its reconstructions.

    Attributes:
        id: the image's id.
        panels: x, y, A_dagger(y) and the mask, as far as they exist.
        scores: of "A_dagger(y)" and of each method; NaN where x is unknown.
        notes: how measured k-space was read, and whether it was measured at all.
    """

    id: str
    panels: list[Panel]
    scores: dict[str, Score]
    notes: Sequence[str] = ()


def degrade(
    path: Path,
    name: str,
    level: float,
    image_size: int,
    count: int,
    by: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[Degraded]:
    """Degrade images at a path, and draw what is measured.

    Args:
        path: an image, a volume, or a folder of them.
        name: the degradation.
        level: its level.
        image_size: side to which images are prepared.
        count: how many images, evenly spread over those found.
        by: classical methods that reconstruct them, with their defaults.
        reading: keys of a benchmark file's `dataset:`, such as `window`.
        options: of the degradation.

    Raises:
        UserError: nothing readable at the path, or an unknown degradation, option or level.
    """
    operator = physics.create(name, level, image_size, **options)
    dataset = data.load(_dataset(path, image_size, reading or {}))
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        x, id_ = torch.tensor(dataset.images[index])[None], dataset.ids[index]
        bound = operator.of(dataset.take([int(index)]))
        yield _degraded(id_, x, bound.measure(x, [id_]), bound, by)


def _dataset(path: Path, image_size: int, reading: Mapping[str, Any]) -> DatasetSpec:
    try:
        return DatasetSpec.model_validate({**reading, "path": str(path), "image_size": image_size})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"dataset.{first['loc'][0]}: {first['msg']}") from None


def degrade_kspace(
    path: Path,
    level: float,
    by: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Degraded:
    """Undersample measured k-space; the reference is the image of all of its samples.

    Args:
        path: a file with k-space, see `bench.data.measured`.
        level: acceleration; at 1 all samples are kept, and there is no reference.
        by: classical methods that reconstruct it, with their defaults.
        reading: `key`, `axes` and `slice_number` of `bench.data.measured.load_measured`.
        options: `mask`, `centre_fraction` and `calibration` of `mri_cartesian.measured`.

    Raises:
        UserError: no k-space at the path, or a wrong option or level.
    """
    found = load_measured(
        path, **checked_options("dataset (--measured)", load_measured, reading or {}, ("path",))
    )
    kspace = torch.from_numpy(found.kspace)
    full, everything = measured(kspace, 1.0)
    chosen = checked_options("measured k-space", measured, options, ("kspace", "level"))
    x = full.A_dagger(everything)
    top = 1.0 if level == 1 else x.max().item()
    operator, y = measured(kspace / top, float(level), **chosen)
    notes = [f"`{found.badge}`{f': {found.reason}' if found.reason else ''}", *found.remarks]
    if level == 1:
        return _degraded(path.name, None, y, operator, by, notes)
    return _degraded(path.name, x / top, y, operator, by, notes)


def _degraded(
    id_: str,
    x: Tensor | None,
    y: Tensor,
    operator: Physics,
    by: Sequence[str],
    notes: Sequence[str] = (),
) -> Degraded:
    """Draw an image's measurement and its reconstructions, with scores if the image is known."""
    panels = [Panel(f"y\n{'x'.join(map(str, y.shape[1:]))}", picture_of(y, operator))]
    if x is not None:
        panels.insert(0, Panel("x\n" + "x".join(map(str, x.shape[-2:])), x[0, 0].numpy()))
    start = operator.A_dagger(y)
    found = {name: training.reconstruct(methods.create(name), y, operator) for name in by}
    scores = {"A_dagger(y)": _score(start, x, y, operator)} | {
        name: _score(answer, x, y, operator) for name, answer in found.items()
    }
    for name, answer in {"A_dagger(y)": start, **found}.items():
        if answer is not start or start.shape != y.shape or not torch.equal(start, y):
            score = scores[name]
            words = f"{score.psnr:.2f} dB, SSIM {score.ssim:.3f}" if x is not None else str(score)
            panels.append(Panel(f"{name}\n{words}", answer[0, 0].abs().numpy()))
    if operator.mask is not None:
        share = operator.mask.float().mean().item()
        panels.append(Panel(f"mask\n{share:.1%} of the grid", operator.mask[0, 0].float().numpy()))
    return Degraded(id_, panels, scores, notes)


def _score(answer: Tensor, x: Tensor | None, y: Tensor, operator: Physics) -> Score:
    residual = metrics.residual(operator.A(answer), y).item()
    if operator.measured is not None and not answer.is_complex():
        residual = math.nan  # a magnitude lacks the phase that y has; of pairs no operator is known
    if x is None:
        return Score(math.nan, math.nan, residual)
    values = metrics.evaluate(answer.abs() if answer.is_complex() else answer, x)
    return Score(values["psnr"].item(), values["ssim"].item(), residual)


def picture_of(y: Shaped[Tensor, "1 ..."], operator: Physics) -> Float32[np.ndarray, "h w"]:
    """Draw a measurement: an image or sinogram in grey, k-space on a logarithmic scale.

    For several coils the root of the sum of squares is drawn; non-Cartesian samples are drawn with
    one readout per row.
    """
    if not y.is_complex():
        plane = y[0, 0].float().numpy()
        top = max(1.0, float(plane.max())) if operator.shape == plane.shape else float(plane.max())
        return (plane / (top or 1.0)).clip(0, 1)
    power = y[0].abs().square().sum(0).sqrt().numpy()
    if power.ndim == 1:
        rows = max(1, round(np.sqrt(power.size)))
        power = np.pad(power, (0, -power.size % rows)).reshape(rows, -1)
    floor = 10.0**-DECADES * power.max()
    return (np.log10(np.maximum(power, floor) / floor) / DECADES).clip(0, 1).astype(np.float32)


def montage(rows: Sequence[Sequence[Panel]], side: int = SIDE) -> Image.Image:
    """Lay panels of `side` pixels out in rows, each with its caption above."""
    columns = max(len(row) for row in rows)
    cell = side + GAP
    page = Image.new("RGB", (columns * cell + GAP, len(rows) * (cell + CAPTION) + GAP), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(TEXT)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            left, top = GAP + j * cell, GAP + i * (cell + CAPTION)
            draw.multiline_text((left, top), panel.caption, INK, font, spacing=2)
            page.paste(_fitted(panel.image, side), (left, top + CAPTION))
    return page


def show(**images: Shaped[np.ndarray, "n ..."]) -> Image.Image:
    """Lay images out for a notebook, which displays the result: one row each, one column per name.

    Args:
        images: by caption, arrays of shape (n, 1, h, w), (n, h, w) or (h, w) with values in [0, 1],
            which are black and white; of complex ones the magnitude is shown.

    Raises:
        UserError: an array of another shape, or arrays of different lengths.

    >>> show(x=np.zeros((2, 1, 32, 32)), y=np.ones((2, 1, 32, 32))).size
    (324, 336)
    """
    columns = {}
    for name, values in images.items():
        whole = np.asarray(values)
        whole = whole[None] if whole.ndim == 2 else whole[:, 0] if whole.ndim == 4 else whole
        if whole.ndim != 3:
            raise UserError(f"{name}: has shape {np.shape(values)}; images are (n, 1, h, w)")
        columns[name] = (np.abs(whole) if np.iscomplexobj(whole) else whole).astype(np.float32)
    if len({len(whole) for whole in columns.values()}) != 1:
        lengths = ", ".join(f"{len(whole)} of {name}" for name, whole in columns.items())
        raise UserError(f"these are not as many images of each: {lengths or 'none'}")
    rows = zip(*columns.values(), strict=True)
    return montage([[Panel(*pair) for pair in zip(columns, row, strict=True)] for row in rows])


def _fitted(image: Float32[np.ndarray, "h w"], side: int) -> Image.Image:
    """Enlarge a picture into a panel, keeping its aspect ratio and, if small, its pixels."""
    grey = Image.fromarray((255 * np.nan_to_num(image).clip(0, 1)).round().astype(np.uint8))
    scale = side / max(grey.size)
    size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    panel = Image.new("L", (side, side), 255)
    resized = grey.resize(size, how)
    panel.paste(resized, ((side - size[0]) // 2, (side - size[1]) // 2))
    return panel


def contact_sheet(dataset: data.Dataset, count: int = SHEET) -> Image.Image:
    """Lay out images from all over a dataset: some of each volume or folder, as many as fit.

    Args:
        dataset: its images.
        count: number of images at most.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(dataset.ids):
        groups[name.rpartition("/")[0]].append(index)
    shown = _spread(list(groups.values()), count)
    each = max(1, count // len(shown))
    panels = [
        Panel(_two_lines(dataset.ids[index]), dataset.images[index, 0])
        for group in shown
        for index in _spread(group, each)
    ]
    rows = [panels[k : k + SHEET_COLUMNS] for k in range(0, len(panels), SHEET_COLUMNS)]
    return montage(rows, SMALL_SIDE)


def _spread(entries: Sequence[T], count: int) -> list[T]:
    """Choose entries evenly spread over a sequence; a single one is the middle one."""
    count = min(count, len(entries))
    return [entries[int((k + 0.5) * len(entries) / count)] for k in range(count)]


def _two_lines(name: str) -> str:
    """Break a name into two caption lines, folder and file; their ends are kept."""
    folder, _, last = name.rpartition("/")
    return f"{folder[-LETTERS:]}\n{last[-LETTERS:]}" if folder else last[-LETTERS:]


def gallery(path: Path | None, image_size: int) -> Image.Image:
    """Draw every degradation at its three levels on one image: y where it is one, else A_dagger(y).

    Args:
        path: as for `degrade`; None for a slice of the brain template.
        image_size: side to which the image is prepared.
    """
    dataset = data.load(
        DatasetSpec(path=str(path), image_size=image_size)
        if path
        else DatasetSpec(source="template", image_size=image_size)
    )
    x = torch.tensor(dataset.images[:1])
    rows: list[list[Panel]] = []
    for name in physics.names():
        if physics.find(name) is Paired:
            continue  # there are no pairs
        row = [Panel(f"{name}\nx", x[0, 0].numpy())]
        for level in physics.find(name).presets:
            operator = physics.create(name, level, image_size)
            y = operator.measure(x, dataset.ids[:1])
            start = operator.A_dagger(y)
            shown, what = (y, "y") if _is_image(y, x) else (start, "A_dagger(y)")
            psnr = metrics.evaluate(shown, x)["psnr"].item()
            row.append(Panel(f"level {level:g}\n{what}, {psnr:.1f} dB", shown[0, 0].numpy()))
        rows.append(row)
    pairs = [list(chain.from_iterable(rows[i : i + 2])) for i in range(0, len(rows), 2)]
    return montage(pairs, SMALL_SIDE)


def _is_image(y: Tensor, x: Tensor) -> bool:
    return y.shape == x.shape and not y.is_complex()


def check_methods(by: Sequence[str], degradation: str) -> None:
    """Refuse methods that must be trained first, or do not support the degradation.

    Raises:
        UserError: naming the method.
    """
    for name in by:
        method = methods.find(name)
        if method.uses_training_images:
            raise UserError(f"{name}: needs training images; run a benchmark instead")
        if not method.supports(degradation):
            raise UserError(f"{name}: does not support {degradation}")
        if method.missing_extra is not None:
            raise UserError(f"{name}: needs pip install -e '.[{method.missing_extra}]'")


def check_cartesian(name: str) -> None:
    """Refuse to undersample measured k-space by anything but a Cartesian mask.

    Raises:
        UserError: another degradation.
    """
    if physics.find(name) is not MRICartesian:
        raise UserError(f"measured k-space is undersampled by mri_cartesian only, not by {name}")
