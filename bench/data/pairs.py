"""Pairs of images: which file was measured of which image, and whether the two are registered."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

from bench.data import files, subjects
from bench.data.volume import Item
from bench.errors import UserError

# Pixels: images are compared by what is between these two scales, so that neither noise nor
# brightness nor the edges of the field of view count much.
FINE, COARSE = 1.0, 4.0
FARTHEST = 0.25  # greatest shift that is looked for, as a share of the side
# A pair is called shifted from this many pixels on, if the shift raises the correlation so much.
SHIFTED, GAIN = 2, 0.01
EXAMPLES = 3


@dataclass(frozen=True)
class Pair:
    """What was measured of a prepared image.

    Attributes:
        image: scaled as the image itself, not clipped.
        noise: an estimate of the standard deviation of its noise.
        correlation: of the details of the two.
        shift: rows and columns, in pixels of the files, by which the details of the measurement
            would have to be moved to agree best.
    """

    image: Float32[np.ndarray, "size size"]
    noise: float
    correlation: float
    shift: tuple[int, int]

    @property
    def shifted(self) -> bool:
        """Whether it is not where the image is."""
        return max(map(abs, self.shift)) >= SHIFTED


def pair_of(
    x: Float32[np.ndarray, "rows columns"],
    y: Float32[np.ndarray, "rows columns"],
    image: Float32[np.ndarray, "size size"],
) -> Pair:
    """Compare an image with what was measured of it.

    The shift is the place of the greatest cross-correlation.

    Args:
        x: the image as it is in its file.
        y: its measurement, as it is in its file.
        image: the prepared measurement.
    """
    a, b = _details(x), _details(y)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b)) or 1.0
    correlation = np.fft.irfft2(np.fft.rfft2(a) * np.conj(np.fft.rfft2(b)), s=a.shape) / norm
    reach = [max(1, int(FARTHEST * side)) for side in a.shape]
    rows, columns = (np.arange(-most, most + 1) for most in reach)
    near = correlation[np.ix_(rows, columns)]
    best = np.unravel_index(int(near.argmax()), near.shape)
    here, there = float(correlation[0, 0]), float(near[best])
    shift = (int(rows[best[0]]), int(columns[best[1]])) if there > here + GAIN else (0, 0)
    return Pair(image, noise_of(image), here, shift)


def noise_of(image: Float32[np.ndarray, "h w"]) -> float:
    """Estimate the standard deviation of the noise of an image.

    It is the median absolute deviation of the finest wavelet coefficients (Donoho and Johnstone,
    Biometrika 81, 1994).
    """
    from skimage.restoration import estimate_sigma  # takes long to import

    return float(estimate_sigma(image)) if np.ptp(image) > 0 else 0.0


def _details(image: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Keep what is between two scales; the border, where a filter sees beyond, fades out."""
    values = np.nan_to_num(image)
    band = gaussian_filter(values, FINE) - gaussian_filter(values, COARSE)
    places = [np.arange(side) for side in image.shape]
    fading = [np.clip((np.minimum(k, k[::-1]) + 1) / (4 * COARSE), 0, 1) for k in places]
    return np.asarray(band * np.multiply.outer(*fading), np.float32)


def matched(
    items: Sequence[Item],
    root: Path,
    others: Sequence[Item],
    other_root: Path,
    regex: str | None = None,
    table: str | None = None,
) -> dict[str, Item]:
    """Find what was measured of each item; items without a partner are left out.

    Args:
        items: of the images.
        root: the folder below which they are named.
        others: of the measurements.
        other_root: theirs.
        regex: two paths with the same groups (or the same match) are a pair; default: the same
            path, endings aside; for items of several files: the same folder.
        table: a CSV file with columns `file` and `measured`.

    Raises:
        UserError: both are given, an invalid pattern, no pair at all, or an ambiguous one.
    """
    if regex is not None and table is not None:
        raise UserError("dataset.measured_regex and dataset.measured_csv: give one of them")
    key = _by_regex(regex) if regex is not None else _by_path
    known: dict[str, Item] = {}
    own = {file for item in items for file in item.files}
    for item in others:
        mark = _named(item, other_root) if table is not None else key(item, other_root)
        if mark is None or (regex is not None and own.intersection(item.files)):
            continue
        if mark in known:
            raise UserError(
                f"dataset.measured: {_named(known[mark], other_root)} and "
                f"{_named(item, other_root)} both belong to {mark!r}; set dataset.measured_regex "
                "or dataset.measured_csv"
            )
        known[mark] = item
    look_up = subjects.by_table(root, table, "measured") if table is not None else None
    found: dict[str, Item] = {}
    for item in items:
        wanted = look_up(_named(item, root)) if look_up is not None else key(item, root)
        if wanted in known:
            found[item.name] = known[wanted]
    if not found:
        first = _named(items[0], root)
        raise UserError(
            f"dataset.measured: none of the {len(others)} files below {other_root} belongs to one "
            f"of the {len(items)} below {root}, such as {first}; name both alike, or set "
            "dataset.measured_regex or dataset.measured_csv"
        )
    return found


def notes_of(pairs: Mapping[str, Pair]) -> list[str]:
    """Describe how well the pairs are registered, for the audit."""
    if not pairs:
        return []
    values = np.array([pair.correlation for pair in pairs.values()])
    notes = [
        f"{len(pairs)} pairs of image and measurement, scaled alike; their correlation is "
        f"{np.median(values):.2f} in the median, {values.min():.2f} at least. The measurements "
        f"have noise of about {np.median([pair.noise for pair in pairs.values()]):.3g}."
    ]
    shifted = {name: pair for name, pair in pairs.items() if pair.shifted}
    if shifted:
        worst = sorted(shifted, key=lambda name: -max(map(abs, shifted[name].shift)))[:EXAMPLES]
        examples = ", ".join(f"{name} by {shifted[name].shift}" for name in worst)
        notes.append(
            f"{len(shifted)} pairs are not registered: they agree better after a shift by "
            f"{SHIFTED} pixels or more ({examples}; rows, columns). PSNR and SSIM say little of "
            "them: register them, or leave them out with dataset.exclude."
        )
    return notes


def lines_of(pairs: Mapping[str, Pair]) -> list[dict[str, str | int | float]]:
    """List the pairs for the audit's table, the worst first."""

    def rank(name: str) -> tuple[int, float]:
        return -max(map(abs, pairs[name].shift)), pairs[name].correlation

    return [
        {
            "name": name,
            "correlation": round(pairs[name].correlation, 4),
            "rows": pairs[name].shift[0],
            "columns": pairs[name].shift[1],
            "noise": float(f"{pairs[name].noise:.4g}"),
        }
        for name in sorted(pairs, key=rank)
    ]


def _named(item: Item, root: Path) -> str:
    return files.name_of(item.files[0], root)


def _by_path(item: Item, root: Path) -> str | None:
    path = PurePosixPath(_named(item, root))
    if len(item.files) > 1:
        return str(path.parent)
    return str(path.parent / path.name.partition(".")[0])


def _by_regex(regex: str) -> Callable[[Item, Path], str | None]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"dataset.measured_regex: {regex!r} is no pattern ({error})") from None

    def mark(item: Item, root: Path) -> str | None:
        match = pattern.search(_named(item, root))
        return None if match is None else "/".join(map(str, match.groups() or [match.group()]))

    return mark
