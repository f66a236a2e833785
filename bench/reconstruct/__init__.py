"""Reconstruct files with a method of a run, headers and geometry kept.

What is given are measurements: noisy or blurred images, or undersampled k-space. `degrade` takes
images instead and degrades them first, to try a method.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float32
from torch.nn.functional import interpolate

from bench import data, metrics
from bench.data import sources
from bench.data.prepare import Preparation
from bench.data.volume import NoImage, Unusable
from bench.errors import UserError
from bench.opened import Run
from bench.options import checked_options
from bench.physics import Paired, Physics
from bench.reconstruct import kspace, mismatch
from bench.reconstruct.mismatch import Look
from bench.reconstruct.output import (
    DEGRADED,
    RECONSTRUCTED,
    UNCERTAINTY,
    About,
    Kind,
    Output,
    write,
    write_arrays,
)
from bench.reconstruct.refits import Refits
from bench.reconstruct.scans import PATTERNS, SCALING, Scaled, Scan, Scans, scaled
from bench.spec import DatasetSpec

NOISE_REACH = 4.0  # standard deviations beyond [0, 1] that noise may reach


@dataclass
class Outcome:
    """What was reconstructed.

    Attributes:
        about: method, degradation, training images and refits, in words.
        written: the files.
        slices: how many were reconstructed.
        skipped: files that were left out, and why.
        scores: with `degrade`: (PSNR, SSIM) of each slice's first estimate and reconstruction.
        warning: where the input and the training images disagree; empty if they agree.
    """

    about: str
    written: Sequence[Path] = ()
    slices: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    scores: list[tuple[float, float, float, float]] = field(default_factory=list)
    warning: str = ""


Report = Callable[[float, str], None]


def reconstruct(
    run: Run,
    path: Path | str,
    out: Path | str,
    method: str = "best",
    *,
    which: Mapping[str, Any] | None = None,
    degrade: bool = False,
    uncertainty: bool = False,
    tile: int | None = None,
    reading: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> Outcome:
    """Reconstruct a file, or all files of a folder.

    Args:
        run: the run whose refits are applied; those of several seeds are averaged.
        path: a file, or a folder with files at any depth.
        out: a new folder, or a new file for a single one.
        method: label of a method, id of a cell, or `best`.
        which: `degradation`, `level`, `n_train`, `task`, as many as identify one cell.
        degrade: degrade the images first, by the run's degradation.
        uncertainty: write the standard deviation over the refits as well.
        tile: side of overlapping tiles; default: whole images, as far as possible.
        reading: keys of a benchmark file's `dataset`, such as `window` or `axes`.
        report: called with the share of the work that is done and an empty text, or with NaN and a
            warning.

    Raises:
        UserError: no such cell, nothing to read, measurements of another kind, or a file that
            cannot be written.
    """
    path, out = Path(path), Path(out)
    cell = run.cell(method, **{k: v for k, v in (which or {}).items() if v is not None})
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    refits = Refits(run, cell, tile)
    if degrade and isinstance(refits.trained, Paired):
        raise UserError("--degrade: paired measurements are not simulated; give measured images")
    if uncertainty and len(refits) < 2:
        raise UserError(f"--uncertainty: {cell} has one refit, whose spread is not known")
    job = _Job(
        run, refits, about_of(run, refits), degrade, uncertainty, report or (lambda *_: None)
    )
    output, options = Output(out, path), dict(reading or {})
    if (y := _stored_measurements(path)) is not None:
        return job.of_measurements(path, output, y)
    if refits.domain == "kspace" and _holds_kspace(path, options):
        return job.of_kspace(path, output, options)
    return job.of_images(path, output, options)


def about_of(run: Run, refits: Refits) -> About:
    """Describe a cell's refits for the headers of files."""
    line = run.cells.loc[refits.cell]
    images = f", {line['n_train']} training images" if line["n_train"] else ""
    several = f", mean of {len(refits)} trainings" if len(refits) > 1 else ""
    task = f"{line['degradation']} {line['level']:g}"
    return About(str(line["method"]), f"{line['method']} for {task}{images}{several}")


