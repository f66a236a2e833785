"""The gallery of a report: x, A_dagger(y), and each cell's x_hat and error, at one scale."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from PIL import Image

from bench import charts
from bench.report.leaderboard import TASK, Leaderboard
from bench.store import Store

SIDE = 160  # pixels, at most, of an image whose side is larger
MOST_CELLS = 8  # of a task
MOST_WORST = 4  # cells of a task whose worst image is shown
MOST_BYTES = 2_200_000  # of all pictures, so that the page stays below 5 MB


def gallery(store: Store, board: Leaderboard) -> list[dict[str, Any]]:
    """Collect for each task the first stored test image, as its best cells reconstruct it.

    Returns:
        for each task `title`, `worst` (the error that is shown brightest), `pictures`, each with
        `name`, `image` and, of a reconstruction, `error`: PNG files in base64; and `spoilt`: the
        image that each of the best cells reconstructs worst, also with `truth`.
    """
    found: list[dict[str, Any]] = []
    spent = 0
    if board.lines.empty:
        return found
    for (degradation, level), lines in board.lines.groupby(TASK, sort=False):
        truth = store.read_pictures(str(lines["task"].iloc[0]))
        kept: dict[str, dict[str, np.ndarray]] = {}
        for cell, label in zip(lines["cell"], lines["label"], strict=True):
            if len(kept) < MOST_CELLS and (pictures := store.read_pictures(cell)):
                kept[label] = pictures
        if not kept or spent > MOST_BYTES:
            continue
        errors = [
            one["error"][0, 0]
            for label, one in kept.items()
            if "error" in one and label not in charts.FLOOR
        ]
        worst = max((float(np.quantile(np.abs(one), 0.995)) for one in errors), default=1.0) or 1.0
        shown = [{"name": "ground truth", "image": _png(truth["x"][0, 0])}] if truth else []
        start = next((one["start"] for one in kept.values() if "start" in one), None)
        if start is not None:
            shown.append({"name": "A_dagger(y)", "image": _png(start[0, 0])})
        for label, one in kept.items():
            picture = {"name": label, "image": _png(one["x_hat"][0, 0])}
            if "error" in one:
                picture["error"] = _png(np.abs(one["error"][0, 0]) / worst, heat=True)
            shown.append(picture)
        spent += sum(len(text) for one in shown for text in one.values())
        spoilt = _worst_of(store, lines, worst)
        spent += sum(len(text) for one in spoilt for text in one.values())
        title = f"{degradation}, level {level:g}"
        found.append({"title": title, "worst": worst, "pictures": shown, "spoilt": spoilt})
    return found


def _worst_of(store: Store, lines: pd.DataFrame, worst: float) -> list[dict[str, str]]:
    """Collect the test image that each of the best cells reconstructs worst."""
    found: list[dict[str, str]] = []
    above = lines[~lines["method"].isin(charts.FLOOR)]
    for cell, label in zip(above["cell"], above["label"], strict=True):
        if len(found) < MOST_WORST and (kept := store.read_worst(cell)):
            x, x_hat = (kept[name][0, 0].astype(np.float32) for name in ("x", "x_hat"))
            found.append(
                {
                    "name": f"{label}: {kept['psnr'][0]:.2f} dB on {kept['ids'][0]}",
                    "truth": _png(x),
                    "image": _png(x_hat),
                    "error": _png(np.abs(x_hat - x) / worst, heat=True),
                }
            )
    return found


def _png(image: Float[np.ndarray, "h w"], heat: bool = False) -> str:
    """Encode an image as PNG in base64; 0 is black and 1 white, or the ends of `HEAT`."""
    pixels = np.clip(np.nan_to_num(np.abs(image)), 0, 1)
    if heat:
        places = np.array([place for place, _ in charts.HEAT])
        stops = np.array([list(bytes.fromhex(colour[1:])) for _, colour in charts.HEAT]) / 255
        pixels = np.stack([np.interp(pixels, places, one) for one in stops.T], axis=-1)
    picture = Image.fromarray((255 * pixels).round().astype(np.uint8))
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
