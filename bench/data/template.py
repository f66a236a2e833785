"""Synthetic brain slices derived from the ICBM152 template, which nilearn provides.

Each subject is the 1 mm T1 template with its grey- and white-matter maps (Fonov et al., NeuroImage
54, 2011), smoothly deformed, given a T1-, T2- or PD-like contrast, a bias field and sometimes
small lesions. Subject k does not depend on how many are made. The images are for trying methods
without scans; they are not scans, and findings on them must be confirmed on real images.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import map_coordinates, zoom

from bench.data.base import Audit, Dataset
from bench.data.square import to_square
from bench.errors import UserError
from bench.ranges import Count, CountFrom0
from bench.seeds import derive_seed

# Signal of CSF, grey and white matter, as in routine protocols; varied by subject.
CONTRASTS = {"T1": (0.18, 0.60, 0.95), "T2": (1.00, 0.58, 0.38), "PD": (0.90, 0.80, 0.62)}
LESION_SIGNAL = {"T1": 0.45, "T2": 0.95, "PD": 0.95}
# How far the template's own detail, T1-weighted, carries over to a contrast.
DETAIL = {"T1": 1.2, "T2": -0.8, "PD": -0.4}
AXIAL_RANGE = (62, 122)  # slices through the cerebrum, in mm from the bottom of the template
COARSE = 4  # the deformation is smooth: evaluated every 4 mm, interpolated between
# Spacing of the control points of the deformation, and its standard deviation, in mm.
WARPS = ((60.0, 5.0), (14.0, 1.4))


@dataclass(frozen=True)
class Anatomy:
    """The template on its 1 mm grid: tissue fractions, and the T1 detail they do not explain."""

    csf: Float32[np.ndarray, "x y z"]
    grey: Float32[np.ndarray, "x y z"]
    white: Float32[np.ndarray, "x y z"]
    detail: Float32[np.ndarray, "x y z"]


def make(
    path: str | None,
    image_size: int,
    *,
    subjects: Count = 120,
    slices_per_subject: Count = 2,
    first_subject: CountFrom0 = 0,
) -> Dataset:
    """Make axial slices of synthetic subjects.

    Args:
        path: not used; must be None.
        image_size: side of the prepared images, in pixels.
        subjects: number of synthetic subjects.
        slices_per_subject: slices of each, evenly spaced through the cerebrum; at most one a mm.
        first_subject: number of the first; other numbers are other subjects, for instance to
            confirm on images that played no part in the design of a method.

    Raises:
        UserError: a path is given, numbers below 1, or more slices than the cerebrum has.
    """
    if path is not None:
        raise UserError("dataset.path: the source 'template' reads no files; drop the path")
    if subjects < 1 or slices_per_subject < 1:
        raise UserError("dataset.subjects and dataset.slices_per_subject are at least 1")
    most = AXIAL_RANGE[1] - AXIAL_RANGE[0]
    if slices_per_subject > most:
        raise UserError(
            f"dataset.slices_per_subject: {slices_per_subject} is more than the {most} distinct "
            "slices of a subject; raise dataset.subjects instead"
        )
    names = [f"template-{number:04d}" for number in range(first_subject, first_subject + subjects)]
    _anatomy()
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda name: _subject(name, image_size, slices_per_subject), names))
    images = np.stack([image for slices in made for image in slices.values()])[:, None]
    ids = [
        f"{name}/slice-{z:03d}" for name, slices in zip(names, made, strict=True) for z in slices
    ]
    audit = Audit(
        notes=[
            f"Images are template-derived: {subjects} synthetic subjects made from the ICBM152 "
            "brain template by random deformation, contrast, bias field and lesions. They are not "
            "scans of patients; confirm findings on real images."
        ],
        badges=["template-derived"],
    )
    return Dataset(images, ids, [id_.partition("/")[0] for id_ in ids], audit)


@cache
def _anatomy() -> Anatomy:
    """Load the template and its tissue maps."""
    from nilearn import datasets  # takes seconds to import

    t1, grey, white = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    )
    t1 = t1 / t1.max()
    brain = t1 > 0
    csf = np.where(brain, (1 - grey - white).clip(0, 1), 0).astype(np.float32)
    # The maps average 152 brains; squaring the fractions restores borders as sharp as one brain's.
    sharp = np.stack([csf, grey, white]) ** 2
    sharp *= np.minimum(1, csf + grey + white) / np.maximum(sharp.sum(0), 1e-6)
    means = np.linalg.lstsq(sharp[:, brain].T, t1[brain], rcond=None)[0]
    detail = np.where(brain, t1 - np.tensordot(means, sharp, 1), 0).astype(np.float32)
    csf, grey, white = sharp.astype(np.float32)
    return Anatomy(csf, grey, white, detail)


def _subject(name: str, size: int, count: int) -> dict[int, Float32[np.ndarray, "size size"]]:
    """Make a subject's slices, by the height of each in mm; its maximum over them is 1."""
    rng = np.random.default_rng(derive_seed("template", name))
    spacing = (AXIAL_RANGE[1] - AXIAL_RANGE[0]) / count
    first = AXIAL_RANGE[0] + rng.uniform(0, spacing)
    heights = [int(first + k * spacing) for k in range(count)]
    shape = _anatomy().grey.shape
    warp = _Warp(rng, shape)
    look = _Look(rng, heights)
    planes = {z: look(warp.plane(z), shape) for z in heights}
    top = max(float(plane.max()) for plane in planes.values())
    return {z: to_square(plane / top, size).clip(0, 1) for z, plane in planes.items()}


