"""Which axis of a bare array counts what: rows, columns, slices, coils, or further images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Complex, Shaped

from bench.data.channels import APART, Similarity, compare
from bench.data.volume import Unusable

LETTERS = "tschw"
MEANING = "t(ime, any further images), s(lice), c(oil), h(eight), w(idth)"
MIN_SIDE = 16  # pixels; smaller arrays are not images
COLOURS = (3, 4)  # length of an axis of red, green, blue and possibly transparency
FEW = 2  # an axis this many times shorter than the others counts coils or slices
# In three-dimensional k-space, the middle plane has this many times the median energy of the
# others; slices differ far less.
PEAKED, PLANES = 30, 8

FIXED = "dataset.axes names another order."


class Unclear(Unusable):
    """The data do not show whether an axis counts coils or slices.

    Attributes:
        channels: the k-space in question, (channels, 1, h, w).
    """

    def __init__(self, reason: str, channels: np.ndarray):
        super().__init__(reason)
        self.channels = channels


def ordered(
    array: Shaped[np.ndarray, "..."], letters: str
) -> Shaped[np.ndarray, "time slices coils h w"]:
    """Bring the axes into the order time, slices, coils, height, width.

    Raises:
        Unusable: the letters do not fit the array, or its images are tiny.
    """
    if len(letters) != array.ndim or len(set(letters)) < len(letters) or set(letters) - {*LETTERS}:
        raise Unusable(
            f"has shape {array.shape}, which dataset.axes: {letters!r} does not describe; write "
            f"one letter for each axis: {MEANING}"
        )
    if not {*"hw"} <= {*letters}:
        raise Unusable(f"needs an h and a w in dataset.axes, which is {letters!r}")
    missing = [letter for letter in LETTERS if letter not in letters]
    whole = "".join(missing) + letters
    array = array.reshape((1,) * len(missing) + array.shape)
    result = array.transpose([whole.index(letter) for letter in LETTERS])
    if min(result.shape[3:]) < MIN_SIDE:
        raise Unusable(
            f"has shape {array.shape[len(missing) :]}: images of {result.shape[3]}x"
            f"{result.shape[4]} pixels, smaller than {MIN_SIDE}; see dataset.axes"
        )
    return result


def squeezed(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Drop axes of length 1 while the rank is too high."""
    surplus = max(0, array.ndim - len(LETTERS))
    ones = [axis for axis, length in enumerate(array.shape) if length == 1]
    return array.squeeze(tuple(ones[:surplus]))


