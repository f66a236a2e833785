"""How much each hyper-parameter mattered to a search, by Optuna's functional ANOVA.

Hutter, Hoos and Leyton-Brown, ICML 2014. Optuna is imported when it is called, which takes a
second; neither PyTorch nor Ray is.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench.score_columns import ScoreColumn

FEWEST = 6  # complete trials; a forest of fewer says nothing


def importances(
    trials: pd.DataFrame, space: Mapping[str, Mapping[str, Any]], objective: ScoreColumn
) -> dict[str, float]:
    """Estimate which part of the variation of the objective each hyper-parameter explains.

    Args:
        trials: of one cell: `state, config` (JSON), the objective.
        space: its search space: for each parameter `low`, `high` and `log`, or `choices`.
        objective: the metric of the search.

    Returns:
        by parameter, the most important first; they add up to 1. Empty with fewer than `FEWEST`
        complete trials, or if the objective or every parameter has one value only.
    """
    complete = trials[(trials["state"] == "complete") & np.isfinite(trials[objective.name])]
    configs = [json.loads(str(config)) for config in complete["config"]]
    names = [name for name in space if all(name in config for config in configs)]
    varied = [name for name in names if len({repr(config[name]) for config in configs}) > 1]
    if len(complete) < FEWEST or not varied or complete[objective.name].nunique() < 2:
        return {}
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {
        name: _distribution(optuna, space[name], [c[name] for c in configs]) for name in varied
    }
    study = optuna.create_study(direction="minimize" if objective.sign < 0 else "maximize")
    study.add_trials(
        optuna.trial.create_trial(
            params={name: config[name] for name in varied}, distributions=kinds, value=float(value)
        )
        for config, value in zip(configs, complete[objective.name], strict=True)
    )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(value) for name, value in found.items()}


def _distribution(optuna: Any, entry: Mapping[str, Any], values: list[Any]) -> Any:
    """Return the distribution of a parameter, widened to the values that were tried."""
    if "choices" in entry:
        choices = [*entry["choices"], *(value for value in values if value not in entry["choices"])]
        return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(choices)))
    low, high = min(entry["low"], *values), max(entry["high"], *values)
    if all(isinstance(value, int) for value in (low, high, *values)):
        return optuna.distributions.IntDistribution(low, high, log=bool(entry.get("log")))
    return optuna.distributions.FloatDistribution(
        float(low), float(high), log=bool(entry.get("log"))
    )