@dataclass
class _Job:
    """One call of `reconstruct`."""

    run: Run
    refits: Refits
    about: About
    degrade: bool
    uncertainty: bool
    report: Report

    def __post_init__(self) -> None:
        self.outcome = Outcome(self.about.words)

    def of_images(self, path: Path, output: Output, reading: Mapping[str, Any]) -> Outcome:
        """Reconstruct files of images."""
        if self.refits.domain != "image" and not self.degrade:
            raise UserError(
                f"{path}: {self.about.method} reconstructs measurements of "
                f"{self.refits.trained.name}, not images; --degrade makes them from images, to try"
            )
        dataset = self.run.spec.dataset
        prepare = _preparation(dataset, reading)
        scans = Scans(path, reading, dataset.options)
        trained = self._trained()
        done = 0.0
        for scan in scans:
            try:
                self._scan(scan, prepare, output, scans.root, trained, done, 1 / len(scans))
            except (NoImage, Unusable) as why:
                scans.fail(scan.item, getattr(why, "reason", str(why)))
            done += 1 / len(scans)
            self.report(done, "")
        if not output.written:
            scans.refuse_none()
        self.outcome.skipped, self.outcome.written = scans.skipped, output.written
        return self.outcome

    def of_kspace(self, path: Path, output: Output, reading: Mapping[str, Any]) -> Outcome:
        """Reconstruct files of k-space, slice by slice: each has its own mask and coils."""
        scans = Scans(path, reading, self.run.spec.dataset.options)
        trained = self._trained()
        simulated = self.refits.recipe.get("measured") != "kspace"
        key, axes = scans.own.get("key"), scans.own.get("axes", "auto")
        for number, item in enumerate(scans.gathered.items):
            file = Path(item.files[0])
            slices, top = kspace.slices_of(file, self.refits.recipe, self.degrade, key, axes)
            stacks: dict[Kind, list[np.ndarray]] = {
                RECONSTRUCTED: [],
                UNCERTAINTY: [],
                DEGRADED: [],
            }
            for k, one in enumerate(slices):
                start = one.operator.A_dagger(one.y)[:, 0].numpy()
                self._compare(start, "MR", item.name, trained, simulated)
                result = self.refits(one.y, one.operator)
                if one.x is not None:
                    self._score(start, result.x_hat, one.x[None])
                    stacks[DEGRADED].append(top * start)
                if self.uncertainty and result.spread is not None:
                    stacks[UNCERTAINTY].append(top * result.spread)
                stacks[RECONSTRUCTED].append(top * result.x_hat)
                self.report((number + (k + 1) / len(slices)) / len(scans), "")
            self.outcome.slices += len(slices)
            scan = Scan(scans.source, item, [], item.name, axes)
            for kind, found in stacks.items():
                if found:
                    write(output, scan, [np.concatenate(found)], kind, self.about, scans.root)
        self.outcome.written = output.written
        return self.outcome

    def of_measurements(self, path: Path, output: Output, y: np.ndarray) -> Outcome:
        """Reconstruct what `reconbench measurements` has written of a task."""
        operator = self.refits.trained
        wanted = tuple(operator.A(torch.zeros(1, 1, *operator.shape)).shape[1:])
        if y.shape[1:] != wanted or self.refits.recipe.get("measured"):
            raise UserError(
                f"{path}: its measurements, of shape {y.shape[1:]}, are not those of "
                f"{self.refits.cell} ({wanted}); choose the task by --level or --task"
            )
        result = self.refits(torch.from_numpy(y), operator)
        arrays = {"x_hat": result.x_hat[:, None]}
        if self.uncertainty and result.spread is not None:
            arrays["uncertainty"] = result.spread[:, None]
        write_arrays(output, path.name, arrays, self.about)
        self.outcome.slices, self.outcome.written = len(y), output.written
        self.report(1.0, "")
        return self.outcome

    def _scan(
        self, scan: Scan, prepare: Preparation, output: Output, root: Path, trained: Look | None,
        done: float, share: float,
    ) -> None:  # fmt: skip
        """Reconstruct and write a file or a series."""
        stacks: dict[Kind, list[np.ndarray]] = {RECONSTRUCTED: [], UNCERTAINTY: [], DEGRADED: []}
        for number, volume in enumerate(scan.volumes):
            given = scaled(volume, prepare, clean=self.degrade)
            y, operator, cut = self._measurements(given)
            start = operator.A_dagger(y)[:, 0].numpy()
            self._compare(start, _modality(scan, volume.units), scan.name, trained)
            before, own = done + share * number / len(scan.volumes), share / len(scan.volumes)
            result = self.refits(y, operator, partial(self._report, before, own))
            if self.degrade:
                self._score(start, result.x_hat, given.images)
                stacks[DEGRADED].append(given.restored(start))
            if self.uncertainty and result.spread is not None:
                stacks[UNCERTAINTY].append(given.spread(result.spread))
            x_hat = result.x_hat + _enlarged(cut, result.x_hat.shape[1:])
            stacks[RECONSTRUCTED].append(given.restored(x_hat))
            self.outcome.slices += len(x_hat)
        for kind, found in stacks.items():
            if found:
                write(output, scan, found, kind, self.about, root)

    def _report(self, before: float, share: float, done: float) -> None:
        self.report(before + share * done, "")

    def _measurements(
        self, given: Scaled
    ) -> tuple[torch.Tensor, Physics, Float32[np.ndarray, "n h w"]]:
        """Return y, its physics, and what lies beyond the range of the training images.

        Where a window was chosen, as for CT, no method has seen what is beyond, further than noise
        reaches: it is kept apart, and added to the reconstruction as it was.
        """
        images = given.images
        reach = 0.0 if self.degrade else NOISE_REACH * self.refits.trained.noise_std
        beyond = (images < -reach) | (images > 1 + reach)
        inside = np.where(beyond, images.clip(0, 1), images)
        x = torch.from_numpy(inside)[:, None]
        factor = 1 if self.degrade else self.refits.factor
        operator = self.refits.physics((factor * x.shape[-2], factor * x.shape[-1]))
        y = operator.measure(x, given.ids) if self.degrade else x
        return y, operator, images - inside

    def _compare(
        self,
        start: Float32[np.ndarray, "n h w"],
        modality: str,
        name: str,
        trained: Look | None,
        simulated: bool = False,
    ) -> None:
        """Warn once if the input visibly differs from the training images."""
        if trained is None or self.outcome.warning:
            return
        look = mismatch.look_at(start, max(start.shape[1:]), modality)
        found = [
            *mismatch.differences(look, trained),
            *["measured k-space (simulated)"] * simulated,
        ]
        if found:
            self.outcome.warning = mismatch.sentence(self.about.method, name, found)
            self.report(math.nan, self.outcome.warning)

    def _score(self, start: np.ndarray, x_hat: np.ndarray, x: Float32[np.ndarray, "n h w"]) -> None:
        truth = torch.from_numpy(x.clip(0, 1))[:, None]
        scores = [metrics.evaluate(torch.from_numpy(one)[:, None], truth) for one in (start, x_hat)]
        columns = [one[name].tolist() for one in scores for name in ("psnr", "ssim")]
        self.outcome.scores += list(zip(*columns, strict=True))

    def _trained(self) -> Look | None:
        """Look at first estimates of the run's test images, if it has stored any."""
        stored = self.run.pictures(self.refits.cell)
        start = stored.get("start", stored.get("y"))
        if start is None or start.ndim != 4 or np.iscomplexobj(start):
            return None
        modality = mismatch.modality_of_run(
            self.run.manifest.get("audit"), self.run.spec.dataset.source
        )
        return mismatch.look_at(start[:, 0].astype(np.float32), start.shape[-1], modality)


