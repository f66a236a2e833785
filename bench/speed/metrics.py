"""PSNR and SSIM of many images, compared with scikit-image in a loop."""

import time
from collections.abc import Callable

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench import metrics

SIZES = {128: 60, 320: 20}  # pixels along each side: images
REPEATS = 5


def page() -> str:
    """Measure on one thread, and return the page as Markdown."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lines = [_line(size, count) for size, count in SIZES.items()]
    finally:
        torch.set_num_threads(threads)
    head = [
        "# The speed of PSNR and SSIM",
        "",
        "Measured by `make speed PART=metrics` on one thread, in CPU time, the two in turn: images "
        "per second, the largest difference of the scores, and all that a run computes of each "
        "image (three conventions, NMSE).",
        "",
        "| pixels | scikit-image in a loop | bench.metrics | ratio | difference | everything |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) + "\n"


def _line(size: int, count: int) -> str:
    generator = np.random.default_rng(0)
    x = generator.random((count, 1, size, size), dtype=np.float32)
    noise = generator.normal(0, 0.1, x.shape).astype(np.float32)
    image, other = torch.from_numpy(x), torch.from_numpy(x + noise)
    ids = [str(number) for number in range(count)]

    def theirs() -> np.ndarray:
        return np.array(
            [
                [measure(a[0], b[0], data_range=1) for measure in (
                    peak_signal_noise_ratio, structural_similarity)]
                for a, b in zip(x, x + noise, strict=True)
            ]
        )  # fmt: skip

    def ours() -> np.ndarray:
        found = metrics.evaluate(other, image, metrics=("psnr", "ssim"))
        return torch.stack([found["psnr"], found["ssim"]], dim=1).numpy()

    difference = np.abs(theirs() - ours()).max()  # which also compiles
    every = _rate(lambda: metrics.columns(other, image, ids), count)
    rates = np.median([[_rate(one, count) for one in (theirs, ours)] for _ in range(REPEATS)], 0)
    return (
        f"| {size}x{size} | {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[1] / rates[0]:.1f} "
        f"| {difference:.1e} | {every:,.0f} |"
    )


def _rate(measure: Callable[[], object], count: int) -> float:
    """Return images per second of CPU time."""
    start = time.process_time()
    measure()
    return count / (time.process_time() - start)
