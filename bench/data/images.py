"""Pictures (PNG, JPEG, TIFF, BMP, PGM, WebP, JPEG 2000), grey or colour, of any depth."""

import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Float32, Shaped
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.data import _tiff
from bench.data._tiff import Pixels, refuse_huge
from bench.data.compression import VISIBLE, block_edges
from bench.data.files import name_of
from bench.data.survey import survey
from bench.data.volume import Gathered, Plane, Span, Unusable, Volume, span_of

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
# Endings that other programs use too, and the first bytes of such a picture.
BEGINNINGS = {
    ".bmp": (b"BM",),
    ".pgm": (b"P2", b"P5"),
    ".pnm": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    ".webp": (b"RIFF",),
    ".jp2": (b"\x00\x00\x00\x0cjP",),
}
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG
UNKNOWN = (0.0, 0.0)  # spacing
OTHER_PAGES = "Pages of TIFF files whose size differs from most pages are left out (thumbnails)."
# Where a PNG file states its bits and kind of colour, and the kinds that Pillow cuts to 8 bits.
PNG_BITS, PNG_COLOUR, DEEP_COLOURS = 24, 25, (2, 4, 6)
EIGHT_BIT, BLOCKY, COLOUR, TRANSPARENT = "eight_bit", "jpeg_block_edges", "colour", "transparent"
COLOURFUL = 16 / 255  # least difference of two channels of a coloured pixel


@dataclass(frozen=True)
class Picture:
    """A file, and the range of the pictures of each depth that are scaled together with it."""

    name: str
    files: list[Path]
    spans: Mapping[int, Span]


def gather(files: list[Path], root: Path) -> Gathered:
    """Find the range of pictures deeper than 8 bits, which are scaled together by folder.

    16 bits often hold 10, 12 or 14; the full scale of the smallest depth that holds every picture
    of a folder is white. Fractions and longer numbers are scaled by the maximum of the folder.
    """
    deep = [file for file in files if file.suffix.lower() not in (".jpg", ".jpeg")]
    spans: dict[Path, dict[int, Span]] = defaultdict(dict)
    for file, found in survey(deep, _depth, "looking at depths"):
        if isinstance(found, tuple):  # an unusable file is reported when it is read
            bits, span = found
            known = spans[file.parent].get(bits)
            spans[file.parent][bits] = known | span if known else span
    return Gathered([Picture(name_of(file, root), [file], spans[file.parent]) for file in files])


def _depth(file: Path) -> tuple[int, Span] | None:
    """Measure a picture deeper than 8 bits; None for the others."""
    if file.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(file) as tiff:
            deep = tiff.pages.first.dtype != np.uint8
    else:
        with Image.open(file) as opened:
            start = file.open("rb").read(PNG_COLOUR + 1)
            deep = opened.mode in ("I", "F") or opened.mode.startswith("I;16") or _is_deep(start)
    if not deep:
        return None
    pixels = _decode(file.read_bytes(), file.suffix.lower())
    return pixels.bits, span_of(Plane(_grey(page)) for page in pixels.pages)


def _white(span: Span | None, bits: int) -> float | None:
    """Choose the value of white for whole numbers of up to 16 bits; None: the maximum is used."""
    if bits == 8:
        return 255.0
    if bits != 16 or span is None:
        return None
    return float(2 ** max(8, int(span.high).bit_length()) - 1)


def read(file: Picture, name: str, *, channel: int | None = None) -> list[Volume]:
    """Read a picture, or the pages of a TIFF stack, which is a volume.

    Colour becomes grey (BT.601 luma); pixels without opacity count as outside; WhiteIsZero and the
    EXIF orientation are applied.

    Args:
        file: the picture, with the range of its folder.
        name: its path below the dataset's folder.
        channel: which channel to read, counted from 0, if a picture has several that are not
            colours.

    Raises:
        Unusable: damaged, more than 100 million pixels, or channels that differ.
    """
    path = file.files[0]
    content = path.read_bytes()
    pixels = _decode(content, path.suffix.lower())
    bits = pixels.bits
    span = file.spans.get(bits)
    planes = [Plane(_grey(page, channel), UNKNOWN, pixels.transparent) for page in pixels.pages]
    single = len(planes) == 1
    seen = {
        EIGHT_BIT: bits == 8,
        COLOUR: pixels.colour and any(_coloured(page, bits) for page in pixels.pages),
        TRANSPARENT: pixels.transparent is not None,
        BLOCKY: bits == 8 and single and block_edges(planes[0].values) > VISIBLE,
    }
    return [
        Volume(
            name, planes, name, label="" if single else "page", full_scale=_white(span, bits),
            span=None if bits == 8 else span,
            marks=tuple(mark for mark, found in seen.items() if found),
            remarks=(OTHER_PAGES,) if pixels.others else (),
            digest=hashlib.sha256(content).hexdigest() if single else None,
        )
    ]  # fmt: skip


