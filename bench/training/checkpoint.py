"""Checkpoints of training runs."""

import io
import json
import math
import warnings

import torch

from bench import methods, places
from bench.errors import DamagedError, UserError
from bench.training.clock import Spent
from bench.training.job import TrainingJob, split_config
from bench.training.optimisation import Trainer
from bench.training.validation import BestWeights

# How the noise of training images is drawn: 1, image by image; 2, a batch at once.
NOISE = 2


def save(job: TrainingJob, step: int, spent: Spent, trainer: Trainer, best: BestWeights) -> None:
    """Write a job's checkpoint; the earlier one remains until it is complete.

    Args:
        job: the job; its `checkpoint` is not None.
        step: optimiser steps so far.
        spent: time so far.
        trainer: the network in training.
        best: the best weights so far.
    """
    assert job.checkpoint is not None
    content = {
        "identity": _identity(job),
        "noise": NOISE,
        "step": step,
        **spent._asdict(),
        "trainer": trainer.state_dict(),
        "best": best.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    places.write_sealed(places.place(job.checkpoint), buffer.getvalue())


def resume(
    job: TrainingJob, trainer: Trainer, best: BestWeights, device: torch.device
) -> tuple[int, Spent]:
    """Load a job's checkpoint, if there is one.

    An unfinished one of a version that drew other noise is left out, with a warning: the run
    begins again, and ends with the numbers of this version.

    Returns:
        the optimiser steps done, and the time spent.

    Raises:
        UserError: the checkpoint belongs to another run.
    """
    if job.checkpoint is None:
        return 0, Spent()
    path = places.place(job.checkpoint)
    try:
        saved = places.read_sealed(path)
    except FileNotFoundError:
        return 0, Spent()
    except DamagedError as error:
        warnings.warn(f"{error}; it is set aside, and the run begins again", stacklevel=2)
        places.set_aside(path)
        return 0, Spent()
    content = torch.load(io.BytesIO(saved), map_location=device, weights_only=True)
    if content.get("identity") != _identity(job):
        raise UserError(f"{path}: the checkpoint of another run; delete it or name another file")
    if content.get("noise", 1) != NOISE and content["step"] < job.budget.steps and _draws_anew(job):
        warnings.warn(
            f"{path}: was written by a version that drew other training noise; the run begins "
            "again",
            stacklevel=2,
        )
        return 0, Spent()
    trainer.load_state_dict(content["trainer"])
    best.load_state_dict(content["best"])
    return content["step"], Spent(content["seconds"], content.get("cpu_seconds", math.nan))


def _draws_anew(job: TrainingJob) -> bool:
    """Return whether each step has noise of its own; what is kept is drawn as it always was."""
    recipe, _ = split_config(methods.find(job.method), job.config)
    return not recipe.draws


def _identity(job: TrainingJob) -> str:
    return json.dumps(job.identity, sort_keys=True, default=str)
