"""Reconstructs single test images of a run again, by its stored models.

A run stores pictures of a few test images only: those of every image of every cell would take
12 MB for each cell of 60 images of 320 x 320 pixels, and more than all else. A model and the
images make any of them again.

`python -m bench.reconstructions RUN` answers requests, so that whoever shows pictures imports
neither PyTorch nor the run's code. A request is a line of JSON on standard input:

    {"cell": "brain-gaussian_noise-0.1-n25-unet", "seed": 0, "image": "subject 7", "foreign": false}

and its answer, on standard output, a line of JSON: `{"bytes": n}`, followed by n bytes, an archive
of NumPy with `x`, `x_hat` and `start` (`A_dagger(y)`), each (h, w), and `y`; or `{"error": text}`;
or `{"foreign": [modules]}`, if the run names code of other packages and the request does not allow
to import it. It ends with its standard input.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import nn

from bench import data, plugins, scoring, training
from bench.data import ImageSet
from bench.errors import UserError
from bench.physics import Physics
from bench.store import Store

MODELS, CHUNKS = 8, 32  # kept in memory


class Reconstructions:
    """The test images of a run, reconstructed as they were for their scores.

    That is with their neighbours: an iterative method ends when the last image of a batch has
    converged, so that an image on its own may get fewer iterations.

    Args:
        folder: the run folder.

    Raises:
        UserError: the folder holds no run.
    """

    def __init__(self, folder: str):
        self._store = Store(folder)
        self._spec = self._store.spec()
        self._model = lru_cache(MODELS)(self._rebuilt)
        self._chunk = lru_cache(CHUNKS)(self._reconstructed)

    def foreign(self, cell: str, seed: int) -> list[str]:
        """Name the modules of other packages that the run, or the model of a cell, asks for.

        Raises:
            UserError: no such model, or it is damaged.
        """
        recipe, _ = self._store.read_model(cell, seed)
        return sorted({*_modules(self._spec.model_dump(mode="json")), *_modules(recipe)})

    def of(self, cell: str, seed: int, image: str) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Measure a test image again, and reconstruct it by the refit of a cell.

        Args:
            cell: its id.
            seed: of the refit.
            image: the id of a test image.

        Returns:
            `x`, `x_hat` and `start` (`A_dagger(y)`), magnitudes of shape (h, w), and `y`, in the
            shape of a measurement; all on the CPU.

        Raises:
            UserError: no such model or image, a damaged file, or the images are not (any more)
                those of the run.
        """
        self._model(cell, seed)  # a missing model is known at once, images take time to read
        if image not in self._test.ids:
            raise UserError(f"{image}: no test image of {self._store.folder}")
        chunk, number = divmod(self._test.ids.index(image), training.CHUNK)
        arrays = self._chunk(cell, seed, chunk * training.CHUNK)
        return {name: one[number] for name, one in arrays.items()}

    def _reconstructed(self, cell: str, seed: int, begin: int) -> dict[str, np.ndarray]:
        """Reconstruct a chunk of the test images, as `bench.scoring.score_images` does."""
        model, operator = self._model(cell, seed)
        test, part = self._test, slice(begin, begin + training.CHUNK)
        x = training.as_tensor(test)[part]
        bound = operator.of(test).part(part)
        y = bound.measure(x, test.ids[part])
        images = {
            "x": x, "x_hat": training.reconstruct(model, y, bound), "start": bound.A_dagger(y),
        }  # fmt: skip
        shown = {name: training.magnitude(one)[:, 0].numpy() for name, one in images.items()}
        return {"y": y.numpy(), **shown}

    def _rebuilt(self, cell: str, seed: int) -> tuple[nn.Module, Physics]:
        return scoring.rebuild(*self._store.read_model(cell, seed))[:2]

    @cached_property
    def _test(self) -> ImageSet:
        given = self._spec.dataset
        split = data.split(data.load(given), max(self._spec.n_train), given.n_val, given.n_test)
        if self._store.manifest().get("data", {}).get("test") != split.test.digest():
            raise UserError(
                f"the test images of {self._store.folder} cannot be read again: those that its "
                "dataset gives now differ"
            )
        return split.test


def _modules(content: Any) -> Iterator[str]:
    """Yield the modules that dotted paths anywhere in a benchmark file or recipe name."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _modules(value)
    elif isinstance(content, str):
        yield from (path.partition(":")[0] for path in plugins.DOTTED.findall(content))


def answer(found: Reconstructions, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Answer a request: the line of JSON, and the archive that follows it."""
    try:
        cell, seed = str(request["cell"]), int(request["seed"])
        modules = [] if request.get("foreign") else found.foreign(cell, seed)
        if modules:
            return {"foreign": modules}, b""
        archive = io.BytesIO()
        np.savez(archive, allow_pickle=False, **found.of(cell, seed, str(request["image"])))
    except UserError as error:
        return {"error": str(error)}, b""
    except Exception as error:  # of a method, such as memory that does not suffice
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}, b""
    return {"bytes": archive.tell()}, archive.getvalue()


def serve(folder: str, requests: IO[str], answers: IO[bytes]) -> None:
    """Answer requests until their stream ends."""
    try:
        found = Reconstructions(folder)
    except UserError as error:
        answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    for line in requests:
        head, content = answer(found, json.loads(line))
        answers.write(json.dumps(head).encode() + b"\n" + content)
        answers.flush()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    # What libraries print must not get among the answers.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, stream)
