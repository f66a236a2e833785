"""One training run in plain PyTorch, without Ray: usable in a notebook and on any GPU.

`fit` runs a method to the end of its budget; `steps` is the same run as a generator that stops at
each validation, which is how the sweep drives, prunes and abandons it. A classical method goes the
same way: it is built, perhaps shown the training images, and validated once.
"""

import io
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

import search_spaces
from bench import methods, metrics, places
from bench.data import ImageSet
from bench.data.augment import augment
from bench.errors import DamagedError, DivergedError, UserError
from bench.methods import losses
from bench.metrics import Metric
from bench.physics import Physics
from bench.places import Place
from bench.plugins import check_options, checked_options
from bench.registry import label_of
from bench.seeds import derive_seed
from bench.spec import Budget
from bench.trainer import Recipe, Trainer, has_moments, settle

CHUNK = 16
MOST_PARAMETERS = 1_000_000_000
SETTLING = 4  # batches from which the moments of batch normalisation are taken


@dataclass(frozen=True)
class Progress:
    """A validation in the middle of a run: means over the validation images.

    Attributes:
        step: optimiser steps so far.
        psnr: in dB.
        ssim: see `bench.metrics`.
        score: the objective, with its sign turned where lower is better: greater is better here.
    """

    step: int
    psnr: float
    ssim: float
    score: float


@dataclass(frozen=True)
class Fit:
    """A finished run.

    Attributes:
        reconstructor: with the weights that were best on validation, in evaluation mode.
        psnr: mean validation PSNR of these, in dB.
        ssim: their mean validation SSIM.
        score: see `Progress`, of these.
        step: optimiser steps until these.
        history: every validation.
        seconds: wall-clock time of the run.
        parameters: trainable numbers.
        parts: into which each batch was cut.
    """

    reconstructor: nn.Module
    psnr: float
    ssim: float
    score: float
    step: int
    history: list[Progress]
    seconds: float
    parameters: int
    parts: int = 1


def fit(
    method: methods.Given,
    config: Mapping[str, Any],
    train: ImageSet,
    val: ImageSet,
    physics: Physics,
    budget: Budget,
    seed: int,
    workers: int = 1,
    report: Callable[[Progress], None] | None = None,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    checkpoint: str | Place | None = None,
    checkpoint_seconds: float = 0.0,
    compile_network: bool = False,
    parts: int = 1,
    objective: str | type[Metric] = "psnr",
) -> Fit:
    """Run a method to the end of its budget.

    Args:
        method: its name or dotted path, its class, a function that builds it, or a network, of
            which a copy is trained; see `methods.find`.
        config: keywords of the method and fields of `Recipe`, together.
        train: training images; of these only measurements and images of this set are used.
        val: validation images, which choose the weights.
        physics: the task's physics.
        budget: steps, batch size and number of validations.
        seed: of initial weights, order and training noise.
        workers: processes that train together with one global batch; each calls this function
            after `torch.distributed` was set up.
        report: called at each validation.
        device: default: the GPU where there is one.
        precision: "fp32", "bf16", or "auto": bf16 where the hardware has it.
        checkpoint: a file, or an object (`s3://`, `gs://`), that is written at each validation;
            where it exists, the run goes on from it and ends as it would have done without a stop.
            A damaged one is set aside, with a warning, and the run begins again.
        checkpoint_seconds: least time between two such writes.
        compile_network: train through `torch.compile`, which takes its time before the first step.
        parts: into which each batch is cut, one after another, to need less memory.
        objective: the metric that chooses the weights: its name, dotted path or class.

    Raises:
        UserError: unknown method, keyword, metric or loss, a batch that the workers cannot share,
            or a checkpoint of another run.
        DivergedError: the loss is no longer finite.
    """
    run = steps(
        method, config, train, val, physics, budget, seed, workers,
        device=device, precision=precision, checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds, compile_network=compile_network, parts=parts,
        objective=objective,
    )  # fmt: skip
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            return end.value
        if report is not None:
            report(progress)


