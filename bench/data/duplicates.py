"""Exact and near copies among images, also between the parts of an official split."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image
from scipy.sparse import coo_matrix

from bench.data.prepare import FOREGROUND

THUMBNAIL = 32  # pixels along each side of the images that are correlated
# Correlation of two thumbnails above which one image is a near-copy of the other (resaved,
# rescaled, brightened); two slices of one patient correlate less.
NEAR = 0.999
# Correlation above which two images count as slices of one patient. On 914 MRI slices of 28 known
# patients it joined a quarter of the neighbouring slices and no two patients.
SIMILAR = 0.98
BLOCK = 1024  # rows of the correlation matrix held at once
SATURATED = 0.05  # fraction of pixels at the very maximum
MANY = 10  # with at least this many images, it is suspicious if all are similar
SAMPLED = 48  # side of larger images in pixels, above which only a sample of the pixels is examined
NEARLY_EMPTY = 0.02  # fraction of foreground


@dataclass(frozen=True)
class Copies:
    """What `examine` found.

    Attributes:
        clusters: pseudo-subject of each image, shared by similar images.
        findings: counts by name.
        notes: the important findings, in words.
        groups: indices of the images of each group of copies with images in several official parts.
    """

    clusters: list[str]
    findings: dict[str, int | float]
    notes: list[str]
    groups: list[list[int]]

    def crossing(self, names: list[str]) -> list[list[str]]:
        """Name the images of `groups`."""
        return [[names[i] for i in group] for group in self.groups]


def examine(
    images: Float32[np.ndarray, "n 1 h w"],
    digests: list[str],
    parts: list[str],
    together: Sequence[str] | None = None,
) -> Copies:
    """Find exact copies (same digest), near-copies and defective images.

    Args:
        images: magnitudes in [0, 1].
        digests: hash of each image's file or pixels.
        parts: official part of each image, or empty.
        together: name for each image; images of one name are of one person. Images that are
            merely similar are joined only if neither shares its name with another image: slices
            of two volumes at one height are similar too if the heads are aligned.
    """
    identical = np.unique(digests, return_inverse=True)[1]
    pairs, correlation = alike(thumbnails(images))
    near = join(identical, pairs[correlation > NEAR])
    findings = {
        "images": len(images),
        "exact_copies": len(digests) - len(set(digests)),
        "near_copies": len(digests) - len(set(near.tolist())),
        **_quality_counts(images),
    }
    notes, groups = [], []
    if findings["exact_copies"]:
        notes.append(
            f"{findings['exact_copies']} exact copies of another image; the split keeps copies "
            "together."
        )
    if parts:
        crossing = _crossing(identical, parts)
        groups = _crossing(near, parts)
        tests = sum(parts[i] == "test" for group in groups for i in group)
        findings |= {
            "exact_groups_across_parts": len(crossing),
            "near_groups_across_parts": len(groups),
            "test_images_with_a_near_copy_elsewhere": tests,
        }
        notes.append(
            f"The official split ({_counts(parts)}) is respected. {len(crossing)} groups of "
            f"identical images are in more than one part, {len(groups)} if near-copies count; "
            f"{tests} test images have a copy in another part."
        )
    persons = list(digests) if together is None else together
    labels, note = _guessed(identical, pairs, correlation, persons)
    notes += [note] if note else []
    return Copies(_names(labels, digests, together or ()), findings, notes, groups)


def _guessed(
    identical: Int64[np.ndarray, "n"],
    pairs: Int64[np.ndarray, "pairs 2"],
    correlation: Float32[np.ndarray, "pairs"],
    together: Sequence[str],
) -> tuple[Int64[np.ndarray, "n"], str]:
    """Group images that may be of one person; if all are similar, similarity is not used."""
    person, counts = np.unique(together, return_inverse=True, return_counts=True)[1:]
    alone = counts[person] == 1
    known = join(identical, _chains(person))
    near = correlation > NEAR
    labels = join(known, pairs[near | alone[pairs].all(1)])
    if len(known) < MANY or labels.max() > 0 or known.max() == 0:
        return labels, ""
    labels = join(known, pairs[near])
    kept = "near-copies"
    if labels.max() == 0:
        labels, kept = known, "identical files"
    return labels, (
        "All images are so similar that similarity says nothing about subjects: only slices of a "
        f"volume and {kept} are kept together."
    )


def thumbnails(images: Float32[np.ndarray, "n 1 h w"]) -> Float32[np.ndarray, "n pixels"]:
    """Shrink images and standardise them: mean 0, norm 1, so that products are correlations."""
    down, along = (_shrinking(side) for side in images.shape[2:])
    small = np.concatenate(
        [
            (down @ images[start : start + BLOCK, 0] @ along.T).reshape(-1, THUMBNAIL**2)
            for start in range(0, len(images), BLOCK)
        ]
    )
    small -= small.mean(1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    return small


def _shrinking(side: int) -> Float32[np.ndarray, "thumbnail side"]:
    """Write Pillow's antialiased bilinear resizing of a line as a matrix."""
    lines = Image.fromarray(np.eye(side, dtype=np.float32))
    return np.asarray(lines.resize((side, THUMBNAIL), Image.Resampling.BILINEAR))


