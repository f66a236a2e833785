"""From a DICOM object to slices: stored bits, padding, modality transform, in this order."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, Shaped

from bench.data import declared
from bench.data._dicom_views import View, open_header, spacing_of, views_of, window_of
from bench.data.volume import NoImage, Unusable, Window

SLOPE_ZERO = "A RescaleSlope of 0 is read as 1."
HU_TYPES = ("HU", "US", "")  # US: unspecified
RLE = "1.2.840.10008.1.2.5"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
VIDEO = "1.2.840.10008.1.2.4.10"  # prefix of the transfer syntaxes of MPEG
FLOATS = {"FloatPixelData": "FloatPixelPaddingValue"} | {
    "DoubleFloatPixelData": "DoubleFloatPixelPaddingValue"
}


@dataclass(frozen=True)
class TransformedFrame:
    """A frame after the modality transform.

    Attributes:
        values: in the units of the file.
        outside: the pixels that are padding.
        mirror: the sum of a value and its reflection, where low values are bright.
        spacing: distance of rows and of columns; zeros where unknown.
        window: centre and width that the file states.
        lossy: the file says that a compression has changed its pixels.
        remarks: how it was read.
    """

    values: Float32[np.ndarray, "h w"]
    outside: Bool[np.ndarray, "h w"] | None
    mirror: float
    spacing: tuple[float, float]
    window: Window | None
    lossy: bool
    remarks: tuple[str, ...] = ()


def is_inverse(view: View) -> bool:
    """Return whether low values are bright."""
    return view.text("PhotometricInterpretation").upper() == "MONOCHROME1"


def is_hounsfield(view: View) -> bool:
    """Return whether the file says that its values are Hounsfield units.

    CT with unsigned values and without any rescale attribute, even an empty one, is not as the
    scanner wrote it: air would have 0 HU.
    """
    kind = view.text("RescaleType").upper()
    table = view.get("ModalityLUTSequence")
    if table:
        kind = str(table[0].get("ModalityLUTType") or "").strip().upper()
    if kind == "HU":
        return True
    signed = view.numbers("PixelRepresentation") == (1.0,)
    states = table or signed or "RescaleIntercept" in view
    return view.modality == "CT" and kind in HU_TYPES and bool(states)


def read_frames(file: Path, numbers: Collection[int]) -> dict[int, TransformedFrame]:
    """Read frames of a file, by their number from 0.

    Raises:
        NoImage: the file is a video.
        Unusable: the pixels cannot be decoded, or the header contradicts them.
    """
    data = open_header(file, pixels=True)
    stored = _decoded(data)
    views = views_of(data)
    if len(views) != len(stored):
        raise Unusable(f"has {len(stored)} frames, but its header states {len(views)}")
    return {number: _transformed(stored[number], views[number]) for number in sorted(numbers)}


def _decoded(data: Any) -> Shaped[np.ndarray, "frames h w"]:
    """Decode the pixels as they are stored, unused bits and all."""
    from pydicom.pixels import pixel_array

    if not any(View(data).get(name) for name in ("PixelData", *FLOATS)):
        raise Unusable(
            "holds no pixels, although its header declares them: it is truncated or was emptied"
        )
    _complete(data)
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.startswith(VIDEO):
        raise NoImage("videos")
    plugin = _plugin(syntax)
    _check_size(data, syntax.is_encapsulated)
    try:
        pixels = pixel_array(data, raw=True, correct_unused_bits=False, decoding_plugin=plugin)
    except (RuntimeError, NotImplementedError) as error:
        if not syntax.is_encapsulated:
            raise
        if not plugin:
            raise Unusable(
                f"is compressed ({syntax.name}), which needs a decoder; install it with: "
                "pip install -e '.[dicom]'"
            ) from error
        why = str(error).splitlines()[-1].strip().removeprefix(f"{plugin}: ")
        raise Unusable(f"its compressed pixels cannot be decoded ({why})") from error
    return pixels.reshape(-1, *pixels.shape[-2:])


def _complete(data: Any) -> None:
    """Fill in attributes that pydicom's decoders require and old files leave out."""
    bits = View(data).numbers("BitsAllocated")
    usual = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsStored": int(bits[0]) if bits else None,
        "PixelRepresentation": 0,
    }
    for name, value in usual.items():
        if View(data).get(name) is None and value is not None:
            setattr(data, name, value)
    count = View(data).numbers("NumberOfFrames")
    if "NumberOfFrames" in data and not (count and count[0] >= 1):
        del data.NumberOfFrames


