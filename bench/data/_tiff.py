"""Pixels of picture files, and the decoding of TIFF files."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tifffile
from jaxtyping import Bool, Shaped
from PIL import Image
from tifffile import EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG

from bench.data import declared
from bench.data.volume import Unusable

# A larger picture is a decompression bomb, or at least not a slice.
MOST_PIXELS = 100_000_000
LIBTIFF = (np.uint8, np.uint16, np.float32)  # decoded by Pillow where tifffile lacks a codec


@dataclass(frozen=True)
class Pixels:
    """The pages of a file, as stored, and how to interpret them.

    Attributes:
        pages: each (h, w) or (h, w, channels); high values are bright.
        spacing: distance of rows and of columns, 0 for unknown.
        transparent: pixels without opacity, of a single page.
        colour: whether three channels are red, green and blue.
        others: number of pages of another size that were left out: thumbnails, masks.
    """

    pages: Sequence[Shaped[np.ndarray, "h w *channels"]]
    transparent: Bool[np.ndarray, "h w"] | None = None
    colour: bool = False
    others: int = 0

    @property
    def bits(self) -> int:
        """Bits of a value; 0 for fractions."""
        kind = self.pages[0].dtype
        return 8 * kind.itemsize if kind.kind == "u" else 0


def decode(content: bytes) -> Pixels:
    """Decode the pages of a TIFF file that have the most frequent size; others are thumbnails."""
    try:
        opened = tifffile.TiffFile(io.BytesIO(content))
    except tifffile.TiffFileError:
        raise Unusable("cannot be read (not a TIFF file, or its beginning is damaged)") from None
    with opened:
        pages = [page.aspage() for page in opened.pages]
        first = pages[0]
        refuse_huge(first.imagewidth * first.imagelength)
        whole = [page for page in pages if not page.is_reduced and not page.is_mask] or pages
        # A thumbnail may come first; most pages have the size of the scan.
        shape = max(Counter(p.shape for p in whole).items(), key=lambda i: (i[1], np.prod(i[0])))[0]
        others, pages = len(pages), [page for page in whole if page.shape == shape]
        others, first = others - len(pages), pages[0]
        refuse_huge(first.imagewidth * first.imagelength)
        for page in pages:
            kind = np.dtype(page.dtype or "u1")
            declared.check(tuple(map(int, page.shape)), kind.itemsize, len(content))
        made: list[np.ndarray] = []
        clear = None
        for page in pages:
            values, clear = _page(page, content)
            # A page may itself be a stack (ImageJ, planes of depth).
            made += list(values) if page.imagedepth > 1 else [values]
        colour = first.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR, PHOTOMETRIC.PALETTE)
        return Pixels(made, clear if len(made) == 1 else None, colour, others)


def _page(
    page: tifffile.TiffPage, content: bytes
) -> tuple[Shaped[np.ndarray, "..."], Bool[np.ndarray, "h w"] | None]:
    """Decode one page, channels last and white high, and find its pixels without opacity."""
    if page.photometric == PHOTOMETRIC.PALETTE:
        with Image.open(io.BytesIO(content)) as opened:
            opened.seek(page.index)
            return np.asarray(opened.convert("RGB")), None
    try:
        values = page.asarray()
    except (ValueError, ImportError) as reason:  # a codec that tifffile does not include
        values = _by_libtiff(page, content, reason)
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if page.planarconfig == PLANARCONFIG.SEPARATE and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        white = np.iinfo(values.dtype).max if values.dtype.kind == "u" else values.max()
        values = white - values
    if EXTRASAMPLE.UNASSALPHA not in page.extrasamples or values.ndim != 3:
        return values, None
    colours = page.samplesperpixel - len(page.extrasamples)
    clear = values[..., colours] == 0
    values = values[..., 0] if colours == 1 else values[..., :colours]
    return values, clear if clear.any() else None


def _by_libtiff(
    page: tifffile.TiffPage, content: bytes, reason: Exception
) -> Shaped[np.ndarray, "..."]:
    """Decode a page by Pillow, where tifffile lacks the codec.

    Raises:
        Unusable: Pillow does not decode such values either.
    """
    if page.dtype not in LIBTIFF:
        raise Unusable(f"cannot be read ({reason})") from None
    with Image.open(io.BytesIO(content)) as opened:
        opened.seek(page.index)
        values = np.asarray(opened)
    white_is_zero = page.photometric == PHOTOMETRIC.MINISWHITE
    # Pillow makes white high in 8-bit pages only; `_page` does so for all.
    return 255 - values if white_is_zero and values.dtype == np.uint8 else values


def refuse_huge(pixels: int) -> None:
    """Refuse a picture with more pixels than any slice has.

    Raises:
        Unusable: more than 100 million pixels.
    """
    if pixels > MOST_PIXELS:
        raise Unusable(f"has more than {MOST_PIXELS:,} pixels")