def alike(
    thumbs: Float32[np.ndarray, "n pixels"], above: float = SIMILAR
) -> tuple[Int64[np.ndarray, "pairs 2"], Float32[np.ndarray, "pairs"]]:
    """List the pairs i < j of images correlated above a threshold, and their correlations."""
    pairs, values = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for start in range(0, len(thumbs), BLOCK):
        block = thumbs[start : start + BLOCK] @ thumbs[start:].T
        close = np.argwhere(block > above)
        close = close[close[:, 0] < close[:, 1]]
        pairs.append(close + start)
        values.append(block[close[:, 0], close[:, 1]])
    return np.concatenate(pairs), np.concatenate(values)


def join(
    labels: Int64[np.ndarray, "n"], pairs: Int64[np.ndarray, "pairs 2"]
) -> Int64[np.ndarray, "n"]:
    """Merge labelled groups that a pair connects; return the new label of each image."""
    from scipy.sparse.csgraph import connected_components  # 0.1 s, which every process would spend

    count = int(labels.max(initial=-1)) + 1
    edges = (np.ones(len(pairs), dtype=bool), (labels[pairs[:, 0]], labels[pairs[:, 1]]))
    merged = connected_components(coo_matrix(edges, shape=(count, count)), directed=False)[1]
    return merged[labels].astype(np.int64)


def _chains(labels: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "pairs 2"]:
    """Pair each image with the next one of the same label."""
    order = np.argsort(labels, kind="stable")
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    return pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]


def _names(
    labels: Int64[np.ndarray, "n"], digests: list[str], together: Sequence[str] = ()
) -> list[str]:
    """Name each group, independently of the order of the images.

    If all images of a group share one name, that is its name; otherwise, or if it is a single
    image, the name is made from the smallest digest.
    """
    first: dict[int, str] = {}
    for label, digest in sorted(zip(labels.tolist(), digests, strict=True)):
        first.setdefault(label, f"like-{digest[:16]}")
    members: dict[int, list[str]] = defaultdict(list)
    for label, name in zip(labels.tolist(), together, strict=False):
        members[label].append(name)
    first |= {
        label: names[0]
        for label, names in members.items()
        if len(names) > 1 and len(set(names)) == 1
    }
    return [first[label] for label in labels.tolist()]


def _crossing(labels: Int64[np.ndarray, "n"], parts: list[str]) -> list[list[int]]:
    """List the groups that have images in more than one official part."""
    members: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels.tolist()):
        members[label].append(position)
    return [group for group in members.values() if len({parts[i] for i in group}) > 1]


def _quality_counts(images: Float32[np.ndarray, "n 1 h w"]) -> dict[str, int | float]:
    """Count saturated and nearly empty images; measure the foreground."""
    step = max(1, images.shape[-1] // SAMPLED)
    flat = images[:, 0, ::step, ::step].reshape(len(images), -1)
    tops = (flat == images.max(axis=(1, 2, 3))[:, None]).mean(axis=1)
    shown = (flat > FOREGROUND).mean(axis=1)
    return {
        "saturated": int((tops > SATURATED).sum()),
        "nearly_empty": int((shown < NEARLY_EMPTY).sum()),
        "foreground_median": round(float(np.median(shown)), 3),
    }


def _counts(parts: list[str]) -> str:
    return ", ".join(f"{part} {count}" for part, count in sorted(Counter(parts).items()))
