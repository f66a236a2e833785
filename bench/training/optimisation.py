"""The optimiser steps of a network in training."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from bench.errors import UserError
from bench.methods import losses
from bench.methods.losses.adversarial import discriminator_loss
from bench.spec import Budget
from bench.training.batches import Batch
from bench.training.guard import Guard
from bench.training.launching import Choice, launched, take_penalty
from bench.training.recipe import Recipe


class Trainer:
    """A network in training, one optimiser step at a time.

    With an adversarial loss each step also trains the discriminator, on the same images.

    Args:
        model: the network.
        recipe: how it is trained.
        budget: of the whole run.
        workers: processes that share each batch.
        device: of the network and the batches.
        precision: see `use_bf16`.
        compile_network: train through `torch.compile`.
        microbatches: into how many each batch is cut, one after another, to need less memory.

    Attributes:
        rank: of this worker among those that share each batch.
        launch: how the network's kernels are launched, from the first step on.
        pretrained: the last step that trains with the squared error alone.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        budget: Budget,
        workers: int,
        device: torch.device,
        precision: str,
        compile_network: bool = False,
        microbatches: int = 1,
    ):
        self.microbatches = microbatches
        self.steps = budget.steps
        self.pretrained = int(recipe.pretrain * budget.steps)
        self.recipe, self.device = recipe, device
        self.bf16 = use_bf16(precision, device)
        if all(weight.ndim <= 4 for weight in model.parameters()):
            # Convolutions are faster in this order.
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        if compile_network:
            model = torch.compile(model)  # type: ignore[assignment]
        self.parallel = _share(model, workers, budget)
        self.rank = dist.get_rank() if workers > 1 else 0
        self.average = _average(self.model, recipe.ema) if recipe.ema else None
        self.criterion = losses.Criterion(
            recipe.loss, recipe.perceptual, recipe.discriminator_width
        ).to(device)
        self.pretraining = losses.Criterion("mse")
        self.optimisers = [_optimiser(self.model, recipe)]
        if self.criterion.discriminator is not None:
            self.optimisers.append(_optimiser(self.criterion.discriminator, recipe))
        self.alone = workers == 1 and microbatches == 1 and not compile_network
        self.launch: Choice | None = None
        self.guards = [Guard("loss", device), Guard("discriminator's loss", device)]

    @property
    def network(self) -> nn.Module:
        """The network that is validated and kept: the average of the weights if there is one."""
        return self.model if self.average is None else self.average.module

    def step(
        self,
        step: int,
        batch: Batch,
    ) -> None:
        """Train on a batch.

        Raises:
            DivergedError: the loss or its gradient is no longer finite, or was not in one of the
                last steps; see `Guard`.
        """
        self.model.train()
        if self.launch is None:
            self.launch = Choice("eager", "its passes are not whole batches of one process")
            if self.alone:
                self.parallel, self.launch = launched(self.model, batch, self.bf16)
        criterion = self.criterion if step > self.pretrained else self.pretraining
        outputs: list[Tensor] = []

        def loss(part: slice) -> Tensor:
            images = batch.part(part)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                x_hat = images.reconstruct(self.parallel)
            outputs.append(x_hat.detach())
            return criterion(x_hat, images.x) + take_penalty(self.model)

        x = batch.x
        size = -(-len(x) // self.microbatches)
        slices = [slice(begin, begin + size) for begin in range(0, len(x), size)]
        self._optimizer_step(0, self.model, loss, slices, len(x), step)
        if self.average is not None:
            self.average.update_parameters(self.model)
        discriminator = criterion.discriminator
        if discriminator is not None:
            x_hat = torch.cat(outputs)
            self._optimizer_step(
                1, discriminator,
                lambda part: discriminator_loss(discriminator, x_hat[part], x[part]),
                slices, len(x), step,
            )  # fmt: skip

    def _optimizer_step(
        self,
        which: int,
        model: nn.Module,
        loss: Callable[[slice], Tensor],
        slices: list[slice],
        count: int,
        step: int,
    ) -> None:
        """Take one step of an optimiser; the gradient is summed over the micro-batches."""
        optimiser = self.optimisers[which]
        for group in optimiser.param_groups:
            rate = self.recipe.lr * _rate(step - 1, self.steps, self.recipe.warmup)
            group["lr"] = rate * group.get("factor", 1.0)
        optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for part in slices:
            value = loss(part) * (len(range(count)[part]) / count)
            value.backward()
            total += value.detach()
        if model is not self.model:
            average_gradients(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), self.recipe.clip_norm)
        # The fused optimisers skip a step for which this is 1.
        optimiser.found_inf = self.guards[which].note(step, total, norm)  # type: ignore
        optimiser.step()

    def check(self) -> None:
        """Check the steps since the last check.

        Raises:
            DivergedError: a loss or its gradient was not finite.
        """
        for guard in self.guards:
            guard.check()

    def _stateful(self) -> dict[str, Any]:
        found: dict[str, Any] = {"model": self.model, "average": self.average}
        if self.criterion.discriminator is not None:
            found["discriminator"] = self.criterion.discriminator
        found |= {f"optimiser{number}": one for number, one in enumerate(self.optimisers)}
        return {name: part for name, part in found.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the steps so far have changed."""
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])


def use_bf16(precision: str, device: torch.device) -> bool:
    """Return whether to train in bf16; "auto" means where the hardware multiplies in it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # builds without oneDNN, as for macOS on ARM, lack it
        return False


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    kind = kinds[recipe.optimiser]
    groups = _groups(model)
    return kind(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Group a network's parameters by their `learning_rates`."""
    factors: Mapping[str, float] = getattr(model, "learning_rates", {})
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, weight in model.named_parameters():
        matching = [factor for start, factor in factors.items() if name.startswith(start)]
        groups.setdefault(matching[-1] if matching else 1.0, []).append(weight)
    return [{"params": found, "factor": factor} for factor, found in groups.items() if found]


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """Keep a running average of weights and buffers, with a shorter memory at first."""

    @torch.no_grad()
    def blend(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        if not mean.is_floating_point():
            return now
        return mean.lerp(now, 1 - min(decay, (1 + float(count)) / (10 + float(count))))

    return AveragedModel(model, avg_fn=blend, use_buffers=True)


def average_gradients(model: nn.Module) -> None:
    """Average a model's gradients over the workers, where there are several."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    for weight in model.parameters():
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= dist.get_world_size()


def _share(model: nn.Module, workers: int, budget: Budget) -> nn.Module:
    """Wrap a model for data-parallel training where several workers share the batch."""
    if workers == 1:
        return model
    if not dist.is_initialized() or dist.get_world_size() != workers:
        raise UserError(f"workers={workers} needs a torch.distributed group of that size")
    if budget.batch_size % workers:
        raise UserError(
            f"budget.batch_size: {budget.batch_size} cannot be shared by {workers} workers"
        )
    return DistributedDataParallel(model)


def _rate(step: int, total: int, warmup: float) -> float:
    rise = max(1.0, warmup * total)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, total - rise)))
