"""A device that computes nothing: counts launches, copies and synchronisations of a GPU.

It is PyTorch's `meta` device, whose tensors have shapes but no values. Tensors of two devices in
one operation are an error there as on a GPU, and everything that would move data or wait passes
through `Counting`.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.fx.experimental._config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.training import optimisation

DEVICE = torch.device("meta")
ATEN = torch.ops.aten
COPIES = {ATEN._to_copy.default, ATEN.copy_.default}
INDEXING = {ATEN.index.Tensor, ATEN.index_put_.default, ATEN._unsafe_index.Tensor}


@dataclass
class Counts:
    """What a piece of work would ask of a GPU.

    Attributes:
        launches: operations on the device other than views.
        uploads: copies from the CPU to the device.
        uploaded: their bytes.
        synchronisations: values and tensors that the CPU reads from the device, for which it has
            to wait.
        casts: conversions between types of numbers.
        draws: calls of a random generator on the CPU.
    """

    launches: int = 0
    uploads: int = 0
    uploaded: int = 0
    synchronisations: int = 0
    casts: int = 0
    draws: int = 0


class Counting(TorchDispatchMode):
    """Counts the operations of a block.

    Args:
        device: the one that stands for the GPU.

    Raises:
        RuntimeError: an operation has tensors of both devices, in the block.
    """

    def __init__(self, device: torch.device = DEVICE):
        super().__init__()
        self.device, self.counts = device, Counts()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count an operation, and run it."""
        kwargs = kwargs or {}
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = any(one.device.type == self.device.type for one in given)
        if func is ATEN._local_scalar_dense.default and there:
            self.counts.synchronisations += 1
            # What lets checks pass, and ends no iteration early.
            return given[0].dtype == torch.bool or 1.0
        if func is ATEN._to_copy.default and there and _to(kwargs, "cpu"):
            self.counts.synchronisations += 1
            return torch.zeros(given[0].shape, dtype=kwargs.get("dtype") or given[0].dtype)
        masks = [one for one in given[1:] if one.dtype == torch.bool]
        if func in INDEXING and any(one.device.type == self.device.type for one in masks):
            self.counts.synchronisations += 1  # for the number of values that a mask selects
        result = func(*args, **kwargs)
        made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        self._note(func, given, made)
        return result

    def _note(self, func: Any, given: list[Tensor], made: list[Tensor]) -> None:
        kinds = {one.device.type for one in (*given, *made)}
        mixed = kinds >= {"cpu", self.device.type} and self.device.type != "cpu"
        if func in COPIES and mixed:
            self.counts.uploads += 1
            self.counts.uploaded += sum(one.nbytes for one in made)
        elif mixed and func not in INDEXING and any(_large(one) for one in given):
            raise RuntimeError(f"{func}: tensors on the CPU and on the device")
        elif func in INDEXING and mixed:
            self.counts.uploads += 1
        if func is ATEN._to_copy.default and given[0].dtype != made[0].dtype:
            self.counts.casts += 1
        # The arguments are a generator's where the name says so.
        random = torch.Tag.nondeterministic_seeded in func.tags
        if random and all(one.device.type == "cpu" for one in (*given, *made)):
            self.counts.draws += 1
        if self.device.type in kinds and not func.is_view:
            self.counts.launches += 1


def _to(kwargs: dict[str, Any], kind: str) -> bool:
    device = kwargs.get("device")
    return device is not None and torch.device(device).type == kind


def _large(tensor: Tensor) -> bool:
    """Return whether a tensor of the CPU is more than a number, which a kernel may take."""
    return tensor.device.type == "cpu" and tensor.ndim > 0


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """Let the code of training take `DEVICE` for a GPU: autocast, generators, optimisers."""

    class Updates:
        """The optimiser of a GPU is a launch or two; it is not counted."""

        def __init__(self, optimiser: torch.optim.Optimizer):
            self.param_groups = optimiser.param_groups

        def zero_grad(self, set_to_none: bool = True) -> None:
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.grad = None

        def step(self) -> None:
            pass

    def plain(model: Any, recipe: Any) -> Any:
        return Updates(torch.optim.Adam(optimisation._groups(model), lr=recipe.lr))

    class Generator(torch.Generator):
        """Of the CPU, whatever the device."""

        def __new__(cls, device: object = "cpu") -> "Generator":
            return super().__new__(cls)

    with (
        patch.object(optimisation, "_optimiser", plain),
        patch.object(torch, "Generator", Generator),
        patch.object(torch.fx.experimental._config, "meta_nonzero_assume_all_nonzero", True),
        patch.object(torch, "autocast", _autocast(torch.autocast)),
    ):
        yield


def _autocast(real: Any) -> Callable[..., Any]:
    def chosen(kind: str, *args: Any, **options: Any) -> Any:
        return contextlib.nullcontext() if kind == "meta" else real(kind, *args, **options)

    return chosen
