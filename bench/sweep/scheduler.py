"""Stops unpromising trials: one ASHA or Hyperband per cell, refits untouched."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from bench.spec import Budget
from bench.training import report_steps

REDUCTION = 3
BRACKETS = 3


class PerCellPruner(FIFOScheduler):
    """Hands each search trial to its own cell's ASHA (Li et al., MLSys 2020), or to none.

    Hyperband (Li et al., JMLR 18, 2018) is the same with several brackets that begin to stop later.

    Args:
        finished: cell -> trial -> step -> PSNR of earlier trials, replayed so that a sweep that is
            taken up again prunes as an uninterrupted one does.
        budget: the full length of a trial and its validations.
        pruner: "asha", "hyperband" or "none".
        cpus: of the cluster.
    """

    def __init__(
        self,
        finished: Mapping[str, Mapping[int, Mapping[int, float]]],
        budget: Budget,
        pruner: str = "asha",
        cpus: float = 1.0,
    ):
        super().__init__()
        self._cpus = cpus
        self._queue: list[Any] = []
        self._budget, self._pruner = budget, pruner
        self._brackets: dict[tuple[str, int], ASHAScheduler] = {}
        for cell, trials in finished.items():
            for index, values in trials.items():
                self._replay(cell, index, values)

    def _replay(self, cell: str, index: int, values: Mapping[int, float]) -> None:
        trial = SimpleNamespace(trial_id=f"{cell}/{index}")
        bracket = self._bracket(cell, index)
        bracket.on_trial_add(None, trial)
        for step, psnr in sorted(values.items()):
            bracket.on_trial_result(None, trial, {"step": step, "psnr": psnr})

    def _bracket(self, cell: str, index: int) -> ASHAScheduler:
        """Give the bracket of a trial: of several, the one that its index falls to in turn."""
        late = index % BRACKETS if self._pruner == "hyperband" else 0
        if (cell, late) not in self._brackets:
            self._brackets[cell, late] = ASHAScheduler(
                time_attr="step",
                metric="psnr",
                mode="max",
                max_t=self._budget.steps,
                grace_period=min(
                    min(report_steps(self._budget)) * REDUCTION**late, self._budget.steps
                ),
                reduction_factor=REDUCTION,
            )
        return self._brackets[cell, late]

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Choose who gets an actor that has come free: the first that no CPU waits for.

        Tune then gives up the actor that it was starting for that trial. Of the first in the queue,
        for which there is a CPU, it would give up one that is nearly ready; where trials are short
        it would never get a second one to run.
        """
        self._queue = [trial for trial in self._queue if trial.status == Trial.PENDING]
        if not self._queue:
            return None
        live = tune_controller.get_live_trials()
        busy = sum(_cpus_of(trial) for trial in live if trial.status == Trial.RUNNING)
        one = _cpus_of(self._queue[0])
        starting = int((self._cpus - busy - one) // one)
        return self._queue[max(0, min(starting, len(self._queue) - 1))]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Enter a search trial into its cell's bracket."""
        self._queue.append(trial)
        if trial.config["seed"] is None:
            bracket = self._bracket(trial.config["cell"], trial.config["trial"])
            bracket.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a search trial that falls behind its cell's others at the same step."""
        last = result.get("done") or result.get("step", 0) >= self._budget.steps
        if last or trial.config["seed"] is not None or self._pruner == "none":
            return TrialScheduler.CONTINUE
        bracket = self._bracket(trial.config["cell"], trial.config["trial"])
        return bracket.on_trial_result(tune_controller, trial, result)


def _cpus_of(trial: Any) -> float:
    return max(trial.placement_group_factory.required_resources.get("CPU", 0.0), 0.01)
