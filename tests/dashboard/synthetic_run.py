"""Makes a plausible run folder without running anything, through the store itself."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.data import shepp_logan_phantom
from skimage.filters import gaussian
from skimage.transform import resize

from bench.spec import Cell, cells, parse
from bench.store import Store

CLASSICAL = {"degraded": 0.0, "constant": 2.0, "tv": 7.9, "wavelet": 6.9, "nlm": 7.4}
LEARNED = {"unet": 8.3, "attention_residual_unet": 8.6}
METHODS = (*CLASSICAL, *LEARNED)
SUBJECTS, IMAGES_PER_SUBJECT, PICTURES = 12, 2, 3


def make_run(
    folder: Path,
    *,
    methods: Sequence[str] = METHODS,
    finished: bool = True,
    unstarted: int = 0,
    size: int = 64,
    rename: dict[str, str] | None = None,
) -> Path:
    """Write a run.

    Args:
        folder: the run folder.
        methods: of `METHODS`; another name is taken for a network.
        finished: whether the manifest says so.
        unstarted: how many of the last cells have no rows yet; the one before is half done.
        size: of the pictures.
        rename: method names in rows that no benchmark file would admit.
    """
    spec = parse(
        {
            "name": folder.name,
            "dataset": {"source": "template", "image_size": size},
            "degradations": [{"name": "gaussian_noise", "levels": [0.1, 0.5]}],
            "n_train": [25, 100],
            "methods": list(methods),
        }
    )
    store = Store(folder)
    store.begin(spec, {"val": "digest"})
    planned = cells(spec, _sizes)
    audit = {"notes": ["Template-derived."], "skipped": {"a.png": "empty"}, "badges": ["template"]}
    store.write_manifest(
        cells=len(planned), trials=8 * len(planned), started="2025-01-01T10:00:00", audit=audit,
        versions={"torch": "2.6"},
    )  # fmt: skip
    truth, ids = _truth(size), np.array([f"image {i}" for i in range(PICTURES)])
    for task in {cell.task.id for cell in planned}:
        store.write_pictures(task, x=truth, ids=ids)
    begun = planned[: len(planned) - unstarted]
    for cell in begun:
        half = unstarted > 0 and cell is begun[-1]
        _write_cell(store, cell, truth, ids, (rename or {}).get(cell.method.label), half)
    if finished:
        store.write_manifest(finished="2025-01-01T10:09:00")
    return folder


def _sizes(method: str, sizes: list[int]) -> list[int]:
    if method == "constant":
        return sizes[-1:]
    return [0] if method in CLASSICAL else sizes


def _truth(size: int) -> np.ndarray:
    phantom = resize(shepp_logan_phantom(), (size, size), anti_aliasing=True)
    turned = [phantom, phantom[:, ::-1], phantom[::-1]]
    return np.stack(turned)[:, None].astype(np.float32)


def _write_cell(
    store: Store, cell: Cell, truth: np.ndarray, ids: np.ndarray, name: str | None, half: bool
) -> None:
    rng = np.random.default_rng(abs(hash_of(cell.id)))
    learned = cell.method.label not in CLASSICAL
    trials = pd.DataFrame(
        {
            "cell": cell.id,
            "trial": range(3 if half else 8),
            "state": ["complete", "pruned", "failed"]
            if half
            else ["complete"] * 5 + ["pruned"] * 3,
            "psnr": rng.normal(18, 1, 3 if half else 8),
            "step": 200,
            "seconds": 1.5,
            "error": "",
            "config": json.dumps({"lr": 1e-3}),
        }
    )
    store.write_trials(cell.id, trials)
    y, x_hat = _pictures(cell, truth, rng)
    store.write_pictures(cell.id, y=y, x_hat=x_hat, error=np.abs(x_hat - truth), ids=ids)
    for seed in range(3 if learned and not half else 1):
        store.write_rows(cell.id, seed, _rows(cell, seed, name or cell.method.label, rng))


def hash_of(text: str) -> int:
    """Hash alike in every process, unlike `hash`."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(text[-12:])) % 2**32


def _pictures(
    cell: Cell, truth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0).normal(0, cell.task.level**0.5, truth.shape)
    y = truth + noise
    blur = {"degraded": 0.0, "constant": 9.0}.get(cell.method.label, 1.0 + cell.task.level)
    blur *= 1 if cell.method.label in CLASSICAL else 1 - 0.1 * np.log10(cell.n_train)
    smooth = np.stack([gaussian(image[0], blur)[None] for image in (y if blur < 5 else truth)])
    x_hat = smooth if blur else y
    return y.astype(np.float32), (x_hat + rng.normal(0, 0.004, y.shape)).astype(np.float32)


def _rows(cell: Cell, seed: int, name: str, rng: np.random.Generator) -> pd.DataFrame:
    count = SUBJECTS * IMAGES_PER_SUBJECT
    label = cell.method.label
    learned = label not in CLASSICAL
    noise = -10 * np.log10(cell.task.level)
    gain = {**CLASSICAL, **LEARNED}.get(label, 8.0)
    gain += (1.1 * np.log10(cell.n_train) - 1.5) if learned else 0.0
    psnr = noise + gain + np.repeat(rng.normal(0, 0.2, SUBJECTS), IMAGES_PER_SUBJECT)
    psnr = psnr + rng.normal(0, 0.05, count)
    # unet trades PSNR for SSIM, so that there is a Pareto front to see
    bonus = {"unet": 0.08, "attention_residual_unet": 0.05}.get(label, 0.0)
    ssim = np.clip(0.04 * psnr - 0.1 + bonus, 0, 1)
    return pd.DataFrame(
        {
            "cell": cell.id if name == label else cell.id.replace(label, name),
            "dataset": cell.task.dataset,
            "task": cell.task.id,
            "degradation": cell.task.degradation.label,
            "level": cell.task.level,
            "n_train": cell.n_train,
            "method": name,
            "kind": "learned" if learned else "classical",
            "seed": seed,
            "image": [f"image {i}" for i in range(count)],
            "subject": [f"subject {i // IMAGES_PER_SUBJECT}" for i in range(count)],
            "measurement_hash": "0123456789abcdef",
            "psnr": psnr,
            "ssim": ssim,
            "nmse": 10 ** (-psnr / 10) * 4,
            "psnr_volume": psnr + 0.5,
            "ssim_volume": ssim + 0.01,
            "psnr_roi": psnr - 3,
            "ssim_roi": np.where(np.arange(count) == 0, np.nan, ssim - 0.05),
            "data_residual": 0.3,
            "train_seconds": 21.5 if learned else 0.0,
            "infer_ms": 3.2 if learned else 14.0,
            "parameters": 1_900_000 if learned else 0,
            "flops": {"unet": 2.5e8}.get(label, 4e8) if learned else float("nan"),
        }
    )
