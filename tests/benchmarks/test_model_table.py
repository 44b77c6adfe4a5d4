"""The benchmark of models: SSCD's convolutions in torchvision's network, and the inputs that extract makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_table import candidates, inputs_of, sscd_trunk
from operating_point import edited_samples
from sample_images import sample_images

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
from dedup_spark.models import registry, torch_resnet
from dedup_spark.models.onnx_graph import dequantised, resnet_weights
from dedup_spark.models.torch_runtime import TorchEmbedder
from dedup_spark.models.weights import installed_weights


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sscd_trunk(tmp_path_factory.mktemp("trunk") / "trunk.pth")


@pytest.mark.slow
def test_the_convolutions_are_sscds_under_mean_pooling_and_without_a_head(trunk: Path) -> None:
    settings = registry.resolve(ExtractSettings(embedding="resnet50", weights=str(trunk)), on_gpu=False, threads=1)
    network = torch_resnet._from_folded(resnet_weights(dequantised(installed_weights("sscd").read_bytes())))
    network.fc = torch.nn.Identity()
    scaled = torch.nn.Sequential(torch_resnet.Scaled(torch_resnet.IMAGENET_MEAN, torch_resnet.IMAGENET_STD), network)
    theirs = TorchEmbedder(scaled, settings, "cpu")
    ours = registry.load(settings)
    assert ours.embed(sample_images()) == pytest.approx(theirs.embed(sample_images()), abs=1e-4)


def test_every_row_resolves_and_gets_the_pixels_that_extract_gives_it(trunk: Path) -> None:
    data = next(edited_samples()).data
    for candidate in candidates(trunk):
        extract = load_config(None, candidate.overrides).extract
        model = registry.resolve(extract, on_gpu=False, threads=1)
        settings = SignatureSettings(
            extract.max_pixels, extract.min_side_px, extract.thumbnail_px, extract.thumbnail_quality,
            model.input_px, model.input.resize, square=model.input.square,
        )  # fmt: skip
        np.testing.assert_array_equal(inputs_of(data, model), sign_image(data, settings).model_input)
