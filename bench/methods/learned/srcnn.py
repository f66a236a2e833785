"""SRCNN: Dong, Loy, He and Tang, IEEE TPAMI 38(2), 2016 (arXiv 1501.00092).

Three convolutions: patches are extracted, mapped, and put together again. It starts from the image
already enlarged, here `A_dagger(y)`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.methods.learned.base import Head, ImageNetwork, Width
from bench.ranges import Odd


class SRCNN(ImageNetwork):
    """Convolutions of 9, `mapping` and 5 pixels with 2 `width`, `width` and 1 channels.

    57,281 parameters as published (9-5-5); 8,129 with `mapping=1` (9-1-5).

    Args:
        width: channels of the second convolution.
        mapping: its size in pixels.
        global_skip: predict the correction to the input instead of the image.
    """

    def __init__(self, width: Width = 32, mapping: Odd = 5, global_skip: bool = False):
        super().__init__()
        self.extract = nn.Conv2d(1, 2 * width, 9, padding=4)
        self.map = nn.Conv2d(2 * width, width, mapping, padding=mapping // 2)
        self.head = Head(width, kernel_size=5)
        self.global_skip = global_skip

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image of any size."""
        result = self.head(torch.relu(self.map(torch.relu(self.extract(image)))))
        return image + result if self.global_skip else result
