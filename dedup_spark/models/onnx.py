"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from dedup_spark.errors import ArtifactError


class OnnxEmbedder:
    """A graph with one uint8 input (n, h, w, 3) and one float output (n, d)."""

    def __init__(self, path: Path, model_id: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An idle thread must sleep, not spin: its core belongs to the decoder or to the next task.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as e:  # ONNX Runtime raises exceptions of its own C++ module without a common base
            raise ArtifactError(f"model weights {path} cannot be loaded: {e}") from e
        self._input = self._session.get_inputs()[0].name
        self.model_id = model_id

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        vectors = self._session.run(None, {self._input: images})[0].astype(np.float32, copy=False)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or (norms == 0).any():
            raise ArtifactError(f"model {self.model_id} gave a vector that is zero or not finite")
        return vectors / norms
