"""DnCNN: Zhang, Zuo, Chen, Meng and Zhang, IEEE TIP 26(7), 2017 (arXiv 1608.03981).

A stack of convolutions with batch normalisation that predicts the noise: x_hat = y - R(y).
"""

from jaxtyping import Float
from torch import Tensor, nn

from bench.methods.learned.base import Head, ImageNetwork, norm_layer, scaling_with


class DnCNN(ImageNetwork):
    """Predict the noise with `depth` convolutions of 3x3; 556,097 parameters as published.

    Args:
        width: channels.
        depth: number of convolutions; 17 for a known noise level, 20 for unknown ones.
        norm: "batch", "instance" or "none".
    """

    def __init__(self, width: int = 64, depth: int = 17, norm: str = "batch"):
        super().__init__()
        self.scaling = scaling_with(norm)
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=norm == "none"),
                norm_layer(norm, width),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = Head(width, kernel_size=3)

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image of any size."""
        return image - self.head(self.body(image))
