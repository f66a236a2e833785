"""Constants of operators on the device of the images, copied there once."""

from functools import lru_cache

import torch
from jaxtyping import Shaped
from torch import Tensor

KEPT = 32


@lru_cache(maxsize=KEPT)
def on_device(constant: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """Return a tensor on a device.

    Args:
        constant: never changed, and the same object at each call: another cache keeps it.
        device: where it is needed.
    """
    return constant.to(device)
