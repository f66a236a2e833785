"""From a volume in scanner units to square images in [0, 1]: scaled, never distorted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from bench.data.nan import filled, has_faults, is_finite
from bench.data.pairs import Pair, pair_of
from bench.data.square import Fit, square_shape, to_square
from bench.data.volume import NoImage, Plane, Span, Unusable, Volume, Window, span_of
from bench.errors import UserError

Normalisation = Literal["auto", "per_volume_max", "per_image_max", "percentile", "window"]

FOREGROUND = 0.05  # a pixel brighter than this is foreground, for images in [0, 1]
SOFT_TISSUE = (40.0, 400.0)  # HU; the window of the AAPM low-dose CT challenge
# Interpolation undershoots a little below 0; a value further below is not a magnitude.
UNDERSHOOT = 0.1
# The same for 1 % of the pixels, relative to a size that metal and hot pixels do not change.
BELOW = 0.05
HOT = 3.0  # a maximum so many times the 99.9th percentile is due to hot pixels
CONTRAST = 0.25  # whole numbers that use a smaller share of their range are coded with an offset
EIGHT_BITS = 255.0  # full scale of pictures whose values are kept
MIN_SIDE = 16  # pixels; smaller pictures are icons
MIN_FOREGROUND = 0.1  # for slices of a volume; a single picture may show little
BLANK, EMPTY = "blank images", "nearly empty slices"
BETWEEN = "slices between the steps of dataset.step"
SMALL = f"images of less than {MIN_SIDE} pixels a side"
HOT_PIXELS, NAN_OUTSIDE = "hot_pixels_clipped", "nan_outside"


@dataclass(frozen=True)
class Prepared:
    """The images of a volume, and how they were made.

    Attributes:
        images: number of the slice -> image, square, in [0, 1].
        dropped: number of the slice -> kind, for slices that are not images or between steps.
        rule: what became 0 and 1, in words.
        span: the range of the values.
        marks: what was noticed, counted by image.
        faulty: number of the slice -> why it cannot be used, if slices of other files can.
        pairs: number of the slice -> what was measured of it, if the dataset brings it.
    """

    images: dict[int, Float32[np.ndarray, "size size"]]
    dropped: dict[int, str]
    rule: str
    span: Span
    marks: tuple[str, ...] = ()
    faulty: Mapping[int, str] = field(default_factory=dict)
    pairs: Mapping[int, Pair] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """The values that become 0 and 1, and the rule in words."""

    low: float
    high: float
    rule: str


@dataclass(frozen=True)
class Preparation:
    """How slices become images.

    Attributes:
        size: side of the images, in pixels.
        normalisation: what becomes 1: the maximum of the volume, the maximum of each image, a
            percentile of the volume, or the upper end of a window. `auto`: the soft-tissue window
            if the file states Hounsfield units, the full scale of 8-bit pictures, else the
            maximum of the volume, or the 99.9th percentile if the maximum is due to hot pixels.
        window: centre and width in the units of the data (HU for CT), or `file`: the first window
            that each file states.
        scale: the two values that become 0 and 1.
        percentile: the percentile that becomes 1; brighter values are clipped.
        nan: replaces values that are NaN or infinite. Without it, NaN that is connected to the
            border counts as outside, and any other is refused.
        fit: pad the shorter side with zeros, or crop the longer one, both centred.
        min_foreground: slices with a smaller fraction of foreground (pixels above 0.05 after
            normalisation) count as empty and are dropped; by default 0.1, and 0 for a picture
            that is not a slice of a volume.
        step: every `step`-th slice is taken.
    """

    size: int
    normalisation: Normalisation = "auto"
    window: Window | Literal["file"] | None = None
    scale: tuple[float, float] | None = None
    percentile: float = 99.5
    nan: float | None = None
    fit: Fit = "pad"
    min_foreground: float | None = None
    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1:
            raise UserError(f"dataset.step: {self.step} is below 1")
        if self.normalisation == "window" and self.window is None:
            raise UserError(
                "dataset.normalisation: window and dataset.window go together; give the window, "
                "e.g. window: [40, 400]"
            )
        if self.window is not None and self.normalisation not in ("auto", "window"):
            raise UserError(
                f"dataset.normalisation: {self.normalisation} and dataset.window do not go "
                "together; drop one of them"
            )
        if self.scale is not None and (
            self.window is not None or self.normalisation not in ("auto", "per_volume_max")
        ):
            raise UserError(
                "dataset.scale says what becomes 0 and 1; drop dataset.window and "
                "dataset.normalisation"
            )
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise UserError(f"dataset.scale: {self.scale[0]:g} is not below {self.scale[1]:g}")
        if isinstance(self.window, tuple) and self.window[1] <= 0:
            raise UserError(f"dataset.window: the width {self.window[1]:g} is not positive")
        if not 0 < self.percentile <= 100:
            raise UserError(f"dataset.percentile: {self.percentile:g} is not in (0, 100]")

    def __call__(self, volume: Volume) -> Prepared:
        """Scale a volume and make images of its slices.

        Raises:
            NoImage: every slice is blank, nearly empty or tiny.
            Unusable: NaN inside, infinite values, or values that cannot be scaled without an
                option; the reason names it.
        """
        planes, faulty, marks = self._usable(volume.planes)
        apart = all(plane.file is not None for plane in volume.planes)
        if faulty and (not apart or len(faulty) == len(volume.planes)):
            raise Unusable(next(iter(faulty.values())))
        span = volume.span or span_of(filter(None, planes), quick=volume.full_scale == EIGHT_BITS)
        scale = self.scale_of(volume, span)
        least = self._least(volume)
        images: dict[int, Float32[np.ndarray, "size size"]] = {}
        dropped: dict[int, str] = {}
        for number, plane in enumerate(planes):
            if plane is None:
                continue
            if number % self.step:
                dropped[number] = BETWEEN
                continue
            scaled = self._scaled(plane, scale, volume)
            kind = self._defect(scaled, plane.spacing, least)
            if kind is None:
                image = to_square(scaled, self.size, plane.spacing, self.fit)
                kind = BLANK if np.ptp(image) == 0 else None
            if kind is None:
                images[number] = image
            else:
                dropped[number] = kind
        if not images:
            raise _no_image(dropped.values(), least)
        if scale.high < span.high and scale.rule.endswith(HOT_RULE):
            marks.append(HOT_PIXELS)
        return Prepared(images, dropped, scale.rule, span, tuple(marks), faulty)

    def pair(self, volume: Volume, made: Prepared, other: Volume) -> Prepared:
        """Add what was measured of a volume, scaled exactly as its images.

        Raises:
            Unusable: it does not have the same slices of the same size, or holds NaN.
        """
        if len(other.planes) != len(volume.planes):
            raise Unusable(
                f"has {len(volume.planes)} slices, and its measurement {other.name} has "
                f"{len(other.planes)}"
            )
        if (other.full_scale == EIGHT_BITS) != (volume.full_scale == EIGHT_BITS):
            raise Unusable(f"only one of it and its measurement {other.name} has 8 bits")
        scale = self.scale_of(volume, made.span)
        pairs: dict[int, Pair] = {}
        for number in made.images:
            plane, measured = volume.planes[number], other.planes[number].values
            if measured.shape != plane.values.shape:
                its, own = ("x".join(map(str, each.shape)) for each in (measured, plane.values))
                raise Unusable(f"has {own} pixels, and its measurement {other.name} has {its}")
            if not is_finite(measured):
                raise Unusable(f"its measurement {other.name} holds NaN or infinite values")
            low, high = self._ends(plane, scale)
            scaled = (measured - np.float32(low)) / np.float32(high - low)
            scaled = 1 - scaled if volume.inverted else scaled
            square = to_square(scaled, self.size, plane.spacing, self.fit)
            pairs[number] = pair_of(plane.values, measured, square)
        return replace(made, pairs=pairs)

    def scale_of(self, volume: Volume, span: Span) -> Scale:
        """Choose what becomes 0 and 1.

        Raises:
            NoImage: all values are the same.
            Unusable: values that cannot be scaled without an option.
        """
        if self.scale is not None:
            return Scale(*self.scale, f"{self.scale[0]:g} to {self.scale[1]:g} (dataset.scale)")
        if self.window == "file":
            return Scale(0.0, 1.0, "the file's own window")
        if span.low == span.high:
            raise NoImage(BLANK, "is constant")
        window = self.window
        if window is None and volume.units == "HU" and self.normalisation == "auto":
            window = SOFT_TISSUE
        if window is not None:
            low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
            return Scale(low, high, f"{low:g} to {high:g}{f' {volume.units}'.rstrip()}")
        if volume.full_scale is not None and self.normalisation == "auto":
            _refuse_offset(span, volume.full_scale)
            return Scale(0.0, volume.full_scale, f"0 to {volume.full_scale:g}, the full scale")
        _refuse_negative(span)
        if self.normalisation == "per_image_max":
            return Scale(0.0, span.high, "0 to the maximum of each image")
        if self.normalisation == "percentile":
            values = np.concatenate([plane.values.ravel() for plane in volume.planes])
            top = float(np.nanpercentile(values, self.percentile))
            top = top if top > 0 else span.high
            return Scale(0.0, top, f"0 to the {self.percentile:g}th percentile of the volume")
        if self.normalisation == "auto":
            _refuse_offset(span, span.high)
            if span.bright > 0 and span.high > HOT * span.bright:
                return Scale(0.0, span.bright, HOT_RULE)
        return Scale(0.0, span.high, "0 to the maximum of the volume")

    def _usable(
        self, planes: Sequence[Plane]
    ) -> tuple[list[Plane | None], dict[int, str], list[str]]:
        """Replace NaN by the user's value, or treat it as outside.

        Returns:
            the slices, None for faulty ones (without the requested window, or with NaN that is not
            outside); what is wrong with these; and marks.
        """
        made: list[Plane | None] = []
        faulty: dict[int, str] = {}
        marks: list[str] = []
        for number, plane in enumerate(planes):
            if self.window == "file" and (plane.window is None or plane.window[1] <= 0):
                faulty[number] = "states no window; write dataset.window: [centre, width]"
                made.append(None)
            elif is_finite(plane.values):
                made.append(plane)
            elif self.nan is not None:
                made.append(replace(plane, values=filled(plane.values, self.nan)))
            elif has_faults(plane.values):
                faulty[number] = "holds NaN or infinite values; dataset.nan: 0 replaces them by 0"
                made.append(None)
            else:
                bad = np.isnan(plane.values)
                outside = bad if plane.outside is None else bad | plane.outside
                made.append(replace(plane, values=filled(plane.values, 0.0), outside=outside))
                marks = [NAN_OUTSIDE]
        return made, faulty, marks

    def _scaled(self, plane: Plane, scale: Scale, volume: Volume) -> Float32[np.ndarray, "h w"]:
        low, high = self._ends(plane, scale)
        scaled = plane.values - np.float32(low)
        scaled /= np.float32(high - low)
        if volume.inverted:
            scaled = 1 - scaled
        np.clip(scaled, 0, 1, out=scaled)
        if plane.outside is not None:
            scaled[plane.outside] = 0
        return scaled

    def _ends(self, plane: Plane, scale: Scale) -> tuple[float, float]:
        """Return the values of a slice that become 0 and 1."""
        if self.window == "file":
            assert plane.window is not None
            return plane.window[0] - plane.window[1] / 2, plane.window[0] + plane.window[1] / 2
        if self.normalisation == "per_image_max":
            shown = plane.values if plane.outside is None else plane.values[~plane.outside]
            return scale.low, max(float(shown.max(initial=0.0)), float(np.finfo(np.float32).tiny))
        return scale.low, scale.high

    def unclipped(self, volume: Volume) -> tuple[list[Plane], list[tuple[float, float]], Scale]:
        """Choose what becomes 0 and 1 in each slice of a volume, without leaving any slice out.

        Returns:
            the slices, NaN replaced; the values of each that become 0 and 1; the rule.

        Raises:
            NoImage: all values are the same.
            Unusable: see `__call__`.
        """
        usable, faulty, _ = self._usable(volume.planes)
        if faulty:
            raise Unusable(next(iter(faulty.values())))
        planes = [plane for plane in usable if plane is not None]
        span = volume.span or span_of(planes, quick=volume.full_scale == EIGHT_BITS)
        scale = self.scale_of(volume, span)
        return planes, [self._ends(plane, scale) for plane in planes], scale

    def _least(self, volume: Volume) -> float:
        if self.min_foreground is not None:
            return self.min_foreground
        return MIN_FOREGROUND if len(volume.planes) > 1 else 0.0

    def _defect(
        self, scaled: Float32[np.ndarray, "h w"], spacing: tuple[float, float], least: float
    ) -> str | None:
        """Return the kind of a slice that is not an image; None for an image."""
        if np.ptp(scaled) == 0:
            return BLANK
        if min(square_shape(scaled.shape, spacing)) < MIN_SIDE:
            return SMALL
        return EMPTY if least > 0 and foreground(scaled) < least else None


HOT_RULE = "0 to the 99.9th percentile of the volume, since single pixels are far brighter"


def _no_image(dropped: Collection[str], least: float) -> NoImage:
    kind = next(kind for kind in (SMALL, EMPTY, BLANK) if kind in dropped)
    why = {
        BLANK: "holds only blank slices: all values are the same after scaling to [0, 1]",
        EMPTY: f"holds only empty slices (less than {least:.0%} foreground each); lower "
        "dataset.min_foreground",
        SMALL: f"is smaller than {MIN_SIDE} pixels a side",
    }
    return NoImage(kind, why[kind])


def _refuse_negative(span: Span) -> None:
    below = span.low < -UNDERSHOOT * span.high or span.floor < -BELOW * span.usual
    if span.high <= 0 or below:
        raise Unusable(
            f"has values from {span.low:g} to {span.high:g}, which are not magnitudes; if they are "
            "Hounsfield units, write dataset.window: [40, 400] (centre and width), else "
            "dataset.scale: [low, high], the values that become 0 and 1; dataset.exclude leaves "
            "files out"
        )


def _refuse_offset(span: Span, full: float) -> None:
    """Refuse whole numbers in a small part of their range, such as CT coded with an offset."""
    used = span.high - span.floor
    if full > EIGHT_BITS and span.whole and 0 < used < CONTRAST * span.high:
        raise Unusable(
            f"has almost all nonzero values between {span.floor:g} and {span.high:g}: CT coded "
            "with an offset, or an inverted image; write dataset.scale: "
            f"[{span.floor:g}, {span.high:g}], the values that become 0 and 1, or "
            "dataset.window: [centre, width]"
        )


def foreground(image: Float32[np.ndarray, "..."]) -> float:
    """Measure the fraction of foreground pixels, for values in [0, 1]."""
    return float((image > FOREGROUND).mean())
