"""Training in plain PyTorch, without Ray: usable in a notebook and on any GPU.

| word | meaning |
|---|---|
| job | what a run is: method, configuration, budget, seed (`TrainingJob`) |
| run | a job from its first step to its last: `fit`, or `steps`, which stops at each validation |
| step | one batch, and one change of the weights by an optimiser (`optimisation.Trainer`) |
| recipe | how the network is trained: learning rate, loss, augmentation (`Recipe`) |
| validation | the scores of the network on the validation images (`Validation`) |
| checkpoint | a file from which a run resumes after its last validation |

A classical method is run in the same way: it is built, prepared with the training images if it uses
them, and validated once.
"""

from bench.training.batches import as_tensor, batches
from bench.training.clock import Spent
from bench.training.job import TrainingJob, build, check, check_build, check_space
from bench.training.recipe import Recipe
from bench.training.run import Fit, fit, out_of_memory, report_steps, steps
from bench.training.running_statistics import RECALIBRATION_BATCHES
from bench.training.validation import CHUNK, Validation, magnitude, reconstruct

__all__ = [
    "CHUNK",
    "RECALIBRATION_BATCHES",
    "Fit",
    "Recipe",
    "Spent",
    "TrainingJob",
    "Validation",
    "as_tensor",
    "batches",
    "build",
    "check",
    "check_build",
    "check_space",
    "fit",
    "magnitude",
    "out_of_memory",
    "reconstruct",
    "report_steps",
    "steps",
]