def _decode(content: bytes, suffix: str) -> Pixels:
    """Decode a file.

    Raises:
        Unusable: it is not a picture, or is too large.
    """
    if suffix in (".tif", ".tiff"):
        return _tiff.decode(content)
    if _is_deep(content):
        return _deep_colours(content)
    try:
        with Image.open(io.BytesIO(content)) as opened:
            refuse_huge(opened.width * opened.height)
            ImageOps.exif_transpose(opened, in_place=True)
            return _pillow(opened)
    except UnidentifiedImageError:  # its message names a buffer instead of the file
        raise Unusable("cannot be read (not an image, or its beginning is damaged)") from None


def _is_deep(content: bytes) -> bool:
    """Return whether these bytes begin a PNG file with several channels of 16 bits each."""
    png = content[1:4] == b"PNG" and len(content) > PNG_COLOUR
    return png and content[PNG_BITS] == 16 and content[PNG_COLOUR] in DEEP_COLOURS


def _deep_colours(content: bytes) -> Pixels:
    """Decode colours, or grey with opacity, of 16 bits a channel, which Pillow cuts to 8."""
    try:
        from imagecodecs import png_decode
    except ImportError:
        raise Unusable(
            "has colours or opacity of 16 bits, which needs: pip install -e '.[dicom]'"
        ) from None
    refuse_huge(int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big"))
    values = png_decode(content)
    colours = values.shape[-1] // 2 * 2 - 1 if values.shape[-1] in (2, 4) else values.shape[-1]
    clear = values[..., -1] == 0 if values.shape[-1] in (2, 4) else np.zeros(values.shape[:2], bool)
    pages = [values[..., 0] if colours == 1 else values[..., :colours]]
    return Pixels(pages, clear if clear.any() else None, colours == 3)


def _pillow(image: Image.Image) -> Pixels:
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        # Pillow opens 16-bit PGM and some PNG as 32-bit whole numbers.
        deep = values.dtype.kind == "i" and values.min() >= 0 and values.max() <= 65535
        return Pixels([values.astype(np.uint16) if deep else values])
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    if has_alpha:
        rgba = np.asarray(image.convert("RGBA"))
        clear = rgba[..., 3] == 0
        return Pixels([rgba[..., :3]], clear if clear.any() else None, True)
    return Pixels([np.asarray(image.convert("RGB"))], colour=True)


def _grey(
    page: Shaped[np.ndarray, "h w *channels"], channel: int | None = None
) -> Float32[np.ndarray, "h w"]:
    """Convert a page to grey values in its own units.

    Raises:
        Unusable: several channels that differ and are not colours, and none is chosen.
    """
    if page.ndim == 2:
        return page.astype(np.float32)
    count = page.shape[-1]
    if channel is not None:
        if not 0 <= channel < count:
            raise Unusable(f"has {count} channels, 0 to {count - 1}; see dataset.channel")
        return page[..., channel].astype(np.float32)
    if _is_grey(page):
        return page[..., 0].astype(np.float32)
    if count == 3:
        return page.astype(np.float32) @ LUMA
    raise Unusable(f"holds {count} channels that differ; choose one with dataset.channel: 0")


def _coloured(page: Shaped[np.ndarray, "h w *channels"], bits: int) -> bool:
    """Return whether any pixel has a visible colour."""
    if page.ndim == 2 or _is_grey(page):
        return False
    first = page[..., 0].astype(np.float32)
    spread = max(float(np.abs(page[..., k] - first).max()) for k in range(1, page.shape[-1]))
    return spread > COLOURFUL * (2**bits if bits else float(page.max()))


def _is_grey(page: Shaped[np.ndarray, "h w channels"]) -> bool:
    """Return whether all channels are the same."""
    some = page[page.shape[0] // 2]  # the middle line suffices for most colour pictures
    return all(
        bool((part[..., k] == part[..., 0]).all())
        for part in (some, page)
        for k in range(1, page.shape[-1])
    )