def _check_size(data: Any, packed: bool) -> None:
    """Compare the size that the header states with the size of the pixel data."""
    names = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated")
    stated = [int((View(data).numbers(name) or (1.0,))[0]) for name in names]
    held = sum(len(data[name].value or b"") for name in ("PixelData", *FLOATS) if name in data)
    # Only uncompressed pixels are compared: some codecs write a blank image in a few bytes.
    declared.check(tuple(stated[:4]), -(-stated[4] // 8), None if packed else held, packed)


def _plugin(syntax: str) -> str:
    """Choose the decoder: always the same one if it is installed, else any that pydicom has."""
    try:
        from bench.data import _dicom_codecs
    except ImportError:
        return ""
    return _dicom_codecs.LABEL if _dicom_codecs.is_available(syntax) else ""


def _transformed(stored: Shaped[np.ndarray, "h w"], view: View) -> TransformedFrame:
    if stored.dtype.kind == "f":
        values, outside = stored, _float_padding(stored, view)
        low, high = _range(values, outside)
    else:
        size = 8 * stored.itemsize
        bits = min(size, int((view.numbers("BitsStored") or (size,))[0]))
        values, outside = _stored_bits(stored, view, bits), _padding(stored, view, bits)
        high = 2.0 ** (bits - (values.dtype.kind == "i")) - 1
        low = high + 1 - 2.0**bits
    scaled, ends, remarks = _modality(values, np.array([low, high]), view)
    return TransformedFrame(
        scaled.astype(np.float32),
        outside,
        # Reflect about the middle of the range that the bits allow; a range that reaches below 0
        # is taken from 0 to its top.
        float(ends.max() + max(0.0, ends.min())),
        spacing_of(view),
        window_of(view),
        view.text("LossyImageCompression") == "01",
        remarks,
    )


def _range(values: Float[np.ndarray, "h w"], outside: Any) -> tuple[float, float]:
    inside = values[np.isfinite(values)] if outside is None else values[~outside]
    return (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)


def _stored_bits(
    stored: Integer[np.ndarray, "h w"], view: View, bits: int
) -> Integer[np.ndarray, "h w"]:
    """Keep the bits from HighBit down, and extend their sign (PS3.5 8.1.1).

    Compressed samples have no other bits; shifting them up and down does not change them.
    """
    size = 8 * stored.itemsize
    high = int((view.numbers("HighBit") or (bits - 1.0,))[0])
    syntax = view.data.file_meta.TransferSyntaxUID
    compressed = syntax.is_encapsulated and syntax != RLE
    if compressed or not bits <= high + 1 <= size:
        high = bits - 1
    return (stored << (size - 1 - high)) >> (size - bits)


def _padding(
    stored: Integer[np.ndarray, "h w"], view: View, bits: int
) -> Bool[np.ndarray, "h w"] | None:
    """Find the pixels that are padding (PS3.3 C.7.5.1.1.2).

    Both attributes are often written with the wrong sign: 63536 in signed pixels is -2000. A
    padding value that does not fit into BitsStored also uses the unused bits.
    """
    ends = [view.numbers(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    signed, width = stored.dtype.kind == "i", max(16, 8 * stored.itemsize)
    low, high = sorted(_wrapped(int((end or ends[0])[0]), width, signed) for end in ends)
    fits = all(_wrapped(end, bits, signed) == end for end in (low, high))
    samples = _stored_bits(stored, view, bits) if fits else stored
    return (samples.astype(np.int64) >= low) & (samples.astype(np.int64) <= high)


def _wrapped(number: int, bits: int, signed: bool) -> int:
    """Read the lowest bits of a number as a sample with or without a sign."""
    rest = number & ((1 << bits) - 1)
    return rest - (1 << bits) if signed and rest >> (bits - 1) else rest


def _float_padding(values: Float[np.ndarray, "h w"], view: View) -> Bool[np.ndarray, "h w"] | None:
    for name in FLOATS.values():
        found = view.numbers(name)
        if found:
            end = view.numbers(name.replace("Value", "RangeLimit")) or found
            low, high = sorted(values.dtype.type(number[0]) for number in (found, end))
            return (values >= low) & (values <= high)
    return None


def _modality(
    values: Shaped[np.ndarray, "h w"], ends: Float[np.ndarray, "2"], view: View
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "2"], tuple[str, ...]]:
    """Apply the modality table, or slope and intercept, to pixels and to the ends of their range.

    Raises:
        Unusable: the table is damaged, or slope or intercept is not a number.
    """
    tables = view.get("ModalityLUTSequence")
    if tables and values.dtype.kind != "f":
        first, table = _table(tables[0], view)
        looked_up = table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)]
        return looked_up, np.array([table.min(), table.max()]), ()
    slope, intercept = view.number("RescaleSlope", 1.0), view.number("RescaleIntercept", 0.0)
    remarks = (SLOPE_ZERO,) if slope == 0 else ()
    slope = slope or 1.0
    return values * slope + intercept, ends * slope + intercept, remarks


def _table(item: Any, view: View) -> tuple[int, Float[np.ndarray, " entries"]]:
    """Read a table: the value of its first entry, and the entries (PS3.3 C.11.1.1)."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    signed = view.numbers("PixelRepresentation") == (1.0,)
    first = first - (1 << 16) if signed and first >= 1 << 15 else first
    raw, count = item.LUTData, count or 1 << 16
    if isinstance(raw, bytes):
        order = ">" if view.data.file_meta.TransferSyntaxUID == BIG_ENDIAN else "<"
        narrow = bits <= 8 and len(raw) < 2 * count
        entries = np.frombuffer(raw, np.uint8 if narrow else f"{order}u2")
    else:
        entries = np.atleast_1d(np.asarray(raw)) & 0xFFFF
    if len(entries) < count:
        raise Unusable(f"has a modality table of {len(entries)} entries, not {count}")
    return first, entries[:count].astype(float)
