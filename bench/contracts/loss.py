"""The contract of a loss."""

import torch
from torch import Tensor, nn

from bench.contracts.base import CannotCheckError, Checks, demand, smooth_images
from bench.errors import UserError
from bench.methods.losses import LOSSES, built

SIDE = 32


class Loss:
    """Checks of a loss.

    Args:
        given: its name or dotted path, a function, or a class.
    """

    def __init__(self, given: object):
        self.given = LOSSES.find(given)
        self.x = smooth_images(3, (SIDE, SIDE))
        noise = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(1))
        self.x_hat = self.x + 0.05 * noise

    def checks(self) -> Checks:
        """List the checks; all others need the first."""
        return [
            ("it can be built", self.builds),
            ("it gives one finite number for a batch", self.is_scalar),
            ("it takes a batch of one image", self.takes_one),
            ("its gradient is finite and not 0", self.has_gradient),
            ("no image has a smaller loss than the truth", self.is_least_at_the_truth),
            ("a GPU gives the same", self.on_gpu),
        ]

    def value(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Compute the loss."""
        try:
            loss = built(self.given, {})
        except UserError as error:  # our perceptual losses need weights
            raise CannotCheckError(str(error)) from None
        value: Tensor = loss(x_hat, x)
        return value

    def builds(self) -> None:
        """Check that it takes two images."""
        self.value(self.x_hat, self.x)

    def is_scalar(self) -> None:
        """Check the shape of its value."""
        value = self.value(self.x_hat, self.x)
        demand(isinstance(value, Tensor), f"it returns {type(value).__name__}, not a tensor")
        demand(value.ndim == 0, f"it returns a tensor of shape {tuple(value.shape)}; average it")
        demand(torch.isfinite(value), f"it returns {value.item()}")

    def takes_one(self) -> None:
        """Check a batch of one."""
        value = self.value(self.x_hat[:1], self.x[:1])
        demand(value.ndim == 0 and torch.isfinite(value), f"it returns {value}")

    def has_gradient(self) -> None:
        """Check the gradient with respect to the reconstruction."""
        x_hat = self.x_hat.clone().requires_grad_()
        value = self.value(x_hat, self.x)
        demand(value.requires_grad, "no gradient reaches the reconstruction")
        (slope,) = torch.autograd.grad(value.sum(), x_hat)
        demand(torch.isfinite(slope).all(), "its gradient is not finite")
        demand(slope.any(), "its gradient is 0")

    def is_least_at_the_truth(self) -> None:
        """Compare the truth with worse images."""
        if hasattr(built(self.given, {}), "discriminator"):
            raise CannotCheckError("it depends on a discriminator and the reconstruction alone")
        best = self.value(self.x, self.x).sum()
        for name, image in (("a noisy image", self.x_hat), ("half the truth", self.x / 2)):
            value = self.value(image, self.x).sum()
            demand(best <= value, f"it is {best:.4g} at the truth and {value:.4g} at {name}")

    def on_gpu(self) -> None:
        """Check that the loss does not depend on the device."""
        if not torch.cuda.is_available():
            raise CannotCheckError("this machine has no GPU")
        torch.manual_seed(0)  # of a discriminator
        loss = built(self.given, {})
        here = loss(self.x_hat, self.x)
        if isinstance(loss, nn.Module):
            loss = loss.to("cuda")
        there = loss(self.x_hat.cuda(), self.x.cuda())
        demand(there.is_cuda, "the loss of images on the GPU is on the CPU")
        demand(torch.allclose(here, there.cpu(), rtol=1e-3), f"{there.item()}, not {here.item()}")
