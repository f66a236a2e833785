"""k-space GAN: a generator that predicts missing k-space, against a discriminator of images.

After KIGAN: Shaul, David, Shitrit and Riklin Raviv, Med. Image Anal. 65, 2020 (arXiv 1910.12087),
whose k-space generator this is; measured samples are kept as they are.
"""

from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Complex64, Float
from torch import Tensor
from torch.nn.functional import pad

from bench.methods.base import Reconstructor
from bench.methods.learned.base import Depth, Norm, Width, padding_to
from bench.methods.learned.unet import UNetBody
from bench.physics import MRICartesian
from bench.physics._constants import on_device
from bench.physics.mri_cartesian import inverse_fourier


class KSpaceGAN(Reconstructor):
    """U-Net over k-space, real and imaginary parts of all coils as its channels.

    k-space falls off as one over the frequency: it is multiplied by 1 + |k| and divided by its
    root mean square before the network, and back after it.

    Args:
        width: channels of the first level; they double at each level below.
        depth: number of poolings.
        norm: "instance", "batch" or "none".
        physics: the task's physics, which states the number of coils; default: one coil.
    """

    kind = "learned"
    supported_physics = MRICartesian
    recipe: ClassVar[dict[str, Any]] = {
        "loss": "mse + 0.001 adversarial",
        "optimiser": "adam",
        "pretrain": 0.5,
    }
    controls: ClassVar[dict[str, dict[str, Any]]] = {"no_adversary": {"loss": "mse"}}

    def __init__(
        self,
        width: Width = 32,
        depth: Depth = 3,
        norm: Norm = "instance",
        physics: MRICartesian | None = None,
    ):
        super().__init__()
        self.stride = 2**depth
        channels = 2 * (1 if physics is None else physics.coils)
        self.body = UNetBody(channels, channels, width, depth, norm)

    def forward(
        self, y: Complex64[Tensor, "b coils h w"], physics: MRICartesian
    ) -> Float[Tensor, "b 1 h w"]:
        """Complete k-space and transform it; outside training the result lies in [0, 1]."""
        kspace = self.complete(y, physics)
        image = physics.combine(inverse_fourier(kspace))
        x_hat = image.abs() if physics.complex_image else image.real
        return x_hat if self.training else x_hat.clamp(0, 1)

    def complete(
        self, y: Complex64[Tensor, "b coils h w"], physics: MRICartesian
    ) -> Complex64[Tensor, "b coils h w"]:
        """Keep what was measured and predict the rest."""
        height, width = y.shape[-2:]
        weight = on_device(frequency_weight((height, width)), y.device)
        weighted = torch.view_as_real(y * weight).permute(0, 1, 4, 2, 3).flatten(1, 2)
        measured = on_device(physics.sampled((height, width)), y.device)
        power = weighted.square().sum((1, 2, 3), keepdim=True)
        scale = (power / (measured.sum() * weighted.shape[1])).sqrt().clamp(min=1e-12)
        padded = pad(weighted / scale, padding_to(self.stride, weighted))
        result = self.body(padded)[..., :height, :width] * scale
        parts = result.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous()
        return torch.where(measured, y, torch.view_as_complex(parts) / weight)


@lru_cache(maxsize=16)
def frequency_weight(shape: tuple[int, int]) -> Float[Tensor, "h w"]:
    """Return 1 + |k|, k in cells of the grid from DC in the middle."""
    rows, columns = (torch.arange(n) - n // 2 for n in shape)
    return 1 + torch.hypot(rows[:, None].float(), columns.float())
