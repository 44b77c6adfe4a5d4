"""ONNX Runtime on the CPU: the installed models, SSCD as `sscd_to_onnx.py` writes it, and any ONNX file.

The graph of a file has one input, (n, h, w, 3) uint8 or (n, 3, h, w) float, and its first output is (n, d). Pixels of
a float input are scaled as `extract.normalisation` says; a uint8 graph scales them itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from dedup_spark.errors import ArtifactError
from dedup_spark.models.base import SCALING, ModelSettings, noise_image, require_vectors, unit_rows
from dedup_spark.models.weights import read_weights

_MOST_AT_ONCE = 32
"""Images per forward pass at most: with more a CPU gains nothing, and memory grows."""


def load(settings: ModelSettings, device: str) -> OnnxEmbedder:
    """Raises ArtifactError: weights missing, damaged or not such a graph. `device` is always `cpu` here."""
    graph = read_weights(settings.name, settings.weights, settings.sha256)
    if settings.name == "sscd" and not settings.weights and settings.numbers == "fp32":
        from dedup_spark.models.onnx_graph import dequantised  # imported here, so that int8 needs no `onnx`

        graph = dequantised(graph).SerializeToString()
    return OnnxEmbedder(graph, settings)


class OnnxEmbedder:
    """A session of ONNX Runtime with the task's share of threads."""

    def __init__(self, graph: bytes, settings: ModelSettings) -> None:
        self.model_id = settings.model_id
        self._most = settings.max_batch_images or _MOST_AT_ONCE
        self._session = _session(graph, settings)
        (self._input, *others) = self._session.get_inputs()
        self._takes_pixels = self._input.type == "tensor(uint8)"
        if others or (not self._takes_pixels and self._input.type != "tensor(float)"):
            raise ArtifactError(
                f"model weights {settings.weights or settings.name}: expected a graph with one input of uint8 "
                "(n, h, w, 3) or float (n, 3, h, w)"
            )
        if self._takes_pixels and settings.name == "onnx" and settings.normalisation not in ("auto", "none"):
            raise ArtifactError(
                f"model weights {settings.weights}: the graph takes uint8 pixels and scales them itself; "
                "use extract.normalisation=none"
            )
        self._mean, self._std = (np.array(levels, np.float32) for levels in SCALING[settings.normalisation])
        self.dimensions = require_vectors(self._run(noise_image(settings.input_px)), self.model_id)

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        parts = [self._run(images[i : i + self._most]) for i in range(0, len(images), self._most)]
        return unit_rows(np.concatenate(parts) if parts else np.empty((0, self.dimensions), np.float32), self.model_id)

    def _run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        pixels = images if self._takes_pixels else self._scaled(images)
        try:
            output = self._session.run(None, {self._input.name: pixels})[0]
        except Exception as e:  # as in _session
            raise ArtifactError(f"model {self.model_id} does not run on images of {images.shape[1:]}: {e}") from e
        return np.asarray(output, np.float32)

    def _scaled(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(((images - self._mean) / self._std).transpose(0, 3, 1, 2))


def _session(graph: bytes, settings: ModelSettings) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # An idle thread must sleep, not spin: its core belongs to the decoder or to the next task.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime raises exceptions of its own C++ module without a common base
        origin = settings.weights or f"of the installed '{settings.name}'"
        raise ArtifactError(f"model weights {origin} cannot be loaded: {e}") from e
