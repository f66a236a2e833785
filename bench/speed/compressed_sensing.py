"""Speed and quality of compressed sensing, side by side with SigPy and BART.

Slices of the ICBM152 template, 256x256, 4x Poisson-disc sampling, 1 and 8 coils. All programs get
the same k-space, mask and sensitivities; SigPy and BART use the best of several lambdas at 100
iterations, ours the best of several weights. PSNR is that of the magnitude. The time in which
BART's process starts is measured and subtracted.
"""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex64, Float
from torch import Tensor

from bench import data, methods, metrics, physics
from bench.physics import MRICartesian
from bench.spec import DatasetSpec

SIZE, ACCELERATION, ITERATIONS, REPEATS = 256, 4, 100, 3
SLICES, COMPARED = 8, 3
LAMBDAS = (1e-3, 3e-3, 1e-2, 3e-2)
WEIGHTS = (0.3, 0.5, 0.7, 1.0, 1.5)
WITHOUT_BART = "BART was not installed for this table, so its column is empty."

Images = Float[Tensor, "b 1 h w"]
Solve = Callable[[float], Images]


@dataclass(frozen=True)
class Program:
    """A competitor.

    Attributes:
        who: its name.
        prior: TV or wavelet.
        solve: reconstructs with a lambda or weight.
        choices: parameters to try.
        count: number of slices that it reconstructs; fewer for slow programs.
    """

    who: str
    prior: str
    solve: Solve
    choices: tuple[float, ...]
    count: int


@dataclass(frozen=True)
class Line:
    """The result of one program.

    Attributes:
        who: its name.
        prior: TV or wavelet.
        coils: number of coils.
        parameter: its best lambda or weight.
        psnr: mean over the compared slices, in dB.
        rate: slices per second, the median of three runs.
    """

    who: str
    prior: str
    coils: int
    parameter: float
    psnr: float
    rate: float


def page() -> str:
    """Measure, and return the table as Markdown."""
    x = _slices()
    lines: list[Line] = []
    for coils in (1, 8):
        operator = physics.create(
            "mri_cartesian", ACCELERATION, SIZE, mask="poisson_disc", coils=coils
        )
        assert isinstance(operator, MRICartesian)
        y = operator.measure(x, [str(number) for number in range(len(x))])
        for program in _programs(y, operator):
            line = _measure(program, coils, x)
            print(line, flush=True)
            lines.append(line)
    return _page(lines)


def _slices() -> Images:
    """Load slices of different template subjects."""
    dataset = data.load(DatasetSpec(source="template", image_size=SIZE))
    return torch.tensor(dataset.images[:SLICES])


def _programs(y: Complex64[Tensor, "b c h w"], operator: MRICartesian) -> list[Program]:
    """List the programs to compare."""

    def ours(name: str, **more: Any) -> Solve:
        return lambda weight: methods.create(name, weight=weight, **more)(y, operator)

    def sigpy(app: str) -> Solve:
        return lambda lam: _sigpy(app, y[:COMPARED], operator, lam)

    def bart(prior: str) -> Solve:
        return lambda lam: _bart(prior, y[:COMPARED], operator, lam)

    programs = [
        Program("ReconBench tv", "TV", ours("tv"), WEIGHTS, len(y)),
        Program("ReconBench tgv", "TV", ours("tgv"), WEIGHTS, len(y)),
        Program("ReconBench wavelet_cs", "wavelet", ours("wavelet_cs", levels=2), WEIGHTS, len(y)),
        Program("SigPy", "TV", sigpy("TotalVariationRecon"), LAMBDAS, COMPARED),
        Program("SigPy", "wavelet", sigpy("L1WaveletRecon"), LAMBDAS, COMPARED),
    ]
    if shutil.which("bart"):
        programs += [
            Program("BART pics", "TV", bart("T:3:0:"), LAMBDAS, COMPARED),
            Program("BART pics", "wavelet", bart("W:3:0:"), LAMBDAS, COMPARED),
        ]
    return programs


