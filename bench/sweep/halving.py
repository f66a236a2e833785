"""Asynchronous successive halving: which of a cell's trials are worth more optimiser steps."""

from collections.abc import Collection, Mapping

from bench.spec import Budget
from bench.training import report_steps

REDUCTION = 3
FIRST = 8  # the first rung is at an eighth of the steps
BRACKETS = 3


def rungs(budget: Budget, trials: int, pruner: str, index: int) -> list[int]:
    """List the steps at which a trial pauses until its rank among the others is known.

    These are the first validations after an eighth and after three eighths of a full trial. Of
    Hyperband's three brackets (Li et al., JMLR 18, 2018) the second has only the later rung, the
    third none.

    Args:
        budget: the full length of a trial and its validations.
        trials: number of trials of the cell.
        pruner: "asha", "hyperband" or "none".
        index: of the trial; trials are assigned to several brackets in turn.
    """
    if pruner == "none" or trials < REDUCTION:
        return []
    late = index % BRACKETS if pruner == "hyperband" else 0
    validations = report_steps(budget)
    found, threshold = set(), budget.steps / FIRST * REDUCTION**late
    while threshold < budget.steps:
        found.add(next(step for step in validations if step >= threshold))
        threshold *= REDUCTION
    return sorted(found - {budget.steps})


def promotable(
    reached: Mapping[int, Mapping[int, float]], sent: Mapping[int, int], steps: Collection[int]
) -> tuple[int, int] | None:
    """Choose a trial to resume, much as ASHA does (Li et al., MLSys 2020, algorithm 2).

    ASHA promotes every trial that is in the best third of its rung at the time. As a search
    improves, earlier ones drop out of the best third, so that more than a third are promoted. Here
    the best paused trial is promoted while fewer than a third of the rung have been; the best of a
    rung of three or more is always promoted.

    Args:
        reached: trial -> step -> score (greater is better), of the trials of one bracket.
        sent: trial -> the step to which it has been sent.
        steps: the bracket's `rungs`.

    Returns:
        the trial and the rung that it leaves, the highest possible; None if none is promoted now.
    """
    for rung in sorted(steps, reverse=True):
        ranked = ranking(reached, rung)
        paused = [trial for trial in ranked if sent[trial] <= rung]
        quota = len(ranked) // REDUCTION
        promoted = len(ranked) - len(paused)
        if promoted < quota or (quota and paused and paused[0] == ranked[0]):
            return paused[0], rung
    return None


def ranking(reached: Mapping[int, Mapping[int, float]], rung: int) -> list[int]:
    """Order the trials that reached a rung by their best score up to it, best first."""
    scores = {
        trial: max(score for step, score in values.items() if step <= rung)
        for trial, values in reached.items()
        if rung in values
    }
    return sorted(scores, key=lambda trial: (-scores[trial], trial))