def _enlarged(
    images: Float32[np.ndarray, "n h w"], shape: tuple[int, int]
) -> Float32[np.ndarray, "n h2 w2"]:
    """Interpolate images to another number of pixels in the same field of view."""
    if images.shape[1:] == shape:
        return images
    some = torch.from_numpy(images)[:, None]
    return interpolate(some, shape, mode="bilinear")[:, 0].numpy()


def _preparation(dataset: DatasetSpec, reading: Mapping[str, Any]) -> Preparation:
    """Scale as the run did, but for what was given."""
    options = {**dataset.options, **reading}
    chosen = {key: options[key] for key in SCALING if options.get(key) is not None}
    checked = checked_options("dataset", data.reading.read, chosen, data.GIVEN)
    return Preparation(dataset.image_size, **checked)


def _stored_measurements(path: Path) -> np.ndarray | None:
    """Read y from a file of `reconbench measurements`; None if it is another file."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as content:
        return np.asarray(content["y"]) if {"y", "start"} <= set(content) else None


def _holds_kspace(path: Path, reading: Mapping[str, Any]) -> bool:
    """Return whether files are of a format of k-space, and are not said to hold images."""
    patterns = {key: reading[key] for key in PATTERNS if key in reading}
    source = str(reading.get("source") or sources.guess(path, **patterns))
    return source in kspace.SOURCES and reading.get("kind") != "image"


def _modality(scan: Scan, units: str) -> str:
    """Tell what kind of scanner made a scan, if it says so."""
    if scan.source == "dicom":
        return str(scan.item.stacks[0][0].modality)  # type: ignore[attr-defined]
    return "CT" if units == "HU" else ""


__all__ = ["Outcome", "reconstruct"]
