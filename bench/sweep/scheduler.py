"""Which trial an actor goes to that has come free, and what Tune keeps of those that ended."""

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from bench import private

NOTICE_SECONDS = 4.0


class PendingTrialScheduler(FIFOScheduler):
    """Runs trials in order, each on the first actor that is free.

    Args:
        cpus: of the cluster.
    """

    def __init__(self, cpus: float = 1.0):
        super().__init__()
        self._cpus = cpus
        self._queue: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Put a trial at the end of the queue."""
        self._queue.append(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Wait a little when a trial's worker died again, until the cluster knows what died.

        Otherwise all tries would go, within a second, to a node that is no more.
        """
        if trial.run_metadata.num_failures > 1:
            time.sleep(NOTICE_SECONDS)

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


class FinishedTrialCleanup(Callback):
    """Drops what Tune keeps of trials that ended.

    A run is resumed from the store and the journal. What is left is in docs/speed_scale.md.
    """

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Drop what is kept of a trial."""
        private.drop_history(trial)

    on_trial_error = on_trial_complete


def _cpus_of(trial: Any) -> float:
    return max(trial.placement_group_factory.required_resources.get("CPU", 0.0), 0.01)