def _measure(program: Program, coils: int, x: Images) -> Line:
    """Find the best parameter, and time it. PSNR is over the same slices for all programs."""

    def psnr(answer: Images) -> float:
        return metrics.evaluate(answer[:COMPARED], x[:COMPARED])["psnr"].mean().item()

    quality = {choice: psnr(program.solve(choice)) for choice in program.choices}
    best = max(quality, key=lambda choice: quality[choice])
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        program.solve(best)
        seconds.append(time.perf_counter() - start)
    spent = statistics.median(seconds)
    if program.who.startswith("BART"):
        spent = max(spent - program.count * _bart_start(), 1e-9)
    return Line(program.who, program.prior, coils, best, quality[best], program.count / spent)


def _sigpy(app: str, y: Complex64[Tensor, "b c h w"], operator: MRICartesian, lam: float) -> Images:
    from sigpy.mri import app as apps

    maps = operator.sensitivities(y).numpy()
    mask = operator.mask[0].float().numpy()
    images = [
        getattr(apps, app)(
            one.numpy(), maps, lam, weights=mask, max_iter=ITERATIONS, show_pbar=False
        ).run()
        for one in y
    ]
    return torch.from_numpy(np.abs(np.stack(images))[:, None].astype(np.float32))


def _bart(
    prior: str, y: Complex64[Tensor, "b c h w"], operator: MRICartesian, lam: float
) -> Images:
    maps = operator.sensitivities(y).numpy()
    images = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        _write_cfl(scratch / "maps", maps)
        for one in y:
            _write_cfl(scratch / "kspace", one.numpy())
            subprocess.run(
                ["bart", "pics", "-S", "-d0", "-i", str(ITERATIONS), f"-R{prior}{lam}",
                 "kspace", "maps", "image"],
                cwd=scratch, check=True, capture_output=True,
            )  # fmt: skip
            images.append(np.abs(_read_cfl(scratch / "image")))
    return torch.from_numpy(np.stack(images)[:, None].astype(np.float32))


def _bart_start() -> float:
    """Measure how long BART takes to do nothing."""
    start = time.perf_counter()
    for _ in range(5):
        subprocess.run(["bart", "version"], check=True, capture_output=True)
    return (time.perf_counter() - start) / 5


def _write_cfl(path: Path, coils: Complex64[np.ndarray, "c h w"]) -> None:
    """Write BART's format: rows, columns, 1, coils, the first axis fastest."""
    count, height, width = coils.shape
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{height} {width} 1 {count}\n")
    array = coils.transpose(1, 2, 0)[:, :, None]
    path.with_suffix(".cfl").write_bytes(array.astype(np.complex64).tobytes(order="F"))


def _read_cfl(path: Path) -> Complex64[np.ndarray, "h w"]:
    shape = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    values = np.fromfile(path.with_suffix(".cfl"), dtype=np.complex64)
    return values.reshape(shape, order="F").squeeze()


def _page(lines: list[Line]) -> str:
    """Render the lines as Markdown, with each rate relative to SigPy's on the same prior."""
    text = [
        "# Speed of compressed sensing",
        "",
        f"Measured by `make speed` on {torch.get_num_threads()} CPU threads: slices of the ICBM152 "
        f"template, {SIZE}x{SIZE}, {ACCELERATION}x Poisson-disc sampling with complex noise of "
        f"standard deviation 0.01. SigPy and BART run {ITERATIONS} iterations with the best lambda "
        f"of {', '.join(f'{lam:g}' for lam in LAMBDAS)}; ReconBench uses the best weight and its "
        "own stopping rule. Median of three runs. The start of BART's process is subtracted.",
        "",
        f"PSNR is computed over the same {COMPARED} slices for all programs.",
        "",
        "| coils | prior | program | parameter | PSNR (dB) | slices/s | x SigPy | x BART |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rates = {(line.coils, line.prior, line.who): line.rate for line in lines}
    for line in sorted(lines, key=lambda line: (line.coils, line.prior, -line.psnr)):
        others = [rates.get((line.coils, line.prior, who)) for who in ("SigPy", "BART pics")]
        ratios = [f"{line.rate / other:.1f}" if other else "-" for other in others]
        text.append(
            f"| {line.coils} | {line.prior} | {line.who} | {line.parameter:g} | "
            f"{line.psnr:.2f} | {line.rate:.2f} | {' | '.join(ratios)} |"
        )
    if not any(line.who.startswith("BART") for line in lines):
        text += ["", WITHOUT_BART]
    return "\n".join(text) + "\n"
