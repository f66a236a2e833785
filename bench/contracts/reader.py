"""The contract of a reader."""

import inspect
from pathlib import Path
from types import ModuleType

import numpy as np

from bench import data
from bench.contracts.base import BrokenError, CannotCheckError, Checks, demand
from bench.data import sources
from bench.data.volume import NoImage, Unusable, Volume
from bench.registry import label_of
from bench.spec import DatasetSpec

SIDE = 32


class Reader:
    """Checks of a reader.

    Args:
        given: its name, dotted path or module.
        file: a file that it reads; without one, only its code is checked.
    """

    def __init__(self, given: str | ModuleType, file: Path | None = None):
        self.module = sources.find(given)
        self.name = label_of(given)
        self.file = file
        self.reads = sources.reads(self.module)

    def checks(self) -> Checks:
        """List the checks; all others need the first."""
        function = "read(file, name, ...)" if self.reads else "make(path, image_size, ...)"
        return [
            (f"it has {function}, with options by keyword", self.has_function),
            ("its endings are lower-case texts that begin with a dot", self.has_endings),
            ("it takes the file", self.takes),
            ("it reads the file as volumes", self.reads_volumes),
            ("images of the file lie in [0, 1], each with its id", self.makes_images),
        ]

    def has_function(self) -> None:
        """Check the parameters of its function."""
        function = self.module.read if self.reads else self.module.make
        parameters = list(inspect.signature(function).parameters.values())
        options = [one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
        given = len(parameters) - len(options)
        demand(given == 2, f"it takes {given} parameters by position instead of 2")
        without = [one.name for one in options if one.default is inspect.Parameter.empty]
        demand(not without, f"{', '.join(without)}: an option needs a default")

    def has_endings(self) -> None:
        """Check `SUFFIXES`."""
        if not self.reads:
            raise CannotCheckError("it reads no files")
        wrong = [end for end in self.module.SUFFIXES if not (end[0] == "." and end == end.lower())]
        demand(not wrong, ", ".join(map(repr, wrong)))

    def _file(self) -> Path:
        if self.file is None:
            raise CannotCheckError("it needs a file that the reader reads")
        if not self.reads:
            raise CannotCheckError("it reads no files")
        return self.file

    def takes(self) -> None:
        """Check that the reader is found for its file."""
        file = self._file()
        demand(sources.takes(self.module, file), f"{file}: does not have one of its endings")

    def reads_volumes(self) -> None:
        """Check what `read` returns."""
        file = self._file()
        if hasattr(self.module, "gather"):
            raise CannotCheckError("it reads several files together")
        try:
            volumes = self.module.read(file, file.name)
        except (NoImage, Unusable) as reason:
            raise BrokenError(f"{file}: {reason}") from None
        demand(volumes, "it returns no volumes")
        wrong = [type(one).__name__ for one in volumes if not isinstance(one, Volume)]
        demand(not wrong, f"it returns {', '.join(wrong)}, not bench.data.volume.Volume")

    def makes_images(self) -> None:
        """Prepare the file's images twice."""
        file = self._file()
        spec = DatasetSpec(source=self.name, path=str(file), image_size=SIDE)
        first, again = data.read(spec), data.read(spec)  # not from the cache
        images = first.images
        demand(images.shape[1:] == (1, SIDE, SIDE), f"their shape is {images.shape}")
        low, high = images.min(), images.max()
        demand(0 <= low <= high <= 1, f"their values lie between {low:g} and {high:g}")
        demand(len(set(first.ids)) == len(images), "two images have the same id")
        demand(
            first.ids == again.ids and np.array_equal(images, again.images),
            "reading again yields other images",
        )