def steps(
    method: methods.Given,
    config: Mapping[str, Any],
    train: ImageSet,
    val: ImageSet,
    physics: Physics,
    budget: Budget,
    seed: int,
    workers: int = 1,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    checkpoint: str | Place | None = None,
    checkpoint_seconds: float = 0.0,
    checkpoint_at: int | None = None,
    compile_network: bool = False,
    parts: int = 1,
    objective: str | type[Metric] = "psnr",
) -> Generator[Progress, None, Fit]:
    """Run a method as a generator of its validations that returns the `Fit`; see `fit`.

    At the validation after `checkpoint_at` steps the checkpoint is written however short ago the
    last one was, for a run that is to be left there.
    """
    start = time.perf_counter()
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(seed)
    chosen = methods.find(method)
    recipe, _ = _divide(chosen, config)
    model = build(chosen, config, physics).to(device)
    physics = physics.to(device)
    judge = _Judge(val, physics, device, objective)
    if not chosen.learned:
        if isinstance(model, methods.Classical):
            model.prepare(as_tensor(train).to(device))
        only = judge(model, 0)
        yield only
        if math.isnan(only.psnr):
            raise DivergedError("a pixel of a reconstruction is no finite number")
        if math.isnan(only.score):
            raise DivergedError(
                f"{metrics.name_of(objective)} is not defined on any validation image"
            )
        seconds = time.perf_counter() - start
        return Fit(model.eval(), only.psnr, only.ssim, only.score, 0, [only], seconds, 0)

    trainer = Trainer(model, recipe, budget, workers, device, precision, compile_network, parts)
    best = _Best()
    chosen_by = [] if objective == "psnr" else [label_of(objective)]
    identity = json.dumps(
        [chosen.name, dict(config), budget.model_dump(exclude={"trials"}), seed, parts, *chosen_by],
        sort_keys=True,
        default=str,
    )
    done, spent = _resume(checkpoint, identity, trainer, best, device)
    yield from best.history  # whoever judges the run may have been stopped with it
    due = set(report_steps(budget))
    settling = _settling(
        trainer, batches(
            train, physics, recipe, budget.batch_size, derive_seed("moments", seed), device,
            rank=trainer.rank, workers=workers,
        ),
    )  # fmt: skip
    saved = start
    drawn = batches(
        train, physics, recipe, budget.batch_size, seed, device,
        after=done, rank=trainer.rank, workers=workers,
    )  # fmt: skip
    for step, (x, y) in zip(range(done + 1, budget.steps + 1), drawn, strict=False):
        # What is random inside a network comes from the step's number: a resumed run repeats it.
        torch.manual_seed(derive_seed("step", seed, step, trainer.rank))
        trainer.step(step, x, y, physics)
        if step in due:
            network = trainer.network
            settle(network, settling, physics)
            best.note(judge(network, step), network, final=step > trainer.pretrained)
            late = time.perf_counter() - saved >= checkpoint_seconds or step == checkpoint_at
            if checkpoint is not None and trainer.rank == 0 and late:
                saved = time.perf_counter()
                seconds = spent + time.perf_counter() - start
                _save(places.place(checkpoint), identity, step, seconds, trainer, best)
            yield best.history[-1]
    if best.weights is None:
        raise DivergedError(f"no validation gave a finite {metrics.name_of(objective).upper()}")
    model.load_state_dict(best.weights)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    seconds = spent + time.perf_counter() - start
    return Fit(
        model.eval(), best.psnr, best.ssim, best.score, best.step, best.history, seconds,
        parameters, parts,
    )  # fmt: skip


def check(method: methods.Given, config: Mapping[str, Any]) -> None:
    """Refuse an unknown method or configuration key, a wrong value, a loss that cannot be computed.

    Raises:
        UserError: with the nearest spelling, what the key takes, or the file that a perceptual
            loss lacks.
    """
    chosen = methods.find(method)
    recipe, _ = _divide(chosen, config)
    if chosen.learned and "perceptual" in losses.chosen(recipe.loss, recipe.perceptual):
        losses.verify(recipe.perceptual)


