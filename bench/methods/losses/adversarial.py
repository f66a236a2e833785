"""Adversarial loss: the network learns to deceive a discriminator (Goodfellow et al., NIPS 2014).

The discriminator is that of SRGAN (Ledig et al., CVPR 2017, arXiv 1609.04802, fig. 4), pooled
before its dense layers so that images may have any size.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from bench.methods.batch_norm import BatchNorm


class Discriminator(nn.Sequential):
    """Distinguish images from reconstructions: eight convolutions, every second one of stride 2.

    Args:
        width: channels of the first; they double with each stride but the first, to 8 `width`.
    """

    def __init__(self, width: int = 64):
        stack: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for level in range(4):
            wide = width * 2**level
            if level:
                stack += _block(channels, wide, 1)
            stack += _block(wide, wide, 2)
            channels = wide
        stack += [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, 2 * channels),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * channels, 1),
        ]
        super().__init__(*stack)


def generator_loss(discriminator: nn.Module, x_hat: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Return -log D(x_hat), small if the discriminator is deceived; it is not trained here.

    The non-saturating form: Goodfellow et al., section 3.
    """
    discriminator.requires_grad_(False)
    logits = discriminator(x_hat)
    discriminator.requires_grad_(True)
    return softplus(-logits.float()).mean()


def discriminator_loss(
    discriminator: nn.Module, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Return -log D(x) - log(1 - D(x_hat)); the reconstructor receives no gradient."""
    real, made = discriminator(x).float(), discriminator(x_hat.detach()).float()
    return softplus(-real).mean() + softplus(made).mean()


def _block(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        BatchNorm(channels_out),
        nn.LeakyReLU(0.2),
    ]


class Adversarial(nn.Module):
    """Reward the network for images that its discriminator takes for real ones.

    Args:
        discriminator_width: channels of the first convolution of the discriminator.

    Attributes:
        discriminator: trained along with the network.
    """

    def __init__(self, discriminator_width: int = 64):
        super().__init__()
        self.discriminator = Discriminator(discriminator_width)

    def forward(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Compute `generator_loss`."""
        return generator_loss(self.discriminator, x_hat)
