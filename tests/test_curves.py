import numpy as np
import pandas as pd
import pytest

from bench import curves


def curve(cell: str, psnr: np.ndarray, seed: int = 0) -> pd.DataFrame:
    steps = 15 * np.arange(1, len(psnr) + 1)
    return pd.DataFrame({"cell": cell, "seed": seed, "step": steps, "psnr": psnr, "ssim": 0.5})


STEPS = 15.0 * np.arange(1, 9)


@pytest.mark.parametrize("exponent", [0.3, 1.0])
def test_a_power_law_is_continued_exactly(exponent: float) -> None:
    def law(step: np.ndarray) -> np.ndarray:
        return 30 - 20 * step**-exponent

    (line,) = curves.gains(curve("a", law(STEPS))).itertuples()
    assert line.gain == pytest.approx(law(120.0) - law(90.0))
    assert line.psnr_2x == pytest.approx(law(240.0), abs=0.02)
    assert line.psnr_4x == pytest.approx(law(480.0), abs=0.05)


def test_a_curve_that_has_flattened_is_not_rising() -> None:
    flat = np.array([20, 22, 23, 23.4, 23.5, 23.52, 23.5, 23.55])
    still = np.array([18, 19, 20, 20.5, 21, 21.4, 21.7, 22])
    found = curves.gains(pd.concat([curve("flat", flat), curve("still", still)]))
    assert dict(found["rising"]) == {"flat": False, "still": True}
    assert found["gain"]["flat"] == pytest.approx(23.55 - 23.52)
    assert found["psnr_4x"]["flat"] >= found["psnr_2x"]["flat"] >= found["psnr"]["flat"]


def test_seeds_are_averaged_and_a_later_fall_costs_nothing() -> None:
    rise = np.array([20, 21, 22, 23, 24, 24.25, 24.3, 24.0])
    found = curves.gains(pd.concat([curve("a", rise), curve("a", rise + 1, seed=1)]))
    assert found["psnr"]["a"] == pytest.approx(24.8)
    assert found["gain"]["a"] == pytest.approx(0.05)
    assert not found["rising"]["a"]


def test_short_or_missing_curves_say_nothing() -> None:
    assert curves.gains(curve("a", np.array([20.0, 21, 22]))).empty
    assert curves.gains(pd.DataFrame(columns=list(curves.COLUMNS))).empty
