"""Methods that run elsewhere: measurements written out for them, and their images on the board.

`measurements` writes a folder for each task:

    <task>/measurements.h5    y, and A_dagger(y) as `start`, in the order of images.csv
    <task>/images.csv         the file name of each test image, its id and its subject
    <task>/task.json          degradation, level, options, noise level

Predictions are `<task>/<file>.npy` with these names, or one HDF5 file with an array for each task
in the same order; with one task, the files or the array `x_hat` may also lie at the top.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor, nn

from bench import data, training
from bench.cells import cells_of
from bench.data import ImageSet
from bench.errors import UserError
from bench.physics import Physics
from bench.scoring import digest, physics_of, score_images
from bench.spec import Benchmark, Cell, slug
from bench.store import Store

KIND = "external"
NAMED = 3  # files named in a message


class Lookup(nn.Module):
    """Returns the reconstruction that was made elsewhere of each measurement."""

    def __init__(self, x_hat: dict[str, Tensor]):
        super().__init__()
        self.x_hat = x_hat

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Find each measurement by its hash."""
        return torch.stack([self.x_hat[digest(one)] for one in y])


def write_measurements(store: Store, out: Path, levels: Sequence[float] = ()) -> Iterator[Path]:
    """Write the measurements of a run's test images, without the images; yield each folder.

    Raises:
        UserError: the run has no such level, or the folder cannot be written.
    """
    spec = store.spec()
    test, operators = _test_of(spec, levels)
    for cell, operator in operators:
        folder = out / cell.task.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with h5py.File(folder / "measurements.h5", "w") as file:
                y = torch.cat([y for _, y in _measured(operator, test)])
                file["y"] = y.numpy()
                file["start"] = torch.cat(
                    [bound.A_dagger(one) for bound, one in _measured(operator, test)]
                ).numpy()
                mask = getattr(operator, "mask", None)
                if isinstance(mask, Tensor):
                    file["mask"] = mask.cpu().numpy()
            table = {"file": _names(test), "image": test.ids, "subject": test.subjects}
            pd.DataFrame(table).to_csv(folder / "images.csv", index=False)
            about = {
                "degradation": cell.task.degradation.model_dump(exclude={"levels"}),
                "level": cell.task.level,
                "image_size": spec.dataset.image_size,
                "noise_std": float(operator.noise_std),
            }
            (folder / "task.json").write_text(json.dumps(about, indent=1, default=str))
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from None
        yield folder


def score(
    store: Store, predictions: Path, name: str, levels: Sequence[float] = (), n_train: int = 0
) -> list[str]:
    """Score reconstructions that were made elsewhere, and add them to a run.

    Args:
        store: the run.
        predictions: a folder or an HDF5 file, see above.
        name: of the method, on the board.
        levels: the tasks to score; default: those of all levels.
        n_train: number of training images that the method has used.

    Returns:
        the ids of the cells that were written.

    Raises:
        UserError: a missing, further, unreadable or wrongly sized image, a name that a method of
            the run has, or no such level.
    """
    spec = store.spec()
    if not name.strip():
        raise UserError("--name: give the method a name")
    if name in {method.label for method in spec.methods}:
        raise UserError(f"--name {name}: a method of the run has this name; choose another")
    test, operators = _test_of(spec, levels)
    images = {
        cell.task.id: _read(predictions, cell.task.id, len(operators) == 1, test)
        for cell, _ in operators
    }
    written = []
    with store.claimed():
        for cell, operator in operators:
            written.append(f"{cell.task.id}-n{n_train}-{slug(name)}")
            _write(
                store, spec, cell, operator, test, images[cell.task.id], written[-1], name, n_train
            )
    return written


def _write(
    store: Store,
    spec: Benchmark,
    cell: Cell,
    operator: Physics,
    test: ImageSet,
    x_hat: Float32[np.ndarray, "n 1 h w"],
    own: str,
    name: str,
    n_train: int,
) -> None:
    """Score the images of one task as those of a refit, and write its pictures and rows."""
    y = torch.cat([y for _, y in _measured(operator, test)])
    model = Lookup({digest(one): torch.from_numpy(x_hat[k]) for k, one in enumerate(y)})
    count = spec.pictures
    found = score_images(model, operator, test, spec.metrics, count)
    rows = pd.DataFrame(
        {
            "cell": own,
            "task": cell.task.id,
            "dataset": cell.task.dataset,
            "degradation": cell.task.degradation.label,
            "level": cell.task.level,
            "n_train": n_train,
            "method": name,
            "kind": KIND,
            "seed": 0,
            "image": test.ids,
            "subject": test.subjects,
            "measurement_hash": found.hashes,
            **found.columns,
            "train_seconds": np.nan,
            "infer_ms": np.nan,
            "flops": found.flops,
            "parameters": 0,
        }
    )
    if count:
        store.write_pictures(
            own, y=found.y.numpy(), x_hat=x_hat[:count],
            error=np.abs(x_hat[:count] - test.images[:count]), ids=np.array(test.ids[:count]),
            start=found.start.numpy(),
        )  # fmt: skip
    store.write_rows(own, 0, rows)


