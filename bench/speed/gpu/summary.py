"""The page about a GPU, from what was measured there."""

from collections.abc import Callable, Iterable, Mapping
from statistics import fmean, stdev
from typing import Any

Found = Mapping[str, Any]
Line = dict[str, Any]
SLOW = ("mri_radial", "mri_spiral")  # non-Cartesian: transformed on the CPU


def write(found: Found) -> str:
    """Return the page as Markdown.

    Args:
        found: the content of gpu.json.
    """
    where, setting = found["machine"], found["setting"]
    tried = setting["quick"] or setting["device"] != "cuda"
    lines = [
        "# What a GPU brings",
        "",
        f"Measured by `make gpu` on one {where['gpu'] or 'CPU (no GPU)'} and {where['cpus']} CPUs, "
        f"PyTorch {where['torch']}.",
    ]
    if tried:
        lines += ["", "**A trial of the command, whose figures mean nothing.**"]
    states = [
        f"{name}: {part['state']} after {part['seconds']:.0f} s"
        + (f" ({part['reason']})" if "reason" in part else "")
        for name, part in found["parts"].items()
    ]
    lines += ["", f"Parts: {'; '.join(states)}.", *_bars(found)]
    for section in (_checks, _training, _data_path, _reconstruction, _learning, _packing):
        lines += section(found)
    return "\n".join(lines) + "\n"


def _of(found: Found, part: str, key: str) -> list[Line]:
    """Return the lines of a part that have a key."""
    return [line for line in found["parts"].get(part, {}).get("lines", []) if key in line]


def _table(head: str, rows: Iterable[Iterable[object]]) -> list[str]:
    columns = head.count("|") + 1
    body = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return ["", f"| {head} |", "|" + "---|" * columns, *body] if body else []


def _share(line: Line, above: str, below: str) -> str:
    if above not in line or below not in line:
        return "-"
    return f"{line[above] / line[below]:.2f}"


def _number(line: Line, key: str, form: str = ".1f") -> str:
    return f"{line[key]:{form}}" if key in line else "-"


def _tflops(line: Line, way: str) -> float:
    return line["flops"] * line[way] / 1e12


def _networks(found: Found) -> list[Line]:
    return _of(found, "training", "network")


def _one(found: Found, size: int, name: str = "unet") -> Line:
    wanted = (line for line in _networks(found) if (line["network"], line["size"]) == (name, size))
    return next(wanted, {})


def _bars(found: Found) -> list[str]:
    """Compare with the bars of the design."""
    large, small = _one(found, 256), _one(found, 64)
    rate = next((line["product_tflops"] for line in _of(found, "training", "product_tflops")), 0)
    step = 32 / large["ours"] if "ours" in large else 0
    packed = {line["trials_at_once"]: line for line in _of(found, "packing", "trials_at_once")}
    times = [line["seconds"] for line in packed.values() if "seconds" in line]
    paths = [line for line in _of(found, "training", "data_path") if "seconds" in line]
    slow = [line["seconds"] for line in paths if line["data_path"] not in SLOW]
    bars: list[tuple[str, bool, Callable[[], float], str, float]] = [
        ("unet, 256x256, batch 32: share of the bf16 rate", bool(rate and "ours" in large),
         lambda: _tflops(large, "ours") / rate, ">=", 0.5),
        ("unet, 256x256, batch 32: times the plain fp32 loop", "ours" in large,
         lambda: large["ours"] / large["plain_fp32"], ">=", 3),
        ("unet, 64x64, batch 8: times the plain fp32 loop", "ours" in small,
         lambda: small["ours"] / small["plain_fp32"], ">=", 5),
        ("data path, Cartesian: greatest share of a step", bool(step and slow),
         lambda: max(slow) / step, "<=", 0.05),
        ("packing: gain over one trial at a time", 1 in packed and len(times) > 1,
         lambda: packed[1]["seconds"] / min(times), ">=", 2),
    ]  # fmt: skip
    rows = []
    for what, known, value, relation, bar in bars:
        if not known:
            rows.append((what, f"{relation} {bar:g}", "-", "not measured"))
            continue
        is_met = value() >= bar if relation == ">=" else value() <= bar
        rows.append((what, f"{relation} {bar:g}", f"{value():.2f}", "met" if is_met else "missed"))
    return _table("what | bar | measured | ", rows)


def _checks(found: Found) -> list[str]:
    lines = _of(found, "checks", "check")
    if not lines:
        return []
    counts = {r: sum(one["result"] == r for one in lines) for r in ("passed", "failed")}
    rest = [one for one in lines if one["result"] != "passed"]
    return [
        "", "## On the GPU as on the CPU", "",
        f"{counts['passed']} of {len(lines)} checks passed, {counts['failed']} failed: every "
        "degradation, method, metric and loss on both devices, and the tests marked `gpu`.",
        *_table("check | result | reason", [(r["check"], r["result"], r["reason"]) for r in rest]),
    ]  # fmt: skip


