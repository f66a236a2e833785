"""Counting floating-point operations."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def count_flops(run: Callable[[], object]) -> float:
    """Count the operations of PyTorch's convolutions and products of matrices in a function.

    Fourier transforms are not counted. Sparse matrices count by the numbers that they store;
    PyTorch's own counter takes them for dense ones.

    Args:
        run: is called twice, and counted the second time: what is computed once and kept, such as
            the norm of an operator, would else count for the first of several calls only.
    """
    run()
    with FlopCounterMode(display=False) as counter:
        counter.flop_registry[torch.ops.aten.mm] = _product
        run()
    return float(counter.get_total_flops())


def _product(left: Tensor, right: Tensor, *_: object, **__: object) -> int:
    """Count two operations for each number of the first matrix and each column of the second."""
    numbers = left.numel() if left.layout is torch.strided else left.values().numel()
    return 2 * numbers * right.shape[1]
