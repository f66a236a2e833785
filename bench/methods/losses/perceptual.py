"""Perceptual loss: distance between the VGG features of two images.

Johnson, Alahi and Fei-Fei, ECCV 2016 (arXiv 1603.08155); VGG: Simonyan and Zisserman, ICLR 2015
(arXiv 1409.1556), with the weights that torchvision trained on ImageNet. The network is defined
here in plain PyTorch, with its layers numbered as in torchvision.
"""

import hashlib
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from bench.errors import UserError

ORIGIN = "download.pytorch.org/models"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, per colour


@dataclass(frozen=True)
class Features:
    """Which features are compared.

    Attributes:
        file: torchvision's weights; the end of the name is the beginning of their SHA-256.
        blocks: convolutions between two poolings.
        depth: layers used.
        distance: between features.
    """

    file: str
    blocks: tuple[int, ...]
    depth: int
    distance: str


NETWORKS = {
    # After the activation of conv5_4, squared: SRGAN (arXiv 1609.04802), eq. 5.
    "vgg19": Features("vgg19-dcbb9e9d.pth", (2, 2, 4, 4, 4), 36, "mse"),
    # After the activation of conv3_3, absolute: MedRecon-ARU.
    "vgg16": Features("vgg16-397923af.pth", (2, 2, 3, 3, 3), 16, "l1"),
}


class Perceptual(nn.Module):
    """Distance between VGG features of two grey images, which are passed to it as colour images.

    Args:
        perceptual: "vgg19" or "vgg16", with weights in torch.hub's cache, or the path of a file
            with such weights.

    Raises:
        UserError: the file does not exist, or its content does not match its name.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, perceptual: str = "vgg19"):
        super().__init__()
        name, weights = _weights(perceptual)
        chosen = NETWORKS[name]
        self.distance = chosen.distance
        self.features = layers(chosen.blocks)[: chosen.depth]
        own = {key: weights[f"features.{key}"] for key in self.features.state_dict()}
        self.features.load_state_dict(own)
        self.features.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Compare features."""
        seen = [self.features((image - self.mean) / self.std) for image in (x_hat, x)]
        return (mse_loss if self.distance == "mse" else l1_loss)(*seen)


def layers(blocks: tuple[int, ...]) -> nn.Sequential:
    """Build the convolutional part of VGG: 3x3 convolutions, width doubling after each pooling."""
    stack: list[nn.Module] = []
    channels = 3
    for level, convolutions in enumerate(blocks):
        width = min(64 * 2**level, 512)
        for _ in range(convolutions):
            stack += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        stack.append(nn.MaxPool2d(2))
    return nn.Sequential(*stack)


def file_of(source: str) -> Path:
    """Return the file that holds the weights of a source, whether or not it exists."""
    if source in NETWORKS:
        return Path(torch.hub.get_dir()) / "checkpoints" / NETWORKS[source].file
    return Path(source).expanduser()


def verify(source: str) -> None:
    """Refuse a source whose weights cannot be used.

    Raises:
        UserError: one line that names the file to download, and how to leave the loss out.
    """
    if source != "none":
        _weights(source)


@lru_cache(maxsize=2)
def _weights(source: str) -> tuple[str, dict[str, Tensor]]:
    """Read weights; return the network of `NETWORKS` to which they belong, and the weights."""
    path = file_of(source)
    wanted = NETWORKS.get(source)
    if not path.is_file():
        name = wanted.file if wanted else NETWORKS["vgg19"].file
        raise UserError(
            f"{path}: the weights of the perceptual loss are missing; download {ORIGIN}/{name} to "
            "this path, give a copy with perceptual=PATH, or leave the loss out: perceptual=none"
        )
    # By torch.hub's convention, the name of the file ends with the first digits of its hash.
    digits = path.stem.rpartition("-")[2]
    if any(path.name == network.file for network in NETWORKS.values()):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(digits):
            raise UserError(
                f"{path}: damaged, its SHA-256 begins with {found[:8]} and not {digits}; download "
                f"{ORIGIN}/{path.name} again, or leave the loss out: perceptual=none"
            )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise UserError(f"{path}: holds no weights ({' '.join(str(error).split())[:80]})") from None
    for name, network in NETWORKS.items():
        shapes = {key: tensor.shape for key, tensor in layers(network.blocks).state_dict().items()}
        given = {
            key.removeprefix("features."): tensor.shape
            for key, tensor in weights.items()
            if key.startswith("features.")
        }
        if given == shapes and (wanted is None or wanted == network):
            return name, weights
    raise UserError(f"{path}: holds neither VGG16 nor VGG19 with torchvision's names")
