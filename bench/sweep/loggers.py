"""Experiment trackers, through Tune's integrations."""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ray.tune import Callback
from ray.tune.experiment import Trial

from bench.errors import UserError, unknown
from bench.places import Place
from bench.sweep.trial import Job

# Name: the package that it needs.
LOGGERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def check(names: Sequence[str], folder: Place) -> None:
    """Refuse a tracker that is unknown, not installed, or cannot write to this run folder.

    Raises:
        UserError: with what to do.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown("tracker", name, LOGGERS)
        if find_spec(LOGGERS[name]) is None:
            raise UserError(f"{name}: needs its package (pip install {LOGGERS[name]})")
        elsewhere = name == "mlflow" and "MLFLOW_TRACKING_URI" in os.environ
        if not (isinstance(folder, Path) or elsewhere):
            hint = " or name a server in MLFLOW_TRACKING_URI" if name == "mlflow" else ""
            raise UserError(
                f"{name}: appends to files in the run folder, which is not possible in {folder}; "
                f"choose a local run folder{hint}"
            )


def callbacks(names: Sequence[str], experiment: str, folder: Place) -> list[Callback]:
    """Create Tune's callbacks; their files are written to the run folder.

    TensorBoard's files are in `tensorboard/`. MLflow logs to `MLFLOW_TRACKING_URI`, by default
    `mlflow.db`. Weights & Biases logs to where its settings say, offline to `wandb/`.

    Args:
        names: of `LOGGERS`.
        experiment: name under which runs are grouped.
        folder: the run folder.
    """
    makers: dict[str, Callable[[], Callback]] = {
        "tensorboard": _tensorboard,
        "mlflow": lambda: _mlflow(experiment, folder),
        "wandb": lambda: _wandb(experiment, folder),
    }
    return [makers[name]() for name in names]


def folder_name(trial: Trial) -> str:
    """Name a trial's folder by its job, and by the rung to which it runs if there is one."""
    job = Job(**trial.config)
    return f"{job.cell}-{job.label}" + (f"-until{job.until}" if job.until else "")


def _tensorboard() -> Callback:
    from ray.tune.logger import TBXLoggerCallback

    return TBXLoggerCallback()


def _mlflow(experiment: str, folder: Place) -> Callback:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve()}/mlflow.db"
    return MLflowLoggerCallback(tracking_uri=uri, experiment_name=experiment)


def _wandb(experiment: str, folder: Place) -> Callback:
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project=experiment, dir=str(folder.resolve()))
