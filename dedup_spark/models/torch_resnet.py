"""ResNet-50 in PyTorch: SSCD's (GeM pooling, linear head) and torchvision's (mean pooling, no head).

Weights: a state dict with torchvision's names (also behind a prefix `backbone.`, as Meta's
`sscd_disc_mixup.torchvision.pt` has them), or SSCD's from the installed ONNX file. BatchNorm is folded.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dedup_spark.errors import ArtifactError
from dedup_spark.models.base import IMAGENET_MEAN, IMAGENET_STD, ModelSettings
from dedup_spark.models.torch_runtime import TorchEmbedder, to_network
from dedup_spark.models.weights import read_weights

_GEM_POWER = 3.0
"""Of `sscd_disc_mixup` (Pizzi et al., CVPR 2022)."""


def load(settings: ModelSettings, device: str) -> TorchEmbedder:
    """Raises ArtifactError: weights missing, damaged or of another network."""
    data = read_weights(settings.name, settings.weights, settings.sha256)
    if settings.name == "sscd":
        network = sscd_network(data, settings.weights)
    else:
        network = _from_pixels(_from_state_dict(data, settings.weights, has_head=False))
    return TorchEmbedder(network, settings, device)


def sscd_network(data: bytes, origin: str) -> nn.Module:
    """SSCD from pixels to vectors that are not yet of length 1.

    Args:
        data: a state dict; the installed ONNX file where `origin` is empty.

    Raises:
        ArtifactError: damaged, or of another network.
    """
    if origin:
        trunk = _from_state_dict(data, origin, has_head=True)
    else:
        from dedup_spark.models.onnx_graph import dequantised, resnet_weights

        trunk = _from_folded(resnet_weights(dequantised(data)))
    trunk.avgpool, trunk.fc = GeM(_GEM_POWER), InFp32(trunk.fc)
    return _from_pixels(trunk)


def _from_pixels(trunk: nn.Module) -> nn.Module:
    return nn.Sequential(Scaled(IMAGENET_MEAN, IMAGENET_STD), trunk)


class Scaled(nn.Module):
    """(n, h, w, 3) uint8 to (n, 3, h, w) float, on the device; it keeps the order in memory, which is channels-last."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = (pixels.float() - self.mean) / self.std
        return scaled.permute(0, 3, 1, 2)


class GeM(nn.Module):
    """Generalised mean over the image, in fp32: third powers leave the range of fp16."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            powers = x.float().clamp(min=1e-6).pow(self.power)
            return powers.mean((2, 3), keepdim=True).pow(1 / self.power)


class InFp32(nn.Module):
    """A head in fp32: that costs nothing, and rounding here would round the whole vector."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            vectors: torch.Tensor = self.head(x.float())
        return vectors


def _from_state_dict(data: bytes, origin: str, *, has_head: bool) -> torchvision.models.ResNet:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise TypeError(f"expected a state dict, found {type(state).__name__}")
        state = {name.removeprefix("backbone."): value for name, value in state.items()}
        n_outputs = state["fc.weight"].shape[0]
        trunk = torchvision.models.resnet50(weights=None, num_classes=n_outputs)
        trunk.load_state_dict(state)
    except Exception as e:  # pickle, zip, key and shape errors all say that the file holds other things
        raise to_network(origin, e) from e
    if not has_head:
        trunk.fc = nn.Identity()
    trunk.eval()
    _fold(trunk)
    return trunk


def _fold(module: nn.Module) -> None:
    """Fold every BatchNorm into the convolution before it."""
    children = list(module.named_children())
    for (name, first), (norm_name, second) in zip(children, children[1:] + children[:1], strict=True):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(first, second))
            setattr(module, norm_name, nn.Identity())
    for _, child in module.named_children():
        _fold(child)


def _from_folded(weights: dict[str, npt.NDArray[np.float32]]) -> torchvision.models.ResNet:
    trunk = torchvision.models.resnet50(weights=None, num_classes=len(weights["fc.bias"])).eval()
    _fold(trunk)  # it gives the convolutions biases; all values are replaced below
    missing, unexpected = trunk.load_state_dict({k: torch.tensor(v) for k, v in weights.items()}, strict=False)
    if missing or unexpected:
        raise ArtifactError(f"SSCD's weights do not fit ResNet-50: missing {missing}, unexpected {unexpected}")
    return trunk