def of_images(shape: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
    """Name the axes of images, with a remark where the choice is ambiguous.

    Returns:
        one letter for each axis, and remarks.

    Raises:
        Unusable: the shape does not determine the axes.
    """
    kept = [length for length in shape if length > 1]
    if len(kept) < 2:
        raise Unusable(f"has rank {len(shape)} (shape {shape}); images need two axes or more")
    if len(kept) > 2 and kept[-1] in COLOURS and shape[-1] in COLOURS:
        raise Unusable(
            f"has shape {shape}, as colour pictures do; store grey images, or, if the last axis "
            f"counts slices, set dataset.axes: {example(shape, 'ts')}"
        )
    if len(kept) == 2:
        return _filled(shape, "hw"), ()
    if len(kept) > 3:
        raise Unusable(_ambiguous_axes(shape, "ts"))
    first, second, last = kept
    if last < min(first, second) and (first == second or FEW * last < min(first, second)):
        letters = _filled(shape, "hws")
        return letters, (f"The last axis counts slices (dataset.axes: {letters}); {FIXED}",)
    letters = _filled(shape, "shw")
    if first < min(second, last):
        return letters, (f"The first axis counts slices (dataset.axes: {letters}); {FIXED}",)
    return letters, (
        "Shapes do not show which axis counts slices; the first was taken (dataset.axes: "
        f"{letters}); {FIXED}",
    )


def of_kspace(
    array: Complex[np.ndarray, "..."],
) -> tuple[str, tuple[str, ...]]:
    """Name the axes of k-space, from the shape and from the similarity of its images.

    Returns:
        one letter for each axis, and remarks.

    Raises:
        Unclear: it may be coils or slices.
        Unusable: other ranks.
    """
    shape = array.shape
    kept = [length for length in shape if length > 1]
    if len(kept) < 2:
        raise Unusable(f"has rank {len(shape)} (shape {shape}); k-space needs two axes or more")
    plain = array.reshape(kept)
    if len(kept) == 2:
        return _filled(shape, "hw"), ()
    if len(kept) == 3:
        letters, remark = _of_three(plain, shape)
    elif len(kept) == 4:
        letters, remark = _of_four(plain, shape)
    else:
        raise Unusable(_ambiguous_axes(shape, "tsc"))
    return _filled(shape, letters), (remark,)


def _of_three(array: Complex[np.ndarray, "a b c"], shape: tuple[int, ...]) -> tuple[str, str]:
    """Judge whether the axis beside rows and columns counts coils or images."""
    last = FEW * array.shape[2] < min(array.shape[:2])
    form, where = ("hw{}", "last") if last else ("{}hw", "first")
    channels = np.moveaxis(array, 2, 0) if last else array
    _check_side(channels, shape, _filled(shape, form.format("s")))
    verdict = compare(channels).verdict
    coils, slices = (_filled(shape, form.format(letter)) for letter in "cs")
    if verdict != "coils":
        _check_planes(channels, shape, slices)
    if verdict == "unclear":
        raise Unclear(
            f"has shape {shape}, whose {where} axis may count coils or slices, and the data do "
            f"not show which: set dataset.axes: {coils} for coils, or {slices} for slices "
            "or repeats",
            channels[:, None],
        )
    if verdict == "coils":
        return form.format("c"), (
            f"The {where} axis of the k-space counts coils (dataset.axes: {coils}), because its "
            f"images differ by smooth factors only; {FIXED}"
        )
    return form.format("s"), (
        f"The {where} axis of the k-space counts slices or repeats of a single coil "
        f"(dataset.axes: {slices}), because its images differ in detail or are nearly equal; "
        f"{FIXED}"
    )


def _of_four(array: Complex[np.ndarray, "a b c d"], shape: tuple[int, ...]) -> tuple[str, str]:
    """Find rows and columns by their length, and judge the other two axes."""
    form = _form(array.shape)
    axes = [axis for axis, letter in enumerate(form) if letter == "?"]
    channels = [
        np.moveaxis(array.take(array.shape[other] // 2, other), axis - (other < axis), 0)
        for axis, other in (axes, axes[::-1])
    ]
    _check_side(channels[0], shape, _filled(shape, form.replace("?", "s", 1).replace("?", "c")))
    found = [compare(each) for each in channels]
    letters = _pair(found)
    how = "because of the similarity of its images"
    surely_slices = found[1].verdict == "images" and found[1].overall > APART
    if letters is None and form != "hw??" and not surely_slices:
        letters, how = "sc", "the usual order, because the data do not show it"
    named = [_name(form, pair) for pair in ("sc", "cs")]
    if letters is None:
        first, second = (_filled(shape, name) for name in named)
        raise Unclear(
            f"has shape {shape}, and the data do not show which axis counts coils and which "
            f"slices: set dataset.axes, for example to {first} or {second}",
            channels[0][:, None],
        )
    spelt = _name(form, letters)
    return spelt, f"The k-space is read as dataset.axes: {_filled(shape, spelt)}, {how}; {FIXED}"


def _pair(found: Sequence[Similarity]) -> str | None:
    """Name two axes by the similarity along each; None if that is ambiguous."""
    verdicts = [each.verdict for each in found]
    if verdicts.count("coils") == 1 and "unclear" not in verdicts:
        return "cs" if verdicts[0] == "coils" else "sc"
    if verdicts == ["images", "images"]:
        # Repeats are more alike than slices.
        return "ts" if found[0].overall > found[1].overall else "st"
    return None


def _form(shape: tuple[int, ...]) -> str:
    """Locate rows and columns among four axes: at the end, unless the last ones are short."""
    if FEW * max(shape[2:]) < min(shape[:2]):
        return "hw??"
    return "?hw?" if FEW * shape[3] < min(shape[1:3]) else "??hw"


def _name(form: str, letters: str) -> str:
    for letter in letters:
        form = form.replace("?", letter, 1)
    return form


def _check_side(channels: np.ndarray, shape: tuple[int, ...], letters: str) -> None:
    """Refuse images that are too small, before their details are compared."""
    if min(channels.shape[1:]) < MIN_SIDE:
        raise Unusable(
            f"has shape {shape}: read as dataset.axes: {letters}, its images have "
            f"{channels.shape[1]}x{channels.shape[2]} pixels, fewer than {MIN_SIDE} a side; "
            f"name the axes, {MEANING}"
        )


def _check_planes(
    channels: Complex[np.ndarray, "n h w"], shape: tuple[int, ...], letters: str
) -> None:
    """Refuse k-space in three dimensions, whose planes are not slices."""
    energy = (np.abs(channels) ** 2).sum((1, 2), dtype=np.float64)
    peak, count = int(energy.argmax()), len(energy)
    central = peak == 0 or abs(peak - count // 2) <= 1
    if count >= PLANES and central and energy[peak] > PEAKED * np.median(energy):
        raise Unusable(
            f"has shape {shape} and looks like k-space in three dimensions, whose planes are not "
            "slices; apply the inverse Fourier transform along the third one first, or, if they "
            f"are slices, set dataset.axes: {letters}"
        )


def _filled(shape: tuple[int, ...], letters: str) -> str:
    """Spread the letters over the axes longer than 1, and unused ones over the others."""
    unused = iter([letter for letter in "cst" if letter not in letters])
    wanted = iter(letters)
    return "".join(next(wanted if length > 1 else unused, "?") for length in shape)


def _ambiguous_axes(shape: tuple[int, ...], letters: str) -> str:
    fitting = example(shape, letters)
    if "?" in fitting:
        return (
            f"has rank {len(shape)} (shape {shape}), which is too high; save it with at most "
            f"{len(letters) + 2} axes"
        )
    return (
        f"has rank {len(shape)} (shape {shape}), whose axes are ambiguous; name them with "
        f"dataset.axes: {fitting}, for example, one letter for each: {MEANING}"
    )


def example(shape: tuple[int, ...], letters: str) -> str:
    """Write axes that fit a shape: its two longest adjacent axes are rows and columns.

    Args:
        shape: shape of the array.
        letters: what the other axes may count, in NumPy's order; `c` is used in addition where an
            axis has length 1. A question mark in the result means that the letters do not suffice.
    """
    start = max(range(len(shape) - 1), key=lambda axis: (min(shape[axis : axis + 2]), axis))
    names = {start: "h", start + 1: "w"}
    others = [axis for axis in range(len(shape)) if axis not in names]
    alone = [axis for axis in others if shape[axis] == 1]
    if len(others) > len(letters) and alone and "c" not in letters:
        names[alone[0]] = "c"
        others.remove(alone[0])
    fitting = letters if len(others) >= len(letters) else letters.lstrip("t")
    # MATLAB's axes are in the opposite order.
    unused = iter(fitting[::-1] if start == 0 else fitting)
    names |= {axis: next(unused, "?") for axis in others}
    return "".join(names[axis] for axis in range(len(shape)))
