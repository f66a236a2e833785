"""What networks share that apply the operator between their layers."""

from abc import abstractmethod
from typing import Any

from jaxtyping import Complex64, Float, Shaped
from torch import Tensor, view_as_complex, view_as_real

from bench.methods.learned.base import StartedNetwork
from bench.physics import Physics, regularised_inverse

TOLERANCE = 1e-3  # of the data step


class UnrolledNetwork(StartedNetwork):
    """A network that corrects an image by turns of layers and of the operator.

    It starts from `A_dagger(y)`, or from TV (see `StartedNetwork`). Measurement and images are
    divided by the root mean square of that image, and the result is multiplied by it, so that the
    layers see images of one scale. Complex images, of measured k-space, are two channels; the
    result is their magnitude.

    Args:
        physics: the task's, which says whether images are complex; default: they are real.

    Attributes:
        channels: real numbers per pixel.
    """

    needs_linear = True

    def __init__(self, physics: Physics | None = None):
        super().__init__()
        self.channels = 2 if _complex_image(physics) else 1

    @abstractmethod
    def unroll(
        self, start: Shaped[Tensor, "b 1 h w"], y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct, from a first image whose root mean square is 1."""

    def estimate(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Return the image that it starts from."""
        if self.tv is not None:
            return self.tv(y, physics)
        return pseudo_inverse(y, physics)

    def forward(
        self,
        y: Shaped[Tensor, "b ..."],
        physics: Physics,
        estimate: Shaped[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct; outside training the result is clipped to [0, 1], the images' range."""
        start = self.estimate(y, physics) if estimate is None else estimate
        scale = start.abs().square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
        scaled = y / scale.view(-1, *[1] * (y.ndim - 1))
        x_hat = magnitude(self.unroll(start / scale, scaled, physics)) * scale
        x_hat = self.until_trained(x_hat, magnitude(start))
        return x_hat if self.training else x_hat.clamp(0, 1)


def _complex_image(physics: Any) -> bool:
    return bool(getattr(physics, "complex_image", False))


def pseudo_inverse(y: Shaped[Tensor, "b ..."], physics: Any) -> Shaped[Tensor, "b 1 h w"]:
    """Return `A_dagger(y)`, with its phase if images are complex."""
    if _complex_image(physics):
        return physics.combine(physics.decode(y, weighted=True))
    return physics.A_dagger(y)


def data_step(
    z: Shaped[Tensor, "b 1 h w"],
    b: Shaped[Tensor, "b 1 h w"],
    mu: Tensor,
    physics: Physics,
    steps: int,
) -> Shaped[Tensor, "b 1 h w"]:
    """Minimise |A x - y|^2 + mu |x - z|^2 over x.

    It solves for x - z, which is small once z agrees with the measurement, so that few steps of
    conjugate gradients suffice.

    Args:
        z: images.
        b: A^T y.
        mu: positive; see `regularised_inverse`.
        physics: a linear operator.
        steps: most iterations, where there are any.
    """
    return z + regularised_inverse(physics, b - physics.A_normal(z), mu, steps, TOLERANCE)


def magnitude(x: Shaped[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the magnitude of complex images, and real ones as they are."""
    return x.abs() if x.is_complex() else x


def to_channels(values: Shaped[Tensor, "b c *n"]) -> Float[Tensor, "b r *n"]:
    """Make two channels, real and imaginary part, of each complex one; real ones remain."""
    if not values.is_complex():
        return values
    return view_as_real(values).movedim(-1, 2).flatten(1, 2)


def to_complex(channels: Float[Tensor, "b r *n"]) -> Complex64[Tensor, "b c *n"]:
    """Undo `to_channels` of complex values; the result is complex64, of bf16 too."""
    return view_as_complex(channels.float().unflatten(1, (-1, 2)).movedim(2, -1).contiguous())


def to_images(channels: Float[Tensor, "b r h w"]) -> Shaped[Tensor, "b 1 h w"]:
    """Undo `to_channels` of images, complex if there are two channels; in full precision."""
    return to_complex(channels) if channels.shape[1] == 2 else channels.float()
