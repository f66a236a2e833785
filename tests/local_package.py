"""A package of a user's own, one file for each kind of part, as `local_package.write` leaves it."""

from pathlib import Path
from textwrap import dedent

FILES = {
    "losses/log_cosh.py": '''
        """Log-cosh error."""

        import torch


        def log_cosh(x_hat, x):
            """Average log cosh of the difference."""
            return torch.log(torch.cosh(x_hat - x)).mean()
        ''',
    "readers/asc.py": '''
        """Numbers in text files (.asc): one line a row."""

        from pathlib import Path

        import numpy as np

        from bench.data.volume import Volume, planes_of

        SUFFIXES = {".asc"}


        def read(file: Path, name: str, *, comment: str = "#") -> list[Volume]:
            """Read a file; `comment` begins lines to skip."""
            values = np.loadtxt(file, dtype=np.float32, comments=comment, ndmin=2)
            return [Volume(name, planes_of(values[None]), name)]
        ''',
    "degradations/quantiser.py": '''
        """Few grey levels."""

        import torch

        from bench.physics import Physics


        class Quantiser(Physics):
            """Round to so many grey levels, with noise before it drawn from the image's id."""

            unit = "number of grey levels"
            levels = (2, 256)
            presets = (32, 8, 2)
            whole = True
            linear = False

            def __init__(self, level: float, image_size, *, gamma: float = 1.0):
                super().__init__(level, image_size)
                self.gamma = gamma

            def A(self, x):
                steps = self.level - 1
                return torch.round(x.clamp(min=0) ** self.gamma * steps) / steps

            def A_dagger(self, y):
                return y ** (1 / self.gamma)
        ''',
    "metrics/median_error.py": '''
        """Median absolute error."""

        from bench.metrics import Metric


        class MedianError(Metric):
            """The absolute difference that half of the pixels exceed, in per cent."""

            label, unit, direction, decimals = "Median error", "%", "lower", 1

            def image(self, x_hat, x):
                return 100 * (x_hat - x).abs().flatten(1).quantile(0.5, dim=1)
        ''',
    "methods/shrunk.py": '''
        """A method of a user's own."""

        from typing import Annotated

        from pydantic import Field

        from bench.methods import Classical


        class Shrunk(Classical):
            """Scale what the measurement shows."""

            search_space = {"factor": {"low": 0.5, "high": 1.0, "default": 1.0}}

            def __init__(self, factor: Annotated[float, Field(ge=0, le=1)] = 1.0):
                super().__init__()
                self.factor = factor

            def forward(self, y, physics):
                return physics.A_dagger(y) * self.factor
        ''',
}


def write(folder: Path, name: str = "my_pkg") -> None:
    """Write the package into a folder."""
    for path, text in FILES.items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_name("__init__.py").touch()
        file.write_text(dedent(text).lstrip())
    (folder / name / "__init__.py").touch()