def check_space(method: methods.Given, fixed: Mapping[str, Any]) -> None:
    """Check every choice, and both ends of every range, that a sweep may give to a method.

    Args:
        method: see `fit`.
        fixed: what the benchmark file holds fixed.

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
    """Build a method with its defaults for a physics: what a run would end in is refused now.

    Networks of ours are built without memory for their weights.

    Args:
        method: see `fit`.
        fixed: what the benchmark file holds fixed.
        physics: the task's.

    Raises:
        UserError: it cannot be built, or a network of ours has too many parameters.
    """
    chosen = methods.find(method)
    config = {**search_spaces.defaults(chosen.space(fixed)), **fixed}
    try:
        if not (chosen.built_in and chosen.learned):
            build(chosen, config, physics)
            return
        size = chosen.parameters(physics, **_divide(chosen, config)[1])
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's constructor does
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
    return chosen.create(physics, **_divide(chosen, config)[1])


@torch.no_grad()
def reconstruct(
    model: nn.Module, y: Shaped[Tensor, "n ..."], physics: Physics
) -> Shaped[Tensor, "n 1 h w"]:
    """Reconstruct measurements a few at a time, in evaluation mode and float32."""
    model.eval()
    return torch.cat([model(part, physics) for part in y.split(CHUNK)])


def _settling(
    trainer: Trainer, drawn: Iterator[tuple[Tensor, Tensor]]
) -> list[Shaped[Tensor, "b ..."]]:
    """Return the measurements that settle the moments of a network that has any."""
    return [y for _, y in itertools.islice(drawn, SETTLING if has_moments(trainer.network) else 0)]


class _Judge:
    """Scores a model on the validation images, measured once."""

    def __init__(
        self, val: ImageSet, physics: Physics, device: torch.device, objective: str | type[Metric]
    ):
        self.objective = objective
        self.sign = metrics.find(objective).column(metrics.name_of(objective)).sign
        self.x = as_tensor(val).to(device)
        self.y = physics.measure(self.x, val.ids)
        self.physics = physics

    def __call__(self, model: nn.Module, step: int) -> Progress:
        wanted = dict.fromkeys(["psnr", "ssim", self.objective])
        x_hat = reconstruct(model, self.y, self.physics)
        scores = metrics.evaluate(x_hat, self.x, metrics=list(wanted))
        psnr, ssim = scores["psnr"].mean().item(), scores["ssim"].mean().item()
        values = scores[metrics.name_of(self.objective)]
        # Images that leave the objective undefined have no say; a spoilt image spoils the score.
        score = math.nan if math.isnan(psnr) else self.sign * values[~values.isnan()].mean().item()
        return Progress(step, psnr, ssim, score)


class _Best:
    """The weights that were best on validation, and every validation on the way.

    Attributes:
        final: whether they come from the training proper, not from its beginning with another
            loss.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] | None = None
        self.psnr, self.ssim, self.step, self.final = -math.inf, math.nan, 0, False
        self.score = -math.inf
        self.history: list[Progress] = []

    def note(self, progress: Progress, model: nn.Module, final: bool) -> None:
        """Take in a validation."""
        self.history.append(progress)
        if not math.isnan(progress.score) and (final, progress.score) > (self.final, self.score):
            self.psnr, self.ssim, self.step = progress.psnr, progress.ssim, progress.step
            self.score, self.final = progress.score, final
            self.weights = {
                key: value.detach().clone() for key, value in model.state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain data and tensors."""
        return {**vars(self), "history": [astuple(one) for one in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; before there were objectives, the score was the PSNR."""
        vars(self).update({"score": state["psnr"], **state})
        self.history = [
            Progress(step, psnr, ssim, *(score or [psnr]))
            for step, psnr, ssim, *score in state["history"]
        ]


def _save(
    path: Place, identity: str, step: int, seconds: float, trainer: Trainer, best: _Best
) -> None:
    """Write a checkpoint; the earlier one stays until it is whole."""
    content = {
        "identity": identity,
        "step": step,
        "seconds": seconds,
        "trainer": trainer.state_dict(),
        "best": best.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    places.write_sealed(path, buffer.getvalue())


def _resume(
    path: str | Place | None, identity: str, trainer: Trainer, best: _Best, device: torch.device
) -> tuple[int, float]:
    """Load a checkpoint, if there is one; return the steps done and the seconds spent."""
    if path is None:
        return 0, 0.0
    try:
        saved = places.read_sealed(places.place(path))
    except FileNotFoundError:
        return 0, 0.0
    except DamagedError as error:
        warnings.warn(f"{error}; it is set aside, and the run begins again", stacklevel=2)
        places.set_aside(places.place(path))
        return 0, 0.0
    content = torch.load(io.BytesIO(saved), map_location=device, weights_only=True)
    if content.get("identity") != identity:
        raise UserError(f"{path}: the checkpoint of another run; delete it or name another file")
    trainer.load_state_dict(content["trainer"])
    best.load_state_dict(content["best"])
    return content["step"], content["seconds"]


def _divide(method: methods.Method, config: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Part a configuration into the training recipe and the method's own keywords."""
    own = method.options
    trainable = {field.name for field in fields(Recipe)} if method.learned else set()
    check_options(method.name, config, {*own, *trainable, "preset"})
    chosen = method.expand(config)
    training = {**method.recipe, **chosen}
    trained = {key: training[key] for key in training if key in trainable - set(own)}
    recipe = Recipe(**checked_options(method.name, Recipe, trained))
    return recipe, method.checked({key: chosen[key] for key in chosen if key in own})


def out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out, of the machine or of the GPU."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "can't allocate memory" in text or "out of memory" in text
    )


def report_steps(budget: Budget) -> list[int]:
    """List the steps after which a run is validated, evenly spaced, the last one included."""
    reports = min(budget.reports, budget.steps)
    return [round(budget.steps * (k + 1) / reports) for k in range(reports)]


def batches(
    train: ImageSet,
    physics: Physics,
    recipe: Recipe,
    size: int,
    seed: int,
    device: torch.device,
    *,
    after: int = 0,
    rank: int = 0,
    workers: int = 1,
) -> Iterator[tuple[Float[Tensor, "b 1 h w"], Shaped[Tensor, "b ..."]]]:
    """Yield (x, y), augmented and measured, for one step after another, for ever.

    Args:
        train: images.
        physics: what measures them, with fresh noise at each step: a simulated degradation can be
            drawn as often as wanted.
        recipe: how they are augmented.
        size: of a batch.
        seed: with the number of the step, all that a batch depends on.
        device: of the result.
        after: steps to leave out at the beginning.
        rank: this worker's place among those that share each batch.
        workers: their number.
    """
    images = as_tensor(train)
    order = _order(len(train), size, seed)
    for step, batch in enumerate(itertools.islice(order, after, None), after + 1):
        mine = slice(rank, None, workers)
        # Drawn for the whole batch, so that several workers see what one would.
        x = images[batch].to(device)  # a batch at a time: trials that share a GPU share its memory
        x = augment(x, recipe.augment, derive_seed("augment", seed, step))[mine]
        ids = [f"{train.ids[i]}@{seed}.{step}.{place}" for place, i in enumerate(batch)]
        yield x, physics.measure(x, ids[mine])


def _order(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of positions for ever: shuffled passes over the data, end to end."""
    waiting: list[int] = []
    epoch = 0
    while True:
        while len(waiting) < size:
            order = np.random.default_rng(derive_seed("order", seed, epoch))
            waiting += order.permutation(count).tolist()
            epoch += 1
        yield waiting[:size]
        waiting = waiting[size:]


def as_tensor(images: ImageSet) -> Float[Tensor, "n 1 h w"]:
    """See images as a tensor, not to be written to: they may lie in memory that others share."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images.images)
