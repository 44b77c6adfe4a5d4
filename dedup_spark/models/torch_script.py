"""Any TorchScript file in PyTorch, from (n, 3, h, w) float to (n, d). It is a program: pin it by its SHA-256."""

from __future__ import annotations

import io

import torch
from torch import nn

from dedup_spark.models.base import SCALING, ModelSettings
from dedup_spark.models.torch_resnet import Scaled
from dedup_spark.models.torch_runtime import TorchEmbedder, to_network
from dedup_spark.models.weights import read_weights


def load(settings: ModelSettings, device: str) -> TorchEmbedder:
    """Raises ArtifactError: missing, damaged, or no TorchScript."""
    data = read_weights(settings.name, settings.weights, settings.sha256)
    try:
        network = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as e:  # mostly RuntimeError, but damaged archives raise others
        raise to_network(settings.weights, e) from e
    return TorchEmbedder(nn.Sequential(Scaled(*SCALING[settings.normalisation]), network), settings, device)
