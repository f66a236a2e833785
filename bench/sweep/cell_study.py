"""The search of one cell by its Optuna study."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

import search_spaces
from bench import methods, physics
from bench.cells import trials_of
from bench.errors import UserError
from bench.score_columns import STANDARD, ScoreColumn
from bench.seeds import derive_seed
from bench.spec import Budget, Cell, Search, differing
from bench.sweep import halving
from bench.sweep.samplers import AIMS, draw_other, sampler_of
from bench.sweep.studies import Studies

# Journals contain this text, and later runs compare it.
DIED = "the worker process died, more often than is retried"
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Candidate:
    """A configuration to try: the `index`-th of its cell.

    Attributes:
        until: the step at which it pauses, to be compared with others; None: it runs to its end.
    """

    index: int
    config: dict[str, Any]
    until: int | None = None


class CellStudy:
    """The search of one cell: asks Optuna for configurations, and survives a restart.

    A trial is identified by its index, 0 to trials - 1: one that a crash left unfinished is marked
    as lost in the journal, and its configuration is asked for again under the same index. Index 0
    has the method's defaults. Each index has a sampler with its own seed. No configuration is tried
    twice, since the result would be the same; if the budget suffices for all configurations, they
    are tried in order.

    Trials of networks pause at the rungs of `halving`, and are told to Optuna as pruned. One that
    is promoted is asked for again, under the same index, and resumes from its checkpoint. The
    journal then has several trials of this index; the last one counts.

    A trial that was lost through no fault of its method is not issued again in this run, and keeps
    the cell from being done: the next run tries it again, so that each cell gets its whole budget.

    Attributes:
        done: whether every trial has finished, and none is to be resumed.
        exhausted: whether this run has nothing left to ask for.

    Args:
        cell: the cell.
        budget: its number of trials.
        studies: all studies of the run.
        search: how configurations are chosen.
        in_order: run one trial at a time, so that the configurations do not depend on timing.
        objective: the metric by which trials are compared.

    Raises:
        UserError: its trials are of another search space, or of another version of a user's part.
    """

    def __init__(
        self,
        cell: Cell,
        budget: Budget,
        studies: Studies,
        search: Search | None = None,
        in_order: bool = False,
        objective: ScoreColumn = STANDARD["psnr"],
    ):
        self.cell = cell
        self.in_order = in_order
        self.objective = objective
        self._score = "psnr" if objective.name == "psnr" else "score"  # attribute of trials
        self.search = search or Search()
        self.budget = budget
        self._aims = AIMS.get(self.search.sampler, ("maximize",))
        self.space = methods.find(cell.method.name).space(cell.method.fixed)
        self.trials = trials_of(cell, budget)
        self._studies = studies
        self._started = studies.find(cell.id)
        code = methods.find(cell.method.name).code
        code += physics.DEGRADATIONS.code(cell.task.degradation.name)
        self._origin = {"space": self.space, "code": code}
        if self._started is not None:
            self._refuse_changed(self._started.user_attrs.get("origin", self._origin))
        self._running: dict[int, optuna.Trial] = {}
        self._reports: dict[int, dict[int, float]] = {}
        self._finished: dict[int, FrozenTrial] = {}
        self._lost: dict[int, FrozenTrial | optuna.Trial] = {}
        self._sent: dict[int, int] = {}
        self._lost_now: set[int] = set()
        self._died: set[int] = set()
        self.done = self.exhausted = False
        for trial in self._started.get_trials(deepcopy=False) if self._started else ():
            self._restore(trial)
        if len(self._finished) >= self.trials and all(map(_failed, self._finished.values())):
            # A cell of which all trials failed is tried again.
            self._lost, self._finished = {**self._finished}, {}
        self._conclude()

    def _refuse_changed(self, before: Mapping[str, Any]) -> None:
        """Refuse to mix trials of two search spaces, or of two versions of a user's part."""
        changed = differing("search space", before["space"], self.space)
        if before["code"] != self._origin["code"]:
            changed.append(f"code of {self.cell.method.name}")
        if changed:
            raise UserError(
                f"{self.cell.id}: has trials from before a change ({', '.join(changed)}); undo "
                "it, choose another run folder, or run the changed method under another label"
            )

    def _restore(self, trial: FrozenTrial) -> None:
        index = trial.user_attrs.get("index")
        if trial.state.is_finished() and "lost" not in trial.user_attrs:
            self._finished[index] = trial
            self._sent[index] = trial.user_attrs.get("step", 0)
            return
        if not trial.state.is_finished():
            self._studies.give_up(self._study, trial)
        elif trial.user_attrs["lost"] == DIED:
            self._died.add(index)
        if index is not None:
            self._lost[index] = trial

    @property
    def _study(self) -> optuna.Study:
        """The study, created with its first trial: of many cells most wait for long."""
        if self._started is None:
            self._started = self._studies.begin(self.cell.id, self._aims)
            self._started.set_user_attr("origin", self._origin)
        return self._started

    @property
    def finished(self) -> int:
        """Number of finished trials; some of them may be resumed."""
        return len(self._finished)

    def ask(self, hints: Iterable[Mapping[str, Any]] = ()) -> Candidate | None:
        """Return the next configuration to try; None if all are finished or running.

        Args:
            hints: configurations that did well in other cells; one not tried yet is next.
        """
        if self.exhausted or (self.in_order and self._running):
            return None
        chosen = self._promotable() or self._next_untried()
        if chosen is None:
            return None
        index, until = chosen
        seed = derive_seed(self.cell.id, "sampler", index) % 2**32
        self._study.sampler = sampler_of(self.search.sampler, seed)
        earlier = self._finished.get(index) or self._lost.get(index)
        if earlier is not None and earlier.params:
            self._study.enqueue_trial(earlier.params)
        elif index == 0:
            self._study.enqueue_trial(search_spaces.defaults(self.space))
        elif self.trials == search_spaces.size(self.space):
            every = search_spaces.configurations(self.space)
            self._study.enqueue_trial(next(one for one in every if one not in self._known()))
        elif hint := self._untried(hints):
            self._study.enqueue_trial(hint)
        elif self.search.sampler == "tpe":
            self._study.enqueue_trial(self._suggested())
        trial, values = self._ask()
        if earlier is None and values in self._known():
            self._studies.give_up(self._study, trial)
            seed = derive_seed(self.cell.id, "another", index) % 2**32
            self._study.enqueue_trial(draw_other(self.space, self._known(), seed))
            trial, values = self._ask()
        trial.set_user_attr("index", index)
        config = {**self.cell.method.fixed, **values}
        trial.set_user_attr("config", config)
        self._running[index] = trial
        self._reports.pop(index, None)
        self._sent[index] = self.budget.steps if until is None else until
        self._studies.flush(wait=False)
        return Candidate(index, config, until)

    def _ask(self) -> tuple[optuna.Trial, dict[str, Any]]:
        trial = self._study.ask()
        return trial, search_spaces.suggest(trial, self.space)

    def _known(self) -> list[dict[str, Any]]:
        """List the configurations that were tried."""
        known = (self._finished, self._running, self._lost)
        return [trial.params for trials in known for trial in trials.values()]

    def _next_untried(self) -> tuple[int, int | None] | None:
        """Return the next index that was not tried yet, and its first rung."""
        taken = self._finished.keys() | self._running.keys() | self._lost_now
        index = next((i for i in range(self.trials) if i not in taken), None)
        return None if index is None else (index, next(iter(self._rungs(index)), None))

    def _promotable(self) -> tuple[int, int | None] | None:
        """Return the index of a trial to resume, and its next rung."""
        reached = {
            index: values
            for index, values in self.validations().items()
            if not _failed(self._finished[index])
        }
        brackets: dict[tuple[int, ...], dict[int, Mapping[int, float]]] = defaultdict(dict)
        for index, values in reached.items():
            brackets[tuple(self._rungs(index))][index] = values
        for rungs, mine in sorted(brackets.items()):
            if chosen := halving.promotable(mine, self._sent, rungs):
                return self._after(*chosen)
        if len(self._finished) < self.trials or self._running or self._lost_now:
            return None
        for rungs, mine in sorted(brackets.items()):
            if any(self._finished[index].state == TrialState.COMPLETE for index in mine):
                continue
            # So few trials, or so many failures, that none was promoted to the end.
            for rung in reversed(rungs):
                for index in halving.ranking(mine, rung):
                    return self._after(index, rung)
        return None

    def _after(self, index: int, rung: int) -> tuple[int, int | None]:
        return index, next((later for later in self._rungs(index) if later > rung), None)

    def _rungs(self, index: int) -> list[int]:
        if not methods.find(self.cell.method.name).learned:
            return []
        return halving.rungs(self.budget, self.trials, self.search.pruner, index)

    def _conclude(self) -> None:
        """Update `done` and `exhausted`."""
        all_tried = len(self._finished.keys() | self._lost_now) >= self.trials and not self._running
        stuck = self.in_order and self._lost_now  # later trials depend on the lost one
        self.exhausted = bool(stuck) or (all_tried and self._promotable() is None)
        self.done = self.exhausted and not self._lost_now

    def _suggested(self) -> dict[str, Any]:
        """Ask the sampler with one trial for each index.

        In the journal a promoted trial is several. The earlier ones would be bad examples, for TPE,
        of a configuration that does well.
        """
        seen = optuna.create_study(directions=list(self._aims), sampler=self._study.sampler)
        seen.add_trials(trial for _, trial in sorted(self._finished.items()))
        trial = seen.ask()
        search_spaces.suggest(trial, self.space)
        return trial.params

    def _untried(self, hints: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
        known = self._known()
        for hint in hints:
            chosen = {key: hint[key] for key in self.space if key in hint}
            if chosen.keys() == self.space.keys() and chosen not in known:
                return chosen
        return None

    def report(self, index: int, step: int, score: float) -> None:
        """Record a validation before the end of a trial."""
        if not math.isfinite(score) or step in self._reports.get(index, {}):
            return  # a trial that resumes from its checkpoint repeats its earlier reports
        self._reports.setdefault(index, {})[step] = score
        if len(self._aims) == 1:  # with several, Optuna takes no intermediate values
            self._running[index].report(score, step)

    def tell(
        self,
        index: int,
        score: float | None,
        *,
        psnr: float = math.nan,
        ssim: float = math.nan,
        parameters: int = 0,
        pruned: bool = False,
        error: str = "",
        step: int = 0,
        seconds: float = 0.0,
        node: str = "",
    ) -> None:
        """Record the end of a trial: its best validation score, or why it has none.

        Args:
            index: the trial's.
            score: see `bench.training.Validation`; the best of its validations.
            psnr: in dB, if it is not the objective.
            ssim: of its last validation, or of the weights that were kept.
            parameters: trainable numbers.
            pruned: whether it stopped before its last step.
            error: why it failed.
            step: optimiser steps done.
            seconds: spent.
            node: the id of the node that ran it.
        """
        trial = self._running.pop(index)
        if index in self._finished:  # plus the time before it was resumed
            seconds += self._finished[index].user_attrs["seconds"]
        notes = {
            "error": error, "step": step, "seconds": seconds, "parameters": parameters,
            "node": node,
        }  # fmt: skip
        if math.isfinite(ssim):
            notes["ssim"] = ssim
        if len(self._aims) > 1:
            reports = self._reports.get(index, {})
            notes |= {"pruned": pruned and not error, "reports": reports}
        for name, value in notes.items():
            trial.set_user_attr(name, value)
        if self.objective.name != "psnr" and math.isfinite(psnr):
            trial.set_user_attr("psnr", psnr)
        if error or score is None or not math.isfinite(score):
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_user_attr(self._score, score)
            if pruned:
                state = TrialState.PRUNED if len(self._aims) == 1 else TrialState.FAIL
                self._study.tell(trial, state=state)
            else:
                values = [score, ssim if math.isfinite(ssim) else 0.0, float(parameters)]
                self._study.tell(trial, values[: len(self._aims)])
        # In some releases tell() returns the trial without its last attributes.
        self._finished[index] = self._study.get_trials(deepcopy=False)[trial.number]
        self._conclude()
        self._studies.flush()

    def lose(self, index: int, reason: str) -> bool:
        """Record that a trial was lost, so that the next run tries it again.

        If its worker died in the previous run too, despite the retries, the method is to blame:
        such a trial has failed and is not lost.

        Returns:
            whether it is lost; if not, tell it as failed.
        """
        if reason == DIED and index in self._died:
            return False
        self._lost[index] = self._running.pop(index)
        self._studies.give_up(self._study, self._lost[index], reason)
        self._lost_now.add(index)
        self._conclude()
        self._studies.flush()
        return True

    @property
    def best(self) -> dict[str, Any] | None:
        """The configuration of the best trial that ran its whole budget; None if all failed."""
        complete = [t for t in self._finished.values() if t.state == TrialState.COMPLETE]
        if not complete:
            return None
        best = max(complete, key=lambda t: (t.user_attrs[self._score], -t.user_attrs["index"]))
        return dict(best.user_attrs["config"])

    def validations(self) -> dict[int, Mapping[int, float]]:
        """Return each finished trial's score by step."""
        return {
            index: trial.intermediate_values
            or {int(step): score for step, score in trial.user_attrs.get("reports", {}).items()}
            for index, trial in self._finished.items()
        }

    def table(self) -> pd.DataFrame:
        """List the finished trials: one line each, the configuration as JSON.

        The column of the objective contains the best validation value.
        """
        lines = [
            {
                "cell": self.cell.id,
                "trial": index,
                "state": "pruned" if trial.user_attrs.get("pruned") else STATES[trial.state],
                "psnr": trial.user_attrs.get("psnr", math.nan),
                "ssim": trial.user_attrs.get("ssim", math.nan),
                self.objective.name: self.objective.sign
                * trial.user_attrs.get(self._score, math.nan),
                "parameters": trial.user_attrs.get("parameters", 0),
                "step": trial.user_attrs.get("step", 0),
                "seconds": trial.user_attrs.get("seconds", 0.0),
                "node": trial.user_attrs.get("node", ""),
                "error": trial.user_attrs.get("error", ""),
                "config": json.dumps(trial.user_attrs.get("config", {})),
            }
            for index, trial in sorted(self._finished.items())
        ]
        return pd.DataFrame(lines)


def _failed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and not trial.user_attrs.get("pruned")
