"""How a network is trained; its search space may vary this beside the network's parameters."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bench.data.augment import Preset
from bench.methods.learned.base import Width
from bench.ranges import Share


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; each field may be in a search space or held fixed.

    Attributes:
        optimiser: "adamw" (Loshchilov and Hutter, arXiv 1711.05101) or "adam" (arXiv 1412.6980).
        lr: peak learning rate.
        weight_decay: decoupled in AdamW, a penalty in Adam.
        warmup: fraction of the steps over which the rate rises; it then falls along a cosine.
        clip_norm: greatest norm of the gradient.
        ema: decay of a running average of the weights, which is then validated and kept; 0 for
            none. It grows to this value as (1 + t) / (10 + t).
        loss: a mix of `bench.methods.losses`, as in "0.84 ms_ssim + 0.16 l1".
        pretrain: fraction of the steps, at the beginning, that train with the squared error alone;
            weights of these steps are kept only if there are no later ones.
        perceptual: network whose features a perceptual loss compares: "vgg19", "vgg16", the path
            of its weights, or "none" to leave that loss out.
        discriminator_width: channels of an adversarial loss's discriminator.
        augment: a name of `bench.data.augment.PRESETS`.
        draws: how often each training image is augmented and measured, in turn, and kept with
            what the method computes of the measurement before its first layer; 0: afresh at every
            step. The draws are kept in memory.
    """

    optimiser: Literal["adamw", "adam"] = "adamw"
    lr: Annotated[float, Field(gt=0, le=1)] = 4e-3
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    warmup: Share = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss: str = "mse"
    pretrain: Share = 0.0
    perceptual: str = "vgg19"
    discriminator_width: Width = 64
    augment: Preset = "flips"
    draws: Annotated[int, Field(ge=0, le=1000)] = 0
