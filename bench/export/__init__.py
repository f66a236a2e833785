"""Write a method of a run as a folder of its own, to share it or to use it elsewhere.

README.md            the model card
config.json          what rebuilds the method: settings, degradation, level, image size
seed_*.safetensors   the weights of each refit
load.py              the lines that load it
model.pt2            torch.export, if the method is a network from image to image
model.onnx           ONNX, with examples.npz and check_onnx.py, which compare it with PyTorch
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import bench
from bench import places, scoring
from bench.errors import UserError
from bench.export import card, network
from bench.export.network import ONNX, PROGRAM, Unexportable
from bench.model import CONFIG, load_model
from bench.opened import Run


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        cell: the cell.
        folder: where.
        files: the names of the files.
        reason: why there is no ONNX; empty if there is.
    """

    cell: str
    folder: Path
    files: list[str]
    reason: str


def export(
    run: Run, out: Path | str, method: str = "best", *, which: Mapping[str, Any] | None = None
) -> Exported:
    """Write a method of a run into a new folder, which appears once it is complete.

    Args:
        run: the run.
        out: the folder; it must not exist, or be empty.
        method: label of a method, id of a cell, or `best`.
        which: `degradation`, `level`, `n_train`, `task`, as many as identify one cell.

    Raises:
        UserError: no such cell, a damaged file, or the folder exists or cannot be written.
    """
    out = Path(out)
    cell = run.cell(method, **{k: v for k, v in (which or {}).items() if v is not None})
    refits = {seed: run.refit(cell, seed) for seed in run.seeds(cell)}
    if not refits:
        raise UserError(f"{cell}: has no refit")
    best = max(refits, key=lambda seed: float(refits[seed][0].get("validation_psnr") or 0.0))
    config = {
        "reconbench": bench.__version__,
        "torch": torch.__version__,
        "cell": cell,
        "seed": best,
        "weights": [str(seed) for seed, (_, weights) in refits.items() if weights],
        "refits": {str(seed): _plain(recipe) for seed, (recipe, _) in refits.items()},
    }
    with _complete(out) as folder:
        for seed, (_, weights) in refits.items():
            if weights:
                save_file(dict(weights), folder / f"seed_{seed}.safetensors")
        (folder / CONFIG).write_text(json.dumps(config, indent=1))
        shutil.copyfile(Path(__file__).with_name("_load.py"), folder / "load.py")
        reason = _programs(folder, refits[best])
        programs = [name for name in (PROGRAM, ONNX) if (folder / name).exists()]
        (folder / "README.md").write_text(card.write(run, cell, config, programs, reason))
        load_model(folder)  # or it could not be read again
        for path in folder.iterdir():
            places.share_like_folder(path)
        files = sorted(path.name for path in folder.iterdir())
    return Exported(cell, out, files, reason)


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "checksum"}


def _programs(folder: Path, refit: tuple[dict[str, Any], dict[str, torch.Tensor]]) -> str:
    """Write what needs no ReconBench; return why something is missing."""
    model, physics, _ = scoring.rebuild(*refit)
    try:
        network.write_programs(
            network.on_image(model, physics), folder, int(refit[0]["image_size"])
        )
    except Unexportable as why:
        return str(why)
    return ""


@contextmanager
def _complete(out: Path) -> Iterator[Path]:
    """Yield a folder that takes its name once the block has succeeded, and else is removed.

    Raises:
        UserError: there is something already, or it cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists already; give a new folder")
    partial = out.parent / f".{out.name}.{os.getpid()}"
    try:
        places.make_folder(out.parent)
        partial.mkdir()
        yield partial
        partial.replace(out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


__all__ = ["Exported", "export"]
