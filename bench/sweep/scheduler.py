"""Stops unpromising trials: one ASHA bracket per cell, refits untouched."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from bench.spec import Budget
from bench.training import report_steps

REDUCTION = 3


class PerCellASHA(FIFOScheduler):
    """Hands each search trial to its own cell's ASHA (Li et al., MLSys 2020).

    Args:
        finished: cell -> trial -> step -> PSNR of earlier trials, replayed so that a sweep that is
            taken up again prunes as an uninterrupted one does.
        budget: the full length of a trial and its validations.
    """

    def __init__(self, finished: Mapping[str, Mapping[int, Mapping[int, float]]], budget: Budget):
        super().__init__()
        self._budget = budget
        self._brackets: dict[str, ASHAScheduler] = {}
        for cell, trials in finished.items():
            for index, values in trials.items():
                self._replay(cell, f"{cell}/{index}", values)

    def _replay(self, cell: str, name: str, values: Mapping[int, float]) -> None:
        trial = SimpleNamespace(trial_id=name)
        bracket = self._bracket(cell)
        bracket.on_trial_add(None, trial)
        for step, psnr in sorted(values.items()):
            bracket.on_trial_result(None, trial, {"step": step, "psnr": psnr})

    def _bracket(self, cell: str) -> ASHAScheduler:
        if cell not in self._brackets:
            self._brackets[cell] = ASHAScheduler(
                time_attr="step",
                metric="psnr",
                mode="max",
                max_t=self._budget.steps,
                grace_period=min(report_steps(self._budget)),
                reduction_factor=REDUCTION,
            )
        return self._brackets[cell]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Enter a search trial into its cell's bracket."""
        if trial.config["seed"] is None:
            self._bracket(trial.config["cell"]).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a search trial that falls behind its cell's others at the same step."""
        last = result.get("done") or result.get("step", 0) >= self._budget.steps
        if last or trial.config["seed"] is not None:
            return TrialScheduler.CONTINUE
        return self._bracket(trial.config["cell"]).on_trial_result(tune_controller, trial, result)
