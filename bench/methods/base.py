"""The interface of a method: a reconstructor that maps measurements and physics to images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench.physics import Denoising, Physics


class Reconstructor(nn.Module, ABC):
    """A built method: callable `(y, physics) -> x_hat`.

    Class attributes:
        kind: "classical", "learned" by optimiser steps, or "fitted" in closed form.
        uses_training_images: whether it uses training images.
        deterministic: whether every seed yields the same images, so that one refit suffices.
        supported_physics: the kind of physics whose measurements it reconstructs; a user's class
            may call it `serves`.
        needs_linear: whether it needs a linear operator, as every method does that uses
            `A_adjoint`, `A_normal` or `prox_l2`.
        real_images_only: whether it cannot reconstruct complex images, such as those of measured
            k-space.
        requires: a package that it needs, and our optional extra that installs it.
        recipe: the published training settings of a network, as fields of
            `bench.training.Recipe`; a configuration or a search space overrides them.
        learning_rates: rates of parameters, relative to the recipe's, by the beginning of their
            names, such as `{"step_size": 10}`.
        usable_untrained: whether it reconstructs before its first training step, which is then
            validated too: what is returned is never worse on validation images.
        presets: named configurations, chosen by the key `preset`.
        controls: configurations that are always run along with it.
        search_space: what the sweep may vary, for a method of a user's own package; a built-in
            method has its file in `search_spaces/` instead.

    Attributes:
        penalty: what `forward` in training wants to be added to the loss: a mean over the images
            that it was called with. A training step takes it, and sets it back to None.
    """

    kind: ClassVar[str]
    uses_training_images: ClassVar[bool] = True
    deterministic: ClassVar[bool] = False
    requires: ClassVar[tuple[str, str] | None] = None
    supported_physics: ClassVar[type[Physics]] = Physics  # type: ignore[type-abstract]
    needs_linear: ClassVar[bool] = False
    real_images_only: ClassVar[bool] = False
    recipe: ClassVar[Mapping[str, Any]] = {}
    learning_rates: ClassVar[Mapping[str, float]] = {}
    usable_untrained: bool = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    controls: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    search_space: ClassVar[Mapping[str, Mapping[str, Any]] | None] = None
    penalty: Tensor | None = None

    @abstractmethod
    def forward(self, y: Shaped[Tensor, "b ..."], physics: Any) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct images from measurements alone; the physics is a `supported_physics`.

        Images are magnitudes, unless the physics is that of measured k-space
        (`bench.physics.mri_cartesian.measured`), whose images may be complex. A class that
        defines `estimate` takes its result as a third argument, which may be left out.
        """

    def prepare(self, images: Float[Tensor, "n 1 h w"], physics: Any, ids: Sequence[str]) -> None:
        """Look at the training images, before training and any reconstruction.

        Args:
            images: on the CPU.
            physics: the task's; it has the device on which the method will run.
            ids: of the images, by which `physics.measure` draws their noise.
        """

    def training_physics(self, physics: Any) -> Physics:
        """Return what measures its training images, such as noise for a prior that is a denoiser.

        Validation and test images are measured by the task's physics in any case.
        """
        task: Physics = physics
        return task

    def estimate(self, y: Shaped[Tensor, "b ..."], physics: Any) -> Tensor | None:
        """Compute what `forward` begins with and no weight changes, such as a TV solution.

        It is kept for measurements that recur: of validation images, and of training images with
        `Recipe.draws`. None: there is nothing of the kind.
        """
        return None


class Classical(Reconstructor):
    """A method without weights to train; its parameters are tuned on validation images."""

    kind = "classical"
    uses_training_images = False
    deterministic = True


class Fitted(Reconstructor):
    """A method that learns from its training images in closed form, by `prepare` alone.

    What it has learned are parameters without gradients, which are counted and saved.
    """

    kind = "fitted"
    deterministic = True


class Denoiser(Classical):
    """A classical denoiser of one image at a time, for tasks that add noise and nothing else.

    Its result is clipped to [0, 1], the known range of the images.
    """

    supported_physics = Denoising

    @abstractmethod
    def denoise(
        self, image: Float[np.ndarray, "h w"], noise_std: float
    ) -> Float[np.ndarray, "h w"]:
        """Denoise an image whose noise has the given standard deviation."""

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 1 h w"]:
        """Denoise image by image."""
        images = y[:, 0].cpu().double().numpy()
        clean = np.stack([self.denoise(image, physics.noise_std) for image in images])
        return torch.from_numpy(clean)[:, None].to(y).clamp(0, 1)


def prepare(
    model: nn.Module, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
) -> None:
    """Show a method its training images, if it has a `prepare`; see `Reconstructor.prepare`."""
    look = getattr(model, "prepare", None)
    if callable(look):
        look(images, physics, ids)


def training_physics(model: nn.Module, physics: Physics) -> Physics:
    """Return what measures a method's training images; see `Reconstructor.training_physics`."""
    chosen = getattr(model, "training_physics", None)
    practice: Physics = chosen(physics) if callable(chosen) else physics
    return practice
