"""Paired images: y is the image that the dataset pairs with x, whatever lies between them."""

from typing import Annotated

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor

from bench.data.base import ImageSet
from bench.data.measurement import Kind
from bench.errors import UserError
from bench.physics.base import Denoising, Physics, Size

NoiseStd = Annotated[float, Field(ge=0, le=10)]


class Paired(Denoising):
    """Low dose and full dose, one average and many, 1.5 T and 3 T: y as it was acquired.

    The operator is not known, so methods that need one have no cells. Denoisers assume white noise
    of `noise_std`.

    Args:
        level: 1; pairs have no levels.
        image_size: pixels along each side, or (height, width); any is accepted.
        noise_std: standard deviation of the noise in y, for images in [0, 1]; default: the median
            of the estimates for the validation images.
    """

    name = "paired"
    unit = "1: pairs have no levels"
    levels = (1.0, 1.0)
    presets = (1.0, 1.0, 1.0)
    whole = True
    linear = False

    def __init__(self, level: float, image_size: Size, *, noise_std: NoiseStd | None = None):
        super().__init__(level, image_size)
        self.given = noise_std

    @property
    def noise_std(self) -> float:
        """Return what was given, or observed."""
        return super().noise_std if self.given is None else self.given

    def takes(self, kind: Kind) -> bool:
        """Return whether these are images."""
        return kind == "image"

    def of(self, images: ImageSet) -> Physics:
        """Return the operator of these images, which must be paired.

        Raises:
            UserError: they are not.
        """
        if images.measured is None or not self.takes(images.measured.kind):
            raise UserError(f"{self.name}: needs dataset.measured, the folder of the other images")
        return super().of(images)

    def A_dagger(self, y: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b 1 h w"]:
        """Return y."""
        return y.to(torch.float32)
