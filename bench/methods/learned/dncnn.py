"""DnCNN: Zhang, Zuo, Chen, Meng and Zhang, IEEE TIP 26(7), 2017 (arXiv 1608.03981).

A stack of convolutions with batch normalisation that predicts the noise: x_hat = y - R(y).
"""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from bench.methods.learned.base import Head, ImageNetwork, Norm, Width, norm_layer, scaling_with

Convolutions = Annotated[int, Field(ge=2, le=256)]


class DnCNN(ImageNetwork):
    """Predict the noise with `depth` convolutions of 3x3; 556,097 parameters as published.

    Args:
        width: channels.
        depth: number of convolutions; 17 for a known noise level, 20 for unknown ones.
        norm: "batch", "instance" or "none".
    """

    global_skip = True

    def __init__(
        self,
        width: Width = 64,
        depth: Convolutions = 17,
        norm: Norm = "batch",
    ):
        super().__init__()
        self.scaling = scaling_with(norm)
        self.body = convolutions(1, width, depth - 1, norm)
        self.head = Head(width, kernel_size=3)

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image of any size."""
        return image - self.head(self.body(image))


def convolutions(channels_in: int, width: int, count: int, norm: Norm) -> nn.Sequential:
    """Build `count` rectified convolutions of 3x3, all but the first one normalised."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, width, 3, padding=1),
        nn.ReLU(inplace=True),
    ]
    for _ in range(count - 1):
        layers += [
            nn.Conv2d(width, width, 3, padding=1, bias=norm == "none"),
            norm_layer(norm, width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
