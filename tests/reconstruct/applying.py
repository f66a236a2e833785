"""What the tests of reconstruction share: an image, and a reconstruction step by step."""

from pathlib import Path

import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from bench import scoring
from bench.opened import Run


def phantom(height: int, width: int) -> np.ndarray:
    """Draw an image in [0, 1]; its orientation is seen."""
    image = resize(shepp_logan_phantom(), (height, width), anti_aliasing=True)
    image[: height // 6, : width // 5] = 0.5
    return image.clip(0, 1).astype(np.float32)


def by_hand(run: Run, cell: str, y: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Reconstruct images by each refit as a notebook would, and average."""
    found = []
    for seed in run.seeds(cell):
        recipe, weights = run.refit(cell, seed)
        model, operator, _ = scoring.rebuild({**recipe, "image_size": size}, weights)
        with torch.no_grad():
            found.append(model(torch.from_numpy(y)[:, None], operator)[:, 0].numpy())
    return np.mean(found, 0)


def folder_of(path: Path) -> list[str]:
    """List the files below a folder."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
