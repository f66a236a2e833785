"""Image-to-image networks, and the components that they share."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from bench.methods.base import Reconstructor
from bench.methods.batch_norm import BatchNorm
from bench.methods.compressed_sensing import CompressedSensing
from bench.physics import Physics

Scaling = Literal["none", "rms", "standard"]
Norm = Literal["instance", "batch", "none"]
Start = Literal["pseudo_inverse", "tv"]  # what an image network is applied to
Width = Annotated[int, Field(ge=1, le=1024)]
Depth = Annotated[int, Field(ge=1, le=8)]
Blocks = Annotated[int, Field(ge=1, le=256)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
# Numbers of blocks at each level, as "4-6-6-8".
Levels = Annotated[str, Field(pattern=r"^[1-9]\d?(-[1-9]\d?){0,7}$")]


class StartedNetwork(Reconstructor):
    """A network that corrects a first image, which its subclass chooses.

    With the option `start: tv`, which every subclass has, that is the TV reconstruction, and all
    corrections start at 0.

    Attributes:
        default_start: of the option `start`.
        tv: the compressed sensing that it starts from, if it does.
    """

    kind = "learned"
    default_start: ClassVar[Start] = "pseudo_inverse"

    def __init__(self) -> None:
        super().__init__()
        self.tv: CompressedSensing | None = None

    @property
    @abstractmethod
    def last_layers(self) -> list[nn.Module]:
        """The layers whose results are the corrections."""

    def start_from_tv(self) -> None:
        """Start from compressed sensing, as a network that does not correct it yet."""
        self.tv = CompressedSensing()
        self.usable_untrained = True
        self.correct_nothing()

    def correct_nothing(self) -> None:
        """Set the weights of the last layers to 0."""
        for layer in self.last_layers:
            set_to_zero(layer)

    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Tune the compressed sensing that it starts from."""
        if self.tv is not None:
            self.tv.prepare(images, physics, ids)

    def until_trained(
        self, x_hat: Float[Tensor, "b 1 h w"], image: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, "b 1 h w"]:
        """Return the network's result; before it is trained, the TV image that it starts from."""
        if self.tv is None:
            return x_hat
        return self.tv.until_trained(x_hat, image, self.training)


def set_to_zero(layer: nn.Module) -> None:
    """Set all weights of a layer to 0."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)


class ImageNetwork(StartedNetwork):
    """A network from image to image, applied to `A_dagger(y)`, for images of any size.

    With `start: tv` it is applied to the TV reconstruction, and predicts a correction to it.

    Attributes:
        stride: the image is padded to a multiple of this and cropped back.
        scaling: normalisation of each image before the network, undone on its result: "none";
            "rms", division by the root mean square, so that the background stays 0; "standard", by
            mean and standard deviation, as in fastMRI's NormUnet (arXiv 1811.08839).
        global_skip: whether `network` adds its input to the result of its last layer, `head`.
    """

    stride: int = 1
    scaling: Scaling = "none"
    global_skip: bool = False
    head: nn.Module

    @abstractmethod
    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of `stride`; the result is float32."""

    @property
    def last_layer(self) -> nn.Module:
        """The layer whose result, 0, would leave an image with a global skip as it is."""
        return self.head

    @property
    def last_layers(self) -> list[nn.Module]:
        """The only one."""
        return [self.last_layer]

    def start_from_tv(self) -> None:
        """Start from compressed sensing, as a network that does not correct it yet."""
        super().start_from_tv()
        self.global_skip = True

    def estimate(
        self, y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Float[Tensor, "b 1 h w"] | None:
        """Reconstruct by compressed sensing, if it starts from it."""
        return None if self.tv is None else self.tv(y, physics).abs()

    def forward(
        self,
        y: Shaped[Tensor, "b ..."],
        physics: Physics,
        estimate: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct; outside training the result is clipped to [0, 1], the images' range."""
        image = self.input_image(y, physics, estimate)
        height, width = image.shape[-2:]
        mean, scale = moments(image, self.scaling)
        padded = pad((image - mean) / scale, padding_to(self.stride, image), mode="replicate")
        x_hat = self.network(padded)[..., :height, :width] * scale + mean
        x_hat = self.until_trained(x_hat, image)
        return self.finish(x_hat, y, physics)

    def input_image(
        self,
        y: Shaped[Tensor, "b ..."],
        physics: Physics,
        estimate: Float[Tensor, "b 1 h w"] | None,
    ) -> Float[Tensor, "b 1 h w"]:
        """Return what the network is applied to."""
        estimate = self.estimate(y, physics) if estimate is None else estimate
        return physics.A_dagger(y) if estimate is None else estimate

    def finish(
        self, x_hat: Float[Tensor, "b 1 h w"], y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Float[Tensor, "b 1 h w"]:
        """Turn the network's result into the reconstruction."""
        return x_hat if self.training else x_hat.clamp(0, 1)


def moments(
    image: Shaped[Tensor, "b 1 h w"], scaling: Scaling
) -> tuple[Tensor | float, Tensor | float]:
    """Return the value subtracted from each image, and the one it is then divided by."""
    if scaling == "none":
        return 0.0, 1.0
    mean = image.mean((1, 2, 3), keepdim=True) if scaling == "standard" else 0.0
    power = (image - mean).square().mean((1, 2, 3), keepdim=True)
    return mean, power.sqrt().clamp(min=1e-6)


def scaling_with(norm: Norm) -> Scaling:
    """Choose the scaling for a network's normalisation.

    Instance normalisation loses the mean, which must be restored. With any other, a background of
    exactly 0 is better: on 32x32 slices at noise 0.1 a U-Net's SSIM was higher by 0.03.
    """
    return "standard" if norm == "instance" else "rms"


def padding_to(multiple: int, image: Shaped[Tensor, "b c h w"]) -> tuple[int, int, int, int]:
    """Return the padding, right and below, that makes both sides multiples of a number."""
    height, width = image.shape[-2:]
    return (0, -width % multiple, 0, -height % multiple)


def norm_layer(norm: Norm, channels: int, affine: bool = True) -> nn.Module:
    """Build a normalisation: "instance", "batch" or "none"."""
    if norm == "instance":
        return InstanceNorm(channels, affine=affine)
    return BatchNorm(channels, affine=affine) if norm == "batch" else nn.Identity()


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al., arXiv 1607.08022), also for images of one pixel.

    A single pixel has no spread, and without its mean nothing would be left: it is not changed.
    """

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Normalise each channel of each image."""
        return features if features[0, 0].numel() == 1 else super().forward(features)


def counts(text: Levels) -> list[int]:
    """Read the number of blocks at each level, as in "4-6-6-8"."""
    return [int(part) for part in text.split("-")]


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel (Ba, Kiros and Hinton, 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Normalise."""
        last = features.permute(0, 2, 3, 1)
        return layer_norm(last, self.weight.shape, self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


class Head(nn.Conv2d):
    """The last convolution, in float32 whatever the precision of the rest.

    In bf16 the result itself would have a relative error of 2^-9, visible in the PSNR.

    Args:
        channels: of the features.
        channels_out: of the result.
        kernel_size: an odd number of pixels.
        padding_mode: as of `torch.nn.Conv2d`.
    """

    def __init__(
        self,
        channels: int,
        channels_out: int = 1,
        kernel_size: int = 1,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
    ):
        super().__init__(
            channels, channels_out, kernel_size,
            padding=kernel_size // 2, padding_mode=padding_mode,
        )  # fmt: skip

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        """Convolve in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())