def _test_of(
    spec: Benchmark, levels: Sequence[float]
) -> tuple[ImageSet, list[tuple[Cell, Physics]]]:
    """Read the test images, and build the physics of each task of some levels."""
    cells = {cell.task.id: cell for cell in cells_of(spec)}
    chosen = [cell for cell in cells.values() if not levels or cell.task.level in levels]
    known = sorted({cell.task.level for cell in cells.values()})
    for level in levels:
        if level not in known:
            listed = ", ".join(f"{one:g}" for one in known)
            raise UserError(f"--level {level:g}: the run has the levels {listed}")
    split = data.split(
        data.load(spec.dataset), max(spec.n_train), spec.dataset.n_val, spec.dataset.n_test
    )
    return split.test, [(cell, physics_of(cell, spec, split.val)) for cell in chosen]


def _measured(operator: Physics, test: ImageSet) -> Iterator[tuple[Physics, Tensor]]:
    """Measure test images a few at a time, as they are measured for a refit."""
    every, whole = training.as_tensor(test), operator.of(test)
    for begin in range(0, len(test), training.CHUNK):
        part = slice(begin, begin + training.CHUNK)
        bound = whole.part(part)
        yield bound, bound.measure(every[part], test.ids[part])


def _names(test: ImageSet) -> list[str]:
    return [f"{number:04}" for number in range(len(test))]


def _read(place: Path, task: str, only: bool, test: ImageSet) -> Float32[np.ndarray, "n 1 h w"]:
    """Read the reconstructions of a task."""
    if not place.exists():
        raise UserError(f"{place}: no such file or folder")
    if not place.is_dir():
        return _checked(_of_file(place, task, only), f"{place}: {task}", test)
    folder = place / task
    if only and not folder.is_dir():
        folder = place
    if not folder.is_dir():
        raise UserError(f"{folder}: lacks the images of this task; leave it out with --level")
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == ".npy"}
    missing = [f"{name}.npy" for name in _names(test) if name not in files]
    if missing:
        raise UserError(
            f"{folder}: lacks {len(missing)} of {len(test)} images ({_listed(missing)}); "
            "images.csv of `reconbench measurements` has their names"
        )
    if further := [path.name for stem, path in files.items() if stem not in _names(test)]:
        raise UserError(f"{folder}: holds files of no test image ({_listed(further)}); remove them")
    return np.stack([_one(files[name], test) for name in _names(test)])


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _of_file(file: Path, task: str, only: bool) -> np.ndarray:
    try:
        with h5py.File(file) as content:
            name = task if task in content or not only else "x_hat"
            if name not in content:
                raise UserError(
                    f"{file}: lacks the array {task!r} (it holds {', '.join(content) or 'nothing'})"
                )
            return np.asarray(content[name])
    except (OSError, TypeError) as error:
        raise UserError(f"{file}: cannot be read as HDF5 ({error})") from None


def _one(file: Path, test: ImageSet) -> Float32[np.ndarray, "1 h w"]:
    try:
        image = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as an array ({error})") from None
    return _checked(np.asarray(image)[None], str(file), test, 1)[0]


def _checked(
    images: np.ndarray, place: str, test: ImageSet, count: int | None = None
) -> Float32[np.ndarray, "n 1 h w"]:
    """Check shape and type; magnitudes of complex images are taken."""
    if images.ndim == 3:
        images = images[:, None]
    if images.dtype.kind not in "fiuc":
        raise UserError(f"{place}: holds {images.dtype} values; reconstructions are numbers")
    wanted = (count or len(test), *test.images.shape[1:])
    if images.shape != wanted:
        shape = "x".join(map(str, images.shape[-2:])) if images.ndim == 4 else f"{images.shape}"
        size = "x".join(map(str, wanted[-2:]))
        if images.ndim == 4 and images.shape[1:] == wanted[1:]:
            raise UserError(f"{place}: holds {images.shape[0]} images, not {wanted[0]}")
        raise UserError(f"{place}: is {shape} pixels; the test images are {size}")
    images = np.abs(images) if np.iscomplexobj(images) else images
    return images.astype(np.float32)
