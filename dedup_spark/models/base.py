"""The interface of an embedding model, and what names one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.features.model_input import InputSettings

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""In levels of 0 to 255, for R, G, B: what SSCD and torchvision's models were trained with."""

Levels = tuple[float, float, float]

SCALING: dict[str, tuple[Levels, Levels]] = {
    "auto": (IMAGENET_MEAN, IMAGENET_STD),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "unit": ((0.0,) * 3, (255.0,) * 3),
    "none": ((0.0,) * 3, (1.0,) * 3),
}
"""Mean and deviation of each `extract.normalisation`, in levels of 0 to 255."""


_USUAL_INPUT = InputSettings(256, "bicubic", "squash")
_OWN_INPUT = {"resnet50": InputSettings(224, "bilinear", "crop")}
"""By model, where it is not the usual one. resnet50 was trained on cuts of a picture, and torchvision's figures are of
the centre of 224 px of a picture whose shorter side is 256 px."""


def input_of(extract: ExtractSettings) -> InputSettings:
    """How pictures become the input of the model that `extract` names: as the settings say, else as is its own."""
    own = _OWN_INPUT.get(extract.embedding, _USUAL_INPUT)
    return InputSettings(
        extract.input_px or own.input_px,
        own.resize if extract.resize == "auto" else extract.resize,
        own.square if extract.square == "auto" else extract.square,
    )


class Embedder(Protocol):
    """A loaded model; it is made once per Python worker and never sent between processes."""

    model_id: str
    dimensions: int

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(n, h, w, 3) uint8 RGB to (n, dimensions) float32 rows of length 1; a row does not depend on the others.

        Raises:
            ArtifactError: a row is zero or not finite.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model, with every `auto` resolved. The driver makes it, so that every task computes the same vectors.

    Attributes:
        name: `extract.embedding`.
        weights: URI of the weights; empty for the installed ones.
        sha256: Of the weights' bytes, in hex; checked wherever they are loaded.
        runtime: `onnx` or `torch`. Runtimes of the same numbers give the same vectors, so the id does not name them.
        numbers: `int8`, `fp32`, `fp16`, `bf16`, or `stored` (as in the file).
        input: How a picture becomes the model's input.
        pixels: `original`, or what the input is made from, e.g. `thumbnail-256-q80`.
        max_batch_images: Images per forward pass; 0: the runtime's own limit, or what the device's memory holds.
    """

    name: str
    weights: str
    sha256: str
    runtime: str
    numbers: str
    input: InputSettings
    normalisation: str
    views: int
    pixels: str
    threads: int
    max_batch_images: int

    @property
    def input_px(self) -> int:
        """Side of the square input."""
        return self.input.input_px

    @property
    def model_id(self) -> str:
        """The name of weights, numbers and preprocessing. Vectors of two ids must never be compared."""
        pixels = "" if self.pixels == "original" else f"-of-{self.pixels}"
        made = f"{self.input.name}{pixels}"
        return f"{self.name}/{self.sha256[:12]}/{self.numbers}/{made}/{self.normalisation}-l2/views-{self.views}"


_MODEL_ID = re.compile(
    r"(?P<embedding>[^/]+)/[0-9a-f]{12}/(?P<numbers>\w+)/(?P<square>squash|crop)-(?P<resize>[a-z]+)-(\d+-)?(?P<input_px>\d+)"
    r"(-of-thumbnail-(?P<thumbnail_px>\d+)-q(?P<thumbnail_quality>\d+))?/(?P<normalisation>\w+)-l2/views-(?P<views>\d+)"
)


def settings_named(model_id: str) -> dict[str, str | int]:
    """The settings of the section extract that `ModelSettings.model_id` wrote into it; empty for another form."""
    found = _MODEL_ID.fullmatch(model_id)
    if not found:
        return {}
    named = {name: value for name, value in found.groupdict().items() if value is not None}
    named["embed_from"] = "thumbnail" if "thumbnail_px" in named else "original"
    return {name: int(value) if value.isdigit() else value for name, value in named.items()}


def unit_rows(vectors: npt.NDArray[np.float32], model_id: str) -> npt.NDArray[np.float32]:
    """Rows divided by their length. Raises ArtifactError where one has no direction."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ArtifactError(
            f"model {model_id} gave a vector that is zero or not finite: its weights or its numbers do not fit; "
            "check them, or use extract.numbers=fp32"
        )
    return vectors / norms


def noise_image(input_px: int) -> npt.NDArray[np.uint8]:
    """(1, input_px, input_px, 3): noise, to learn what a model gives before images are read."""
    return np.random.default_rng(0).integers(0, 256, (1, input_px, input_px, 3), dtype=np.uint8)


def require_vectors(output: npt.NDArray[np.float32], model_id: str) -> int:
    """The dimensions of a model's output for `noise_image`. Raises ArtifactError unless it is one vector."""
    if output.ndim != 2 or output.shape[0] != 1 or output.shape[1] < 2:
        raise ArtifactError(f"model {model_id} gives {output.shape} for one image; expected (1, dimensions)")
    return int(output.shape[1])
