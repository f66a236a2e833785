"""The running statistics of batch normalisation, which are recalibrated before a validation."""

import itertools
from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from bench.training.batches import Batch

RECALIBRATION_BATCHES = 4


class _Bound(nn.Module):
    """A network as a function of a batch."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Tensor:
        """Reconstruct."""
        return batch.reconstruct(self.network)


def has_running_statistics(network: nn.Module) -> bool:
    """Return whether a network has batch normalisation."""
    return any(isinstance(part, _BatchNorm) for part in network.modules())


def recalibration_batches(network: nn.Module, batches: Iterator[Batch]) -> list[Batch]:
    """Draw the batches for `recalibrate_batch_norm`; none without batch normalisation."""
    count = RECALIBRATION_BATCHES if has_running_statistics(network) else 0
    return list(itertools.islice(batches, count))


def recalibrate_batch_norm(network: nn.Module, batches: Sequence[Batch]) -> None:
    """Set the running statistics of batch normalisation to those of the current weights.

    The running averages of training lag behind weights that change fast: after tens of steps a
    network would be judged ten decibels too low (Wu and Johnson, arXiv 2105.07576, section 3).

    Args:
        network: whose statistics are replaced by their averages over the batches.
        batches: of training images.
    """
    update_bn(batches, _Bound(network))
