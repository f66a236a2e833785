"""Optuna's samplers, as a benchmark file names them, and their objectives."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

import search_spaces

STARTUP_TRIALS = 4
POPULATION = 8  # of NSGA-II: generations have to fit into few trials
# Directions of a multi-objective study: the objective, SSIM and the number of parameters.
AIMS = {"nsga2": ("maximize", "maximize", "minimize")}


def sampler_of(kind: str, seed: int) -> optuna.samplers.BaseSampler:
    """Create the sampler that a benchmark file names."""
    if kind == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    if kind == "cmaes":
        # It searches numbers only; choices from a list are left to the independent sampler.
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=1,
            independent_sampler=sampler_of("tpe", seed),
            warn_independent_sampling=False,
        )
    if kind == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
    return optuna.samplers.RandomSampler(seed=seed)


def draw_other(
    space: search_spaces.Space, known: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    """Draw a random configuration that differs from all known ones."""
    study = optuna.create_study(sampler=sampler_of("random", seed))
    drawn = (search_spaces.suggest(study.ask(), space) for _ in itertools.count())
    return next(one for one in drawn if one not in known)
