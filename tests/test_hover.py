"""What a pointer shows, and colours on a dark page."""

import pandas as pd

from bench import hover
from bench.palette import DARK_PAGE, PALETTE, contrast, on_dark
from bench.score_columns import STANDARD


def test_a_pointer_shows_value_unit_interval_and_counts() -> None:
    cells = pd.DataFrame(
        {"label": ["<b>", "tv"], "psnr": [23.456, 20.0], "psnr_low": [23.0, None],
         "psnr_high": [24.0, None], "images": [60, float("nan")], "seeds": [3, 1]}
    )  # fmt: skip
    first, second = hover.of_cells(cells, {"psnr": STANDARD["psnr"]}, ["level 0.1", ""])
    assert first.split("<br>") == [
        "<b>&lt;b&gt;</b>", "level 0.1", "PSNR 23.46 dB [23.00, 24.00]", "60 test images, 3 seeds",
    ]  # fmt: skip
    assert second.split("<br>") == ["<b>tv</b>", "PSNR 20.00 dB", "1 seed"]


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert contrast("#777777", "#ffffff") == contrast("#ffffff", "#777777")
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48  # as WebAIM's checker has it


def test_every_colour_is_seen_on_a_dark_page() -> None:
    lighter = [on_dark(colour) for colour in PALETTE]
    assert min(contrast(colour, DARK_PAGE) for colour in lighter) >= 3
    assert len(set(lighter)) == len(PALETTE)
    seen = [colour for colour in PALETTE if contrast(colour, DARK_PAGE) >= 3]
    assert seen
    assert [on_dark(colour) for colour in seen] == seen
