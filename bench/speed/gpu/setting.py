"""On what is measured: the device, the images, and how calls are timed."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from bench.data import ImageSet
from bench.errors import UserError
from bench.places import atomic_write

IMAGES = Path("gpu_images.npy")
SIZE = 256  # of the prepared images, in pixels along each side
SETS = {"train": 128, "val": 16, "test": 32}
QUICK = {"train": 8, "val": 2, "test": 2}
WARM, FEWEST, MOST, ENOUGH = 3, 5, 100, 0.25  # calls, calls, calls, seconds


@dataclass(frozen=True)
class Setting:
    """What is measured on.

    Attributes:
        device: "cuda", or "cpu" to try the command.
        quick: whether tiny images and single calls do, again to try the command.
        images: the file of the prepared images.
    """

    device: str = "cuda"
    quick: bool = False
    images: Path = IMAGES

    def check(self) -> None:
        """Refuse a machine without the device.

        Raises:
            UserError: there is no GPU.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "gpu: this machine has no GPU; add --device cpu --quick to try the command, or "
                "--page gpu.json to write the page from a measurement made elsewhere"
            )

    def described(self) -> dict[str, Any]:
        """Return what distinguishes it from another one."""
        return {"device": self.device, "quick": self.quick}

    def words(self) -> list[str]:
        """Return it as options of the command line."""
        quick = ["--quick"] if self.quick else []
        return ["--device", self.device, "--images", str(self.images.resolve()), *quick]

    @property
    def sets(self) -> dict[str, int]:
        """The number of images in each set."""
        return QUICK if self.quick else SETS

    def image_sets(self, size: int) -> dict[str, ImageSet]:
        """Read the prepared images at a size in pixels; keys: "train", "val", "test"."""
        whole = torch.from_numpy(np.load(self.images)).float().div(255)[:, None]
        small = adaptive_avg_pool2d(whole, size).numpy()
        found, begin = {}, 0
        for name, count in self.sets.items():
            ids = [f"{name} {k}" for k in range(count)]
            found[name] = ImageSet(small[begin : begin + count], ids, ids)
            begin += SETS[name]
        return found

    def seconds(self, call: Callable[[], object]) -> float:
        """Time a call on the device: the mean over several, after the first ones."""
        for _ in range(1 if self.quick else WARM):
            call()
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        took = time.perf_counter() - start
        if self.quick:
            return took
        count = min(max(FEWEST, int(ENOUGH / max(took, 1e-6))), MOST)
        start = time.perf_counter()
        for _ in range(count):
            call()
        self.wait()
        return (time.perf_counter() - start) / count

    def wait(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def product_rate(self) -> float:
        """Measure the rate of bf16 matrix products, in floating-point operations per second."""
        side = 128 if self.quick else 8192
        a, b = (torch.randn(side, side, device=self.device).bfloat16() for _ in range(2))
        return 2 * side**3 / self.seconds(lambda: a @ b)


def machine() -> dict[str, Any]:
    """Describe the machine and the programs."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "gpu": gpu,
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def prepare(setting: Setting) -> None:
    """Write the images of all sets, as 8-bit numbers, from the template.

    Raises:
        UserError: nilearn, which provides the template, is not installed.
    """
    from bench import data
    from bench.spec import DatasetSpec

    try:
        whole = data.load(DatasetSpec(source="template", image_size=SIZE))
    except ImportError as error:
        raise UserError(
            f"{setting.images}: does not exist, and cannot be made here ({error}); write it where "
            "ReconBench is installed, by python -m bench.speed gpu --prepare, and bring it"
        ) from None
    parts = data.split(whole, SETS["train"], SETS["val"], SETS["test"])
    images = np.concatenate([one.images for one in (parts.train, parts.val, parts.test)])[:, 0]
    with atomic_write(setting.images) as temporary, temporary.open("wb") as file:
        np.save(file, np.round(255 * images).astype(np.uint8))
    print(setting.images)


@contextmanager
def noted(line: dict[str, Any], key: str = "error") -> Iterator[None]:
    """Note an exception of the block in a line, and go on with the next measurement."""
    try:
        yield
    except Exception as error:
        line[key] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def psnr(x_hat: Tensor, x: Tensor) -> float:
    """Average PSNR over images, in dB; on any device, by PyTorch alone."""
    error = (x_hat - x).double().square().mean((1, 2, 3)).clamp(min=1e-10)
    return float((-10 * torch.log10(error)).mean())
