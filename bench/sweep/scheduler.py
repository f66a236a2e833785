"""Assigns free actors to trials, and drops what Tune keeps of finished ones."""

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from bench import private

# Until the cluster notices that a node died; on a busy machine it takes longer.
NOTICE_SECONDS = 3.0


class PendingTrialScheduler(FIFOScheduler):
    """Runs trials in order, each on the first actor that is free.

    Args:
        cpus: number of CPUs of the cluster.
    """

    def __init__(self, cpus: float = 1.0):
        super().__init__()
        self._cpus = cpus
        self._queue: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Put a trial at the end of the queue."""
        self._queue.append(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """If a trial's worker died again, wait until the cluster has noticed a dead node.

        Otherwise all retries would go, within a second, to a node that no longer exists. Each wait
        is twice as long as the one before.
        """
        again = trial.run_metadata.num_failures - 1
        if again > 0 and trial.should_recover():
            time.sleep(NOTICE_SECONDS * 2 ** (again - 1))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Choose the trial that gets a free actor: the first in the queue without a free CPU.

        Tune then discards the actor that it was starting for that trial. For an earlier trial,
        which has a free CPU, that actor would be almost ready; with short trials no second actor
        would ever run.
        """
        self._queue = [trial for trial in self._queue if trial.status == Trial.PENDING]
        if not self._queue:
            return None
        live = tune_controller.get_live_trials()
        busy = sum(_cpus_of(trial) for trial in live if trial.status == Trial.RUNNING)
        one = _cpus_of(self._queue[0])
        starting = int((self._cpus - busy - one) // one)
        return self._queue[max(0, min(starting, len(self._queue) - 1))]


class FinishedTrialCleanup(Callback):
    """Drops what Tune keeps of trials that ended.

    A run resumes from the store and the journal. docs/speed_scale.md measures what remains.
    """

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Drop what is kept of a trial."""
        private.drop_history(trial)

    on_trial_error = on_trial_complete


def _cpus_of(trial: Any) -> float:
    return max(trial.placement_group_factory.required_resources.get("CPU", 0.0), 0.01)
