"""The description of a training run, and the checks before it begins."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

import search_spaces
from bench import methods
from bench.errors import UserError
from bench.methods import losses
from bench.metrics import Metric
from bench.options import check_options, checked_options
from bench.physics import Physics
from bench.places import Place
from bench.registry import label_of
from bench.spec import Budget
from bench.training.recipe import Recipe

MOST_PARAMETERS = 1_000_000_000


@dataclass(frozen=True)
class TrainingJob:
    """The description of a training run, except for its images and its physics.

    Attributes:
        method: its name or dotted path, its class, a function that builds it, or a network, of
            which a copy is trained; see `methods.find`.
        config: keywords of the method and fields of `Recipe`, together.
        budget: steps, batch size and number of validations.
        seed: of initial weights, order and training noise.
        workers: processes that train together with one global batch.
        precision: "fp32", "bf16", or "auto": bf16 where the hardware has it.
        compile_network: train through `torch.compile`, which delays the first step.
        microbatches: into how many each batch is cut, one after another, to need less memory.
        objective: the metric that chooses the weights: its name, dotted path or class.
        checkpoint: a file, or an object (`s3://`, `gs://`), that is written at each validation;
            if it exists, the run resumes from it and ends as if it had never stopped.
            A damaged one is set aside, with a warning, and the run begins again.
        checkpoint_seconds: minimum interval between two such writes.
        checkpoint_at: the step of a validation at which it is written in any case, for a run that
            is to pause there.
    """

    method: methods.Given
    config: Mapping[str, Any]
    budget: Budget
    seed: int
    workers: int = 1
    precision: str = "auto"
    compile_network: bool = False
    microbatches: int = 1
    objective: str | type[Metric] = "psnr"
    checkpoint: str | Place | None = None
    checkpoint_seconds: float = 0.0
    checkpoint_at: int | None = None

    @property
    def identity(self) -> list[Any]:
        """What a checkpoint must have in common with a run that resumes from it."""
        budget = self.budget.model_dump(exclude={"trials"})
        name = methods.find(self.method).name
        chosen_by = [] if self.objective == "psnr" else [label_of(self.objective)]
        return [name, dict(self.config), budget, self.seed, self.microbatches, *chosen_by]


def split_config(
    method: methods.Method, config: Mapping[str, Any]
) -> tuple[Recipe, dict[str, Any]]:
    """Split a configuration into the training recipe and the method's own keywords.

    Raises:
        UserError: an unknown key, or an invalid value.
    """
    own = method.options
    trainable = {field.name for field in fields(Recipe)} if method.learned else set()
    check_options(method.name, config, {*own, *trainable, "preset"})
    chosen = method.expand(config)
    training = {**method.recipe, **chosen}
    trained = {key: training[key] for key in training if key in trainable - set(own)}
    recipe = Recipe(**checked_options(method.name, Recipe, trained))
    return recipe, method.checked({key: chosen[key] for key in chosen if key in own})


def check(method: methods.Given, config: Mapping[str, Any]) -> None:
    """Refuse an unknown method or configuration key, a wrong value, a loss that cannot be computed.

    Raises:
        UserError: with the nearest spelling, the valid values, or the missing file of a perceptual
            loss.
    """
    chosen = methods.find(method)
    recipe, _ = split_config(chosen, config)
    if chosen.learned and "perceptual" in losses.chosen(recipe.loss, recipe.perceptual):
        losses.verify(recipe.perceptual)


def check_space(method: methods.Given, fixed: Mapping[str, Any]) -> None:
    """Check every choice, and both ends of every range, that a sweep may choose for a method.

    Args:
        method: see `fit`.
        fixed: the configuration that the benchmark file holds fixed.

    Raises:
        UserError: see `check`.
    """
    chosen = methods.find(method)
    check(chosen, fixed)
    for name, entry in chosen.space(fixed).items():
        for value in entry.get("choices") or (entry["low"], entry["high"]):
            check(chosen, {**fixed, name: value})


def check_build(
    method: methods.Given, fixed: Mapping[str, Any], physics: Physics | None = None
) -> None:
    """Build a method with its defaults for a physics, so that failures are found before a run.

    Built-in networks are built without memory for their weights.

    Args:
        method: see `fit`.
        fixed: the configuration that the benchmark file holds fixed.
        physics: the task's.

    Raises:
        UserError: it cannot be built, or a built-in network has too many parameters.
    """
    chosen = methods.find(method)
    config = {**search_spaces.defaults(chosen.space(fixed)), **fixed}
    try:
        if not (chosen.built_in and chosen.learned):
            build(chosen, config, physics)
            return
        size = chosen.parameters(physics, **split_config(chosen, config)[1])
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's constructor may raise anything
        task = f" for {physics.name}" if physics is not None else ""
        reason = " ".join(str(error).split())
        raise UserError(
            f"{chosen.name}: cannot be built{task} ({type(error).__name__}: {reason})"
        ) from None
    if size > MOST_PARAMETERS:
        raise UserError(
            f"{chosen.name}: {size:,} parameters are more than {MOST_PARAMETERS:,}; "
            "make it narrower"
        )


def build(
    method: methods.Given, config: Mapping[str, Any], physics: Physics | None = None
) -> nn.Module:
    """Build the reconstructor of a configuration, untrained.

    Raises:
        UserError: unknown method or keyword.
    """
    chosen = methods.find(method)
    return chosen.create(physics, **split_config(chosen, config)[1])