class _Warp:
    """A smooth random deformation of space: rotation and scale, then displacements, in mm."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]):
        self.shape = np.array(shape)
        angles = np.deg2rad(rng.normal(0, [4, 4, 6]))
        self.matrix = _rotation(angles) @ np.diag(rng.normal(1, 0.04, 3))
        self.fields = [
            (spacing, rng.normal(0, strength, (3, *np.ceil(self.shape / spacing).astype(int) + 3)))
            for spacing, strength in WARPS
        ]

    def plane(self, z: int) -> Float[np.ndarray, "3 x y"]:
        """Compute the template coordinates of each pixel of an axial plane."""
        width, height = self.shape[:2]
        coarse = np.stack(
            np.meshgrid(
                np.linspace(0, width - 1, width // COARSE),
                np.linspace(0, height - 1, height // COARSE),
                [float(z)],
                indexing="ij",
            )
        )
        centre = (self.shape[:, None] - 1) / 2
        moved = self.matrix @ (coarse.reshape(3, -1) - centre) + centre
        for spacing, field in self.fields:
            points = coarse.reshape(3, -1) / spacing + 1
            moved += np.stack([map_coordinates(axis, points, order=3) for axis in field])
        planes = moved.reshape(coarse.shape)[..., 0]
        factors = (1, width / planes.shape[1], height / planes.shape[2])
        return zoom(planes, factors, order=1, grid_mode=False)


class _Look:
    """How a subject's tissue looks: contrast, bias field and lesions, one draw for all slices."""

    def __init__(self, rng: np.random.Generator, heights: list[int]):
        self.contrast = str(rng.choice(list(CONTRASTS)))
        self.signal = np.array(CONTRASTS[self.contrast]) * rng.normal(1, 0.06, 3)
        self.detail = DETAIL[self.contrast] * rng.uniform(0.7, 1.2)
        self.bias = rng.normal(0, 0.12, 9)
        self.lesions = [
            (_lesion_centre(rng, heights), rng.uniform(2, 6), rng.uniform(0.6, 1.0))
            for _ in range(rng.poisson(0.8))
        ]

    def __call__(
        self, points: Float[np.ndarray, "3 x y"], shape: tuple[int, ...]
    ) -> Float32[np.ndarray, "rows columns"]:
        """Render the plane that lies at these template coordinates, front of the head up."""
        anatomy = _anatomy()
        csf, grey, white, detail = (
            map_coordinates(volume, points, order=1)
            for volume in (anatomy.csf, anatomy.grey, anatomy.white, anatomy.detail)
        )
        image = np.tensordot(self.signal, np.stack([csf, grey, white]), 1) + self.detail * detail
        brain = csf + grey + white
        for centre, radius, strength in self.lesions:
            distance = np.linalg.norm(points - centre[:, None, None], axis=0)
            blob = strength * brain * np.exp(-((distance / radius) ** 4))
            image += blob * (LESION_SIGNAL[self.contrast] - image)
        return (image * self._bias(points, shape)).clip(0).T[::-1].astype(np.float32)

    def _bias(
        self, points: Float[np.ndarray, "3 x y"], shape: tuple[int, ...]
    ) -> Float[np.ndarray, "x y"]:
        """Exponential of a random polynomial of second degree in the position."""
        x, y, z = (2 * axis / length - 1 for axis, length in zip(points, shape, strict=True))
        terms = np.stack([x, y, z, x * y, x * z, y * z, x * x, y * y, z * z])
        return np.exp(np.tensordot(self.bias, terms, 1))


def _lesion_centre(rng: np.random.Generator, heights: list[int]) -> Float[np.ndarray, "3"]:
    """Draw a point of white matter close to one of the subject's slices."""
    z = int(rng.choice(heights)) + int(rng.integers(-3, 4))
    inside = np.argwhere(_anatomy().white[:, :, z] > 0.9)
    x, y = inside[rng.integers(len(inside))]
    return np.array([x, y, z], dtype=float)


def _rotation(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Compose rotations about the three axes."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        one[[i, j, i, j], [i, j, j, i]] = (
            np.cos(angle),
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
        )
        matrix = one @ matrix
    return matrix
