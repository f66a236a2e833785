"""Asynchronous successive halving: which of a cell's trials are worth more optimiser steps."""

from collections.abc import Collection, Mapping

from bench.spec import Budget
from bench.training import report_steps

REDUCTION = 3
FIRST = 8  # trials first wait for each other after this fraction of the steps
BRACKETS = 3


def rungs(budget: Budget, trials: int, pruner: str, index: int) -> list[int]:
    """List the steps at which a trial is paused, until its rank among the others is known.

    These are the first validations after an eighth and after three eighths of a full trial. Of
    Hyperband's three brackets (Li et al., JMLR 18, 2018) the second has only the later one, the
    third none.

    Args:
        budget: the full length of a trial and its validations.
        trials: of the cell.
        pruner: "asha", "hyperband" or "none".
        index: the trial's; of several brackets it belongs to the one that it falls to in turn.
    """
    if pruner == "none" or trials < REDUCTION:
        return []
    late = index % BRACKETS if pruner == "hyperband" else 0
    validations = report_steps(budget)
    looks, at = set(), budget.steps / FIRST * REDUCTION**late
    while at < budget.steps:
        looks.add(next(step for step in validations if step >= at))
        at *= REDUCTION
    return sorted(looks - {budget.steps})


def promotable(
    reached: Mapping[int, Mapping[int, float]], sent: Mapping[int, int], looks: Collection[int]
) -> tuple[int, int] | None:
    """Choose a trial to resume, much as ASHA does (Li et al., MLSys 2020, algorithm 2).

    ASHA promotes every trial that is in the best third of its rung at the time. As a search gets
    better, early ones fall out of it, and more than a third is promoted. Here the best paused trial
    is promoted while fewer than a third have; the best of a rung of three or more always does.

    Args:
        reached: trial -> step -> score (greater is better), of the trials of one bracket.
        sent: trial -> the step to which it has been sent.
        looks: of `rungs`.

    Returns:
        the trial and the rung that it leaves, the highest possible. None: no trial is promoted now.
    """
    for look in sorted(looks, reverse=True):
        ranked = ranking(reached, look)
        waiting = [trial for trial in ranked if sent[trial] <= look]
        places = len(ranked) // REDUCTION
        gone = len(ranked) - len(waiting)
        if gone < places or (places and waiting and waiting[0] == ranked[0]):
            return waiting[0], look
    return None


def ranking(reached: Mapping[int, Mapping[int, float]], look: int) -> list[int]:
    """Order the trials that reached a step by the best score on the way, best first."""
    scores = {
        trial: max(score for step, score in values.items() if step <= look)
        for trial, values in reached.items()
        if look in values
    }
    return sorted(scores, key=lambda trial: (-scores[trial], trial))