def _training(found: Found) -> list[str]:
    lines = _networks(found)
    if not lines:
        return []
    rate = next((line["product_tflops"] for line in _of(found, "training", "product_tflops")), 0)
    rows = [
        (
            line["network"], line["degradation"], f"{line['size']}, {line['batch']}",
            _number(line, "plain_fp32"), _number(line, "plain_bf16"), _number(line, "ours"),
            _number(line, "ours_without_data"), _number(line, "ours_eager"),
            line.get("launch", "-").partition(":")[0], _share(line, "ours", "plain_fp32"),
            f"{_tflops(line, 'ours'):.1f}" if "ours" in line else line.get("error", "-"),
        )
        for line in lines
    ]  # fmt: skip
    compiled = [
        (one["compiled"], f"{one['size']}, {one['batch']}",
         _number(one, "rate") if "rate" in one else one.get("error", "-"))
        for one in _of(found, "training", "compiled")
    ]  # fmt: skip
    return [
        "", "## Training", "",
        f"Images per second. The measured rate of bf16 matrix products is {rate:.0f} TFLOP/s. "
        "TFLOP/s: operations of convolutions and matrix products, by PyTorch's counter, with the "
        "data path.",
        *_table("network | degradation | pixels, batch | plain fp32 | plain bf16 | ours | "
                "ours, the same batch each time | ours, eager | launched by | ours / plain fp32 | "
                "TFLOP/s", rows),
        *_table("network through torch.compile | pixels, batch | images per second", compiled),
    ]  # fmt: skip


def _data_path(found: Found) -> list[str]:
    lines = _of(found, "training", "data_path")
    large = _one(found, lines[0]["size"]) if lines else {}
    step = large["batch"] / large["ours_without_data"] if "ours_without_data" in large else None
    rows = [
        (line["data_path"], _number({"ms": 1e3 * line.get("seconds", float("nan"))}, "ms", ".2f"),
         f"{line['seconds'] / step:.3f}" if step and "seconds" in line else line.get("error", "-"))
        for line in lines
    ]  # fmt: skip
    return _table("degradation | milliseconds for a batch | share of a step of unet", rows)


def _reconstruction(found: Found) -> list[str]:
    lines = _of(found, "reconstruction", "method")
    if not lines:
        return []
    rows = [
        (
            line["method"], line["task"], _number(line, "cpu_slices_per_second"),
            _number(line, "gpu_slices_per_second"),
            _share(line, "gpu_slices_per_second", "cpu_slices_per_second"),
            _number(line, "cpu_psnr", ".2f"),
            _number(line, "gpu_psnr", ".2f") if "gpu_psnr" in line else line.get("error", "-"),
        )
        for line in lines
    ]  # fmt: skip
    head = "method | task | slices/s, CPU | slices/s, GPU | ratio | PSNR, CPU | PSNR, GPU"
    return ["", "## Reconstruction", "", "Networks are untrained here.", *_table(head, rows)]


def _learning(found: Found) -> list[str]:
    runs, seeds = _of(found, "learning", "degradation"), _of(found, "learning", "agreement")
    if not runs and not seeds:
        return []
    rows = [
        (
            line["network"], f"{line['degradation']} {line['level']:g}", line.get("steps", "-"),
            _number(line, "seconds"), _number(line, "psnr", ".2f"), _number(line, "tv_psnr", ".2f"),
            " ".join(map(str, line.get("validations", [line.get("error", "-")]))),
        )
        for line in runs
    ]  # fmt: skip
    alike = [
        (one["agreement"], one["on"], f"{fmean(one['psnr']):.2f}", f"{_spread(one['psnr']):.2f}")
        for one in seeds
        if "psnr" in one
    ]
    return [
        "", "## Real trainings", "", "PSNR in dB on test images; TV with its best weight.",
        *_table("network | task | steps | seconds | PSNR | tuned TV | validations", rows),
        *_table("network | trained on | PSNR, mean of the seeds | standard deviation", alike),
    ]  # fmt: skip


def _spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _packing(found: Found) -> list[str]:
    lines = _of(found, "packing", "trials_at_once")
    first = next((one for one in lines if one["trials_at_once"] == 1), {})
    rows = [
        (one["trials_at_once"], _number(one, "seconds"),
         f"{first['seconds'] / one['seconds']:.2f}"
         if "seconds" in one and "seconds" in first else one.get("error", "-"))
        for one in lines
    ]  # fmt: skip
    table = _table("trials at once | seconds | gain", rows)
    return ["", "## Several trials on one GPU", *table] if table else []
