"""The contract of a metric."""

import torch
from torch import Tensor

from bench import metrics
from bench.contracts.base import CannotCheckError, Checks, demand, smooth_images

COUNT = 3


class Metric:
    """Checks of a metric.

    Args:
        given: its name, dotted path or class.
    """

    def __init__(self, given: object):
        self.kind = metrics.METRICS.find(given)
        self.x = smooth_images(COUNT, (32, 32))
        noise = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(1))
        self.noisy, self.noisier = self.x + 0.02 * noise, self.x + 0.2 * noise

    def checks(self) -> Checks:
        """List the checks; all others need the first."""
        return [
            ("it can be built, and scores a batch", self.builds),
            ("it gives one finite number for each image", self.is_per_image),
            ("an image's score does not depend on the others", self.is_alone),
            ("less noise is better, in its direction", self.has_direction),
            ("a GPU scores the same", self.on_gpu),
        ]

    def scores(self, x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Score images under every convention that the metric is defined for."""
        return {
            convention: next(iter(found.values()))
            for convention in metrics.CONVENTIONS
            if (found := metrics.evaluate(x_hat, x, convention, metrics=[self.kind]))
        }

    def builds(self) -> None:
        """Check that it can be called."""
        self.scores(self.noisy, self.x)

    def is_per_image(self) -> None:
        """Check the shape of its values."""
        for convention, values in self.scores(self.noisy, self.x).items():
            demand(torch.isfinite(values).all(), f"{convention}: {values.tolist()}")

    def is_alone(self) -> None:
        """Check each image by itself."""
        together = self.scores(self.noisy, self.x)["image"]
        alone = [self.scores(self.noisy[i : i + 1], self.x[i : i + 1]) for i in range(COUNT)]
        single = torch.cat([scores["image"] for scores in alone])
        reason = f"{together.tolist()} in a batch and {single.tolist()} alone"
        demand(torch.allclose(together, single), reason)

    def has_direction(self) -> None:
        """Compare the truth with a noisy image and a noisier one."""
        sign = 1 if self.kind.direction == "higher" else -1
        ranked = [self.scores(image, self.x) for image in (self.x, self.noisy, self.noisier)]
        for convention in ranked[0]:
            best, good, bad = (sign * scores[convention] for scores in ranked)
            demand(
                (best >= good).all() and (good > bad).all(),
                f"{convention}: {', '.join(f'{sign * v.mean():.4g}' for v in (best, good, bad))} "
                f"for the truth, a noisy image and a noisier one; direction is "
                f"{self.kind.direction!r}",
            )

    def on_gpu(self) -> None:
        """Check that the scores do not depend on the device."""
        if not torch.cuda.is_available():
            raise CannotCheckError("this machine has no GPU")
        here, there = self.scores(self.noisy, self.x), self.scores(self.noisy.cuda(), self.x.cuda())
        for convention, values in here.items():
            same = torch.allclose(values, there[convention].cpu(), rtol=1e-4, atol=1e-5)
            demand(same, f"{convention}: {there[convention].tolist()}, not {values.tolist()}")
