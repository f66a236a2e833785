"""Batch normalisation over the global batch, however many workers share it."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.functional import batch_norm


class _Sum(torch.autograd.Function):
    """Add up a tensor over all workers; each worker's share has the gradient of every sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015) with statistics over all workers.

    PyTorch's own synchronised version runs on GPUs only. A channel with a single value, as at the
    bottom of a U-Net for a small image in a batch of one, has no batch statistics: it is normalised
    by the running statistics, in training as in evaluation.
    """

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Normalise each channel; in training by the statistics of the batch."""
        workers = dist.get_world_size() if dist.is_initialized() else 1
        if self.training and workers * features.numel() == self.num_features:
            return batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        if not self.training or workers == 1:
            return super().forward(features)
        wide = features.float()
        count = workers * wide.numel() // self.num_features
        local = torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
        mean, square = _Sum.apply(local) / count
        variance = square - mean.square()
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (wide * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(features.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        # No momentum means, as for PyTorch's, the average of all batches so far.
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
