"""Which trials are promoted: the schedule, and whole searches of simulated trials."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bench.spec import Budget, Cell, DegradationSpec, MethodSpec, Search, Task
from bench.sweep.cell_study import Candidate, CellStudy
from bench.sweep.halving import promotable, rungs
from bench.sweep.studies import Studies
from bench.training import report_steps

BUDGET = Budget(trials=18, steps=120, reports=8)


@pytest.mark.parametrize(
    ("reports", "steps"),
    [(8, [15, 45]), (12, [20, 50]), (3, [40, 80]), (2, [60]), (1, [])],
)
def test_rungs_treble_from_an_eighth_of_the_steps_on_validations(
    reports: int, steps: list[int]
) -> None:
    assert rungs(Budget(steps=120, reports=reports), 18, "asha", 0) == steps


def test_hyperband_has_brackets_that_choose_later() -> None:
    found = [rungs(BUDGET, 18, "hyperband", index) for index in range(4)]
    assert found == [[15, 45], [45], [], [15, 45]]


def test_no_trial_pauses_without_a_pruner_or_without_others() -> None:
    assert rungs(BUDGET, 18, "none", 0) == []
    assert rungs(BUDGET, 2, "asha", 0) == []


def test_the_best_third_of_a_rung_is_promoted_from_the_highest_rung_first() -> None:
    low = {k: {15: 20.0 + k} for k in range(11)}
    sent = dict.fromkeys(range(11), 15)
    for best in (10, 9, 8):
        assert promotable(low, sent, [15, 45]) == (best, 15)
        sent[best] = 45  # on its way
    assert promotable(low, sent, [15, 45]) is None
    there = {8: {15: 28.0, 45: 28.5}, 9: {15: 29.0, 45: 29.9}, 10: {15: 30.0, 45: 29.0}}
    assert promotable(low | there, sent, [15, 45]) == (10, 45)  # its best was the first validation


def test_no_more_than_a_third_is_promoted_but_for_the_best_of_its_rung() -> None:
    rung = {k: {15: psnr} for k, psnr in enumerate([20.0, 21.0, 22.0, 30.0, 29.0, 28.0, 27.0])}
    early = {0: 45, 1: 45}  # the best when they were promoted
    sent = dict.fromkeys(rung, 15) | early
    assert promotable(rung, sent, [15, 45]) == (3, 15)
    assert promotable(rung, sent | {3: 45}, [15, 45]) is None
    twelve = rung | {k: {15: 10.0} for k in range(7, 12)}
    assert promotable(twelve, dict.fromkeys(twelve, 15) | early | {3: 45}, [15, 45]) == (4, 15)
    rung |= {7: {15: 26.0}, 8: {15: 25.0}}
    assert promotable(rung, sent | {3: 45, 7: 15, 8: 15}, [15, 45]) is None


def study(folder: Path, budget: Budget, pruner: str, in_order: bool = False) -> CellStudy:
    task = Task("data", DegradationSpec(name="gaussian_noise", levels=[0.1]), 0.1)
    cell = Cell(task, 4, MethodSpec.model_validate("unet"))
    search = Search.model_validate({"sampler": "random", "pruner": pruner})
    return CellStudy(cell, budget, Studies(folder / "journal.log"), search, in_order)


class Played:
    """Trials that run at once, and end in any order: what each of them validates to is given."""

    def __init__(self, one: CellStudy, curves: np.ndarray, choose: np.random.Generator):
        self.one, self.curves, self.choose = one, curves, choose
        self.running: list[Candidate] = []
        self.segments: list[tuple[int, int]] = []

    def begin(self) -> bool:
        if (candidate := self.one.ask()) is None:
            return False
        stretches = [until for index, until in self.segments if index == candidate.index]
        if stretches and self.one.search.pruner == "asha":
            self.check(candidate.index, stretches[-1])
        self.running.append(candidate)
        return True

    def check(self, index: int, rung: int) -> None:
        """Check that the quota was not used up, or that the trial leads its rung."""
        there = {i for i, until in self.segments if until == rung}
        promoted = {i for i, until in self.segments if until > rung} & there
        promoted |= {job.index for job in self.running} & there
        before = sum(step <= rung for step in report_steps(self.one.budget))
        leads = max(there, key=lambda i: self.curves[i, :before].max()) == index
        assert leads or len(promoted) < len(there) // 3

    def end_one(self) -> None:
        candidate = self.running.pop(self.choose.integers(len(self.running)))
        until = candidate.until or self.one.budget.steps
        values = self.curves[candidate.index]
        seen = [step for step in report_steps(self.one.budget) if step <= until]
        for number, step in enumerate(seen):
            self.one.report(candidate.index, step, values[number])
        best = float(values[: len(seen)].max())
        pruned = until < self.one.budget.steps
        self.one.tell(candidate.index, best, step=until, seconds=1.0, pruned=pruned)
        self.segments.append((candidate.index, until))

    def to_the_end(self, at_once: int) -> None:
        while True:
            while len(self.running) < at_once and self.begin():
                pass
            if not self.running:
                return
            self.end_one()


@settings(max_examples=40, deadline=None)
@given(
    trials=some.integers(1, 20),
    reports=some.integers(1, 9),
    at_once=some.integers(1, 6),
    pruner=some.sampled_from(["asha", "hyperband", "none"]),
    seed=some.integers(0, 1000),
)
def test_searches_end_and_the_best_of_steady_trials_wins(
    trials: int, reports: int, at_once: int, pruner: str, seed: int
) -> None:
    """Steady: a trial that is ahead of another is ahead at every step."""
    budget = Budget(trials=trials, steps=45, reports=reports)
    choose = np.random.default_rng(seed)
    curves = choose.permutation(trials)[:, None] + np.linspace(0, 0.5, reports)
    with tempfile.TemporaryDirectory() as folder:
        one = study(Path(folder), budget, pruner)
        played = Played(one, curves, choose)
        played.to_the_end(at_once)
        assert one.done
        table = one.table()
        again = study(Path(folder), budget, pruner)
        assert again.done
        assert again.best == one.best
    assert len(table) == trials
    assert len(set(played.segments)) == len(played.segments)  # no steps are run twice
    complete = table[table["state"] == "complete"]
    if pruner == "hyperband":  # the best of one bracket may stop below the best of another
        looks = [tuple(rungs(budget, trials, pruner, trial)) for trial in range(trials)]
        assert {looks[trial] for trial in complete["trial"]} == set(looks)
    else:
        assert complete["psnr"].max() == curves.max()
    for look in rungs(budget, trials, "asha", 0) if pruner == "asha" else ():
        there = sum(table["step"] >= look)
        beyond = sum(table["step"] > look)
        assert beyond >= max(there // 3, 1)
    if pruner == "none":
        assert set(table["state"]) == {"complete"}
    assert list(table["seconds"]) == [
        sum(index == trial for index, _ in played.segments) for trial in range(trials)
    ]


@settings(max_examples=15, deadline=None)
@given(stop=some.integers(0, 40), seed=some.integers(0, 1000))
def test_killed_at_any_time_a_search_in_order_ends_as_an_undisturbed_one(
    stop: int, seed: int
) -> None:
    budget = Budget(trials=9, steps=48, reports=8)
    curves = np.random.default_rng(seed).normal(size=(9, 8)).cumsum(1)
    tables = []
    for killed in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            played = Played(
                study(Path(folder), budget, "asha", in_order=True), curves, np.random.default_rng(0)
            )
            for _ in range(stop if killed else 0):
                if played.begin():
                    played.end_one()
            played.begin()  # under way when the driver dies
            if killed:
                played.one = study(Path(folder), budget, "asha", in_order=True)
                played.running.clear()
            played.to_the_end(1)
            tables.append(played.one.table())
    assert tables[0].equals(tables[1])
    assert (tables[0]["state"] == "complete").any()


def test_where_most_fail_the_best_of_the_others_goes_to_the_end(tmp_path: Path) -> None:
    budget = Budget(trials=4, steps=40, reports=4)
    one = study(tmp_path, budget, "asha")
    for _ in range(4):
        candidate = one.ask()
        assert candidate is not None
        if candidate.index == 2:
            one.report(2, 10, 20.0)
            one.tell(2, 20.0, step=10, pruned=True)
        else:
            one.tell(candidate.index, None, error="diverged")
    for until in (20, None):
        candidate = one.ask()
        assert candidate is not None
        assert (candidate.index, candidate.until) == (2, until)
        for step in (10, 20):
            one.report(2, step, 20.0)
        one.tell(2, 20.0, step=until or 40, pruned=until is not None)
    assert one.done
    assert list(one.table()["state"]) == ["failed", "failed", "complete", "failed"]


def test_one_that_fails_after_it_was_sent_on_is_not_sent_again(tmp_path: Path) -> None:
    one = study(tmp_path, Budget(trials=6, steps=40, reports=2), "asha")
    asked = []
    while (candidate := one.ask()) is not None:
        index, until = candidate.index, candidate.until
        asked.append((index, until))
        if until is not None:
            one.report(index, until, 20.0 - index)
            one.tell(index, 20.0 - index, step=until, pruned=True)
        elif index == 0:
            one.tell(index, None, step=20, error="diverged")
        else:
            one.report(index, 20, 20.0 - index)  # repeated by a trial that resumes
            one.tell(index, 20.5, step=40)
            best = candidate.config
    first = [(index, 20) for index in range(6)]
    assert asked == [*first[:3], (0, None), *first[3:4], (1, None), *first[4:]]
    assert one.done
    assert one.best == best
