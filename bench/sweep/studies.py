"""The Optuna studies of a run, one for each cell, in a journal that survives a crash."""

from collections.abc import Callable, Sequence

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from bench.places import Place
from bench.sweep.journal import Journal


class Studies:
    """The studies of a run, in the journal at a path.

    Attributes:
        damage: a message about damage of the journal; empty if there is none.
    """

    def __init__(self, path: Place, check: Callable[[], None] | None = None):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._journal = Journal(path, check)
        self.damage = self._journal.damage
        self._storage = JournalStorage(self._journal)
        self._known = {study.study_name for study in self._storage.get_all_studies()}

    def find(self, name: str) -> optuna.Study | None:
        """Load a study, if there is one of that name."""
        if name not in self._known:
            return None
        return optuna.load_study(study_name=name, storage=self._storage)

    def begin(self, name: str, aims: Sequence[str]) -> optuna.Study:
        """Create a study."""
        self._known.add(name)
        return optuna.create_study(study_name=name, storage=self._storage, directions=list(aims))

    def give_up(
        self, study: optuna.Study, trial: FrozenTrial | optuna.Trial, reason: str = ""
    ) -> None:
        """End a trial that is no longer run, and mark it as lost."""
        study_id = self._storage.get_study_id_from_name(study.study_name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        self._storage.set_trial_user_attr(trial_id, "lost", reason)
        self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def flush(self, wait: bool = True) -> None:
        """Write the pending logs; see `Journal.flush`."""
        self._journal.flush(wait)

    def close(self) -> None:
        """Write the pending logs, and leave the journal as one file; see `Journal.close`."""
        self._journal.close()
