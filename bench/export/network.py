"""A network as a program that needs nothing of ours: torch.export and ONNX."""

import importlib.util
import logging
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.methods.denoiser import DenoiserNetwork
from bench.methods.learned.base import ImageNetwork
from bench.physics import Denoising, Physics
from bench.physics._phantom import phantom

PROGRAM, ONNX = "model.pt2", "model.onnx"
CHECK, EXAMPLES = "check_onnx.py", "examples.npz"
EXTRA = ("onnx", "onnxscript", "onnxruntime")
NOISE = 0.05  # standard deviation in the examples


class Unexportable(Exception):
    """Why a method cannot be written as a program of its own."""


class OnImage(nn.Module):
    """A network applied to the first estimate `A_dagger(y)`, which is all that it sees of y.

    Args:
        network: from image to image.
        noise_std: of the task.
    """

    def __init__(self, network: ImageNetwork, noise_std: float):
        super().__init__()
        self.network, self.given = network, _Given(noise_std)

    def forward(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct from the first estimate."""
        x_hat: Tensor = self.network(image, self.given)
        return x_hat


class _Given(Denoising):
    """Stands for the task's physics once the first estimate is known: y is this image."""

    name, unit, levels, presets = "first estimate", "none", (0.0, 0.0), (0.0, 0.0, 0.0)

    def __init__(self, noise_std: float):
        super().__init__(0.0, 1)
        self.given = noise_std

    @property
    def noise_std(self) -> float:
        """Return that of the task."""
        return self.given


def on_image(model: nn.Module, physics: Physics) -> OnImage:
    """Return a network from image to image.

    Raises:
        Unexportable: the method is no network, or needs more of y than its first estimate.
    """
    name = type(model).__name__
    if not any(True for _ in model.parameters()):
        raise Unexportable(f"{name} has no weights: config.json is all of it")
    plain = isinstance(model, ImageNetwork) and model.tv is None and _is_plain(type(model))
    if not plain or not isinstance(model, ImageNetwork):
        raise Unexportable(
            f"{name} uses the operator itself, with its Fourier transforms, complex numbers or "
            "iterations, which ONNX does not describe"
        )
    return OnImage(model, float(physics.noise_std)).eval()


def _is_plain(own: type[ImageNetwork]) -> bool:
    """Return whether a class changes nothing of what surrounds `network`."""
    return own.forward in (ImageNetwork.forward, DenoiserNetwork.forward) and all(
        getattr(own, name) is getattr(ImageNetwork, name)
        for name in ("input_image", "estimate", "finish")
    )


def write_programs(network: OnImage, folder: Path, size: int) -> None:
    """Write `model.pt2`, `model.onnx`, and what compares them with PyTorch; then compare.

    Batch, height and width are free.

    Args:
        network: on the CPU.
        folder: where they go.
        size: of the training images.

    Raises:
        Unexportable: PyTorch cannot trace it, an extra is missing, or the results differ. What
            was written until then is right.
    """
    images = examples(size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        free = torch.export.Dim.AUTO
        try:
            program = torch.export.export(
                network, (images[-1],), dynamic_shapes=({0: free, 2: free, 3: free},)
            )
        except Exception as error:  # tracing fails in any way
            raise Unexportable(f"torch.export cannot trace it ({_first(error)})") from None
        torch.export.save(program, folder / PROGRAM)
        missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
        if missing:
            raise Unexportable(
                f"ONNX needs {', '.join(missing)}: pip install -e '.[export]', then export again"
            )
        try:
            made = torch.onnx.export(program, (images[-1],), dynamo=True, verbose=False)
            assert made is not None
            made.save(folder / ONNX)
        except Exception as error:
            (folder / ONNX).unlink(missing_ok=True)
            raise Unexportable(f"ONNX has no such operation ({_first(error)})") from None
        arrays = {f"image_{k}": image.numpy() for k, image in enumerate(images)}
        arrays |= {f"x_hat_{k}": network(image).numpy() for k, image in enumerate(images)}
    np.savez_compressed(folder / EXAMPLES, allow_pickle=False, **arrays)
    shutil.copyfile(Path(__file__).with_name("_check_onnx.py"), folder / CHECK)
    check(folder)


def check(folder: Path) -> str:
    """Run the plain script that compares ONNX with PyTorch, and return what it prints.

    Raises:
        Unexportable: they differ.
    """
    command = [sys.executable, "-I", str(folder / CHECK)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        for name in (ONNX, CHECK, EXAMPLES):
            (folder / name).unlink(missing_ok=True)
        said = " ".join((done.stdout or done.stderr).split())[-200:]
        raise Unexportable(f"onnxruntime does not give what PyTorch gives ({said})")
    return done.stdout


def examples(size: int) -> list[Float[Tensor, "b 1 h w"]]:
    """Draw noisy phantoms of the training's size and of an odd one; no scan leaves the run."""
    noise = torch.Generator().manual_seed(0)
    shapes = [(1, size, size), (2, size + 5, size + 3)]
    return [
        phantom((height, width)).expand(count, -1, -1, -1)
        + NOISE * torch.randn(count, 1, height, width, generator=noise)
        for count, height, width in shapes
    ]


def _first(error: Exception) -> str:
    """Return the first line of an error."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:150]
