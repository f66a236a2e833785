"""An image like a slice of a head, where there is no image to observe noise on."""

import torch
from jaxtyping import Float
from torch import Tensor


def phantom(shape: tuple[int, int]) -> Float[Tensor, "1 1 h w"]:
    """Draw a disc with a pattern, as bright and as large as the head in the template's slices.

    Its mean is 0.21 and its mean square 0.13, as on average in those slices.
    """
    rows, columns = (torch.linspace(-1, 1, side) for side in shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    pattern = 0.58 + 0.3 * torch.sin(4 * torch.pi * x) * torch.sin(4 * torch.pi * y)
    return torch.where(x**2 + y**2 < 0.46, pattern, 0.0)[None, None]
