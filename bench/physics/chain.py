"""Several degradations one after the other: y = A_n(... A_2(A_1 x + n_1) + n_2 ...) + n_n."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench import physics
from bench.errors import UserError
from bench.physics._draws import BatchNoise
from bench.physics.base import Physics, Size, root_mean_square

# What MedRecon-ARU's code does (its text states noise of variance 0.5): a 15x15 Gaussian (OpenCV's
# sigma for that size), and 5 % salt and pepper.
MEDRECON = (
    {"name": "gaussian_blur", "level": 2.6, "kernel_size": 15, "noise_variance": 0.0},
    {"name": "salt_pepper_noise"},
)


class Chain(Physics):
    """Degradations in order, each with its own noise; only the last may leave the image domain.

    Args:
        level: level of the one step that has none of its own.
        image_size: pixels along each side, or (height, width).
        steps: `name`, `level` and options of each degradation; one of them without its level.
    """

    name = "chain"
    unit = "level of the step that states none"
    levels = (1e-6, 1e9)
    presets = (0.02, 0.05, 0.2)

    def __init__(
        self, level: float, image_size: Size, *, steps: Sequence[dict[str, Any]] = MEDRECON
    ):
        super().__init__(level, image_size)
        without = [step for step in steps if "level" not in step]
        if len(without) != 1:
            raise UserError(
                f"{self.name}: exactly one step must have no level of its own, because it takes "
                f"the task's; here {len(without)} of {len(steps)} have none"
            )
        self.steps: list[Physics] = []
        image = torch.zeros(1, 1, *self.shape)
        for step in steps:
            if image.ndim != 4 or image.is_complex() or image.shape[1] != 1:
                raise UserError(
                    f"{self.name}: {self.steps[-1].name} leaves the image domain; it must come last"
                )
            options = {"level": level, **step}
            name, own = options.pop("name", None), options.pop("level")
            if not isinstance(name, str):
                raise UserError(f"{self.name}: a step has no name: {step!r}")
            size = (image.shape[-2], image.shape[-1])
            self.steps.append(physics.create(name, own, size, **options))
            image = self.steps[-1].A(image)
        self.registered = nn.ModuleList(self.steps)  # so that their buffers move with it
        self.linear = all(step.linear for step in self.steps)
        self._tell_of_later_noise()

    @classmethod
    def is_linear(cls, *, steps: Sequence[dict[str, Any]] = MEDRECON, **options: Any) -> bool:
        """Return whether every step is linear."""
        return all(
            physics.find(step["name"]).is_linear(
                **{key: value for key, value in step.items() if key not in ("name", "level")}
            )
            for step in steps
        )

    def _tell_of_later_noise(self) -> None:
        """Set for every step how much noise the input of its `A_dagger` has."""
        variance = 0.0
        for step in reversed(self.steps):
            variance += step.noise_std**2
            step.total_noise_variance = variance

    def observe(self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str]) -> None:
        """Measure the power of the noise of every step, and of the total noise in y."""
        noise = self.measure(x, ids) - self.A(x)
        mask = self.steps[-1].mask
        if mask is not None and noise.shape[-2:] == mask.shape[-2:]:  # zeros between the samples
            noise = noise[..., mask[0, 0]]
        self._observed = root_mean_square(noise)
        for step, theirs in zip(self.steps, self._ids(ids), strict=True):
            step.observe(x, theirs)
            x = step.A(x)
        self._tell_of_later_noise()

    def observed_noise(self) -> list[float | None]:
        """Return what was observed for the whole chain, then for each step."""
        return [self._observed, *(one for step in self.steps for one in step.observed_noise())]

    def restore_noise(self, observed: Sequence[float | None]) -> None:
        """Set what `observed_noise` returned."""
        self._observed, *rest = observed
        for step in self.steps:
            count = len(step.observed_noise())
            step.restore_noise(rest[:count])
            del rest[:count]
        self._tell_of_later_noise()

    def _ids(self, ids: Sequence[str]) -> list[list[str]]:
        """Make the image ids for each step, so that steps of the same name draw different noise."""
        return [[f"{id_}/{number}" for id_ in ids] for number in range(len(self.steps))]

    def A(self, x: Float[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b ..."]:
        """Apply every step's operator."""
        for step in self.steps:
            x = step.A(x)
        return x

    def A_adjoint(self, y: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "b 1 h w"]:
        """Apply every step's adjoint, the last one first."""
        for step in reversed(self.steps):
            y = step.A_adjoint(y)
        return y

    def A_dagger(self, y: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b 1 h w"]:
        """Apply every step's estimate, the last one first."""
        for step in reversed(self.steps):
            y = step.A_dagger(y)
        return y

    def measure(self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str]) -> Shaped[Tensor, "b ..."]:
        """Apply every step with its noise."""
        for step, theirs in zip(self.steps, self._ids(ids), strict=True):
            x = step.measure(x, theirs)
        return x

    def _measure_batch(
        self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str], noise: BatchNoise
    ) -> Shaped[Tensor, "b ..."]:
        """Apply every step with its noise, drawn on the device of the images."""
        for step, theirs in zip(self.steps, self._ids(ids), strict=True):
            x = step.measure_batch(x, theirs, noise)
        return x
