"""From the name of a model (`extract.embedding`) to weights, numbers and runtime: what `auto` means, what exists.

All the places where a new model goes are listed in docs/contributing.md.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import cast

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import ConfigError
from dedup_spark.models.base import Embedder, ModelSettings, input_of
from dedup_spark.models.flips import FlipAveraged
from dedup_spark.models.weights import INSTALLED, read_weights, sha256_of, wanted_file
from dedup_spark.redaction import require_no_key

OFF, TABLE = "off", "table"
"""Values of `extract.embedding` that name no model to run: no embeddings, and vectors of a table of the user."""

_TORCH_NUMBERS = ("fp32", "fp16", "bf16")
_INSTALLED, _GIVEN, _GRAPH = "installed", "given", "graph"
_RUNTIMES: dict[tuple[str, str], dict[str, tuple[str, tuple[str, ...]]]] = {
    ("sscd", _INSTALLED): {"onnx": ("onnx", ("int8", "fp32")), "torch": ("torch_resnet", _TORCH_NUMBERS)},
    ("sscd", _GIVEN): {"torch": ("torch_resnet", _TORCH_NUMBERS)},
    ("sscd", _GRAPH): {"onnx": ("onnx", ("fp32",)), "torch": ("torch_graph", _TORCH_NUMBERS)},
    ("sscd_distilled", _INSTALLED): {"onnx": ("onnx", ("fp32",)), "torch": ("torch_graph", _TORCH_NUMBERS)},
    ("resnet50", _GIVEN): {"torch": ("torch_resnet", _TORCH_NUMBERS)},
    ("onnx", _GIVEN): {"onnx": ("onnx", ("stored",)), "torch": ("torch_graph", _TORCH_NUMBERS)},
    ("torchscript", _GIVEN): {"torch": ("torch_script", _TORCH_NUMBERS)},
}
"""(model, form of its weights: `_form`) to its runtimes, the best on a CPU first; each has its module and its numbers,
the default first."""


def resolve(extract: ExtractSettings, *, on_gpu: bool, threads: int, pixels: str = "original") -> ModelSettings:
    """What `extract` asks for, with every `auto` resolved. It reads the weights once, for their SHA-256.

    Args:
        on_gpu: whether each task holds a GPU: then `auto` is PyTorch on CUDA in fp16, else ONNX Runtime if it can.
        threads: cores of a task.
        pixels: see `ModelSettings.pixels`.

    Raises:
        ConfigError: a combination that does not exist, or a package that is not installed.
        ArtifactError: weights missing, unreadable or not those of extract.weights_sha256.
    """
    runtime, numbers = _choice(extract, on_gpu=on_gpu)
    sha256 = sha256_of(read_weights(extract.embedding, extract.weights, extract.weights_sha256))
    is_file = extract.embedding in ("onnx", "torchscript")
    return ModelSettings(
        name=extract.embedding,
        weights=extract.weights,
        sha256=sha256,
        runtime=runtime,
        numbers=numbers,
        input=input_of(extract),
        normalisation=extract.normalisation if is_file else "imagenet",
        views=extract.views,
        pixels=pixels,
        threads=threads,
        max_batch_images=extract.embed_batch_images if on_gpu else 0,
    )


@functools.cache
def load(settings: ModelSettings, device: str = "cpu") -> Embedder:
    """The model on `cpu` or `cuda:<address>`, loaded once per process and device.

    Raises:
        ConfigError: the device is not there, or memory does not hold one image.
        ArtifactError: weights missing, damaged, or of another network.
    """
    module = _RUNTIMES[settings.name, _form(settings.name, settings.weights)][settings.runtime][0]
    make = cast(
        "Callable[[ModelSettings, str], Embedder]", importlib.import_module(f"dedup_spark.models.{module}").load
    )
    model = make(settings, device)
    return FlipAveraged(model) if settings.views == 2 else model


def require_model(extract: ExtractSettings) -> None:
    """Raise ConfigError or ArtifactError unless model, weights and runtime are there, as far as a driver can tell."""
    if extract.embedding not in (OFF, TABLE):
        _require_large_thumbnails(extract)
        _choice(extract, on_gpu=False)
        read_weights(extract.embedding, extract.weights, extract.weights_sha256)


def computes(model_id: str) -> bool:
    """Whether the vectors of that id are made here, so that another picture can get one."""
    return model_id.partition("/")[0] in {name for name, _ in _RUNTIMES}


def fits_thumbnails(extract: ExtractSettings) -> bool:
    """Whether thumbnails are as large as what the model's input is made of."""
    return input_of(extract).shorter_px <= extract.thumbnail_px


def _require_large_thumbnails(extract: ExtractSettings) -> None:
    if extract.embed_from == "thumbnail" and not fits_thumbnails(extract):
        raise ConfigError(
            f"extract.embed_from=thumbnail: thumbnails of {extract.thumbnail_px} px (extract.thumbnail_px) are smaller "
            f"than the {input_of(extract).shorter_px} px that the model's input is made of (extract.input_px)"
        )


def _require_pinned(extract: ExtractSettings) -> None:
    """Raise ConfigError where weights that a stranger may have put there are not pinned by their SHA-256."""
    require_no_key(extract.weights)
    if extract.weights_sha256:
        return
    if extract.embedding == "torchscript":
        why = "a TorchScript file is a program, which reads files and does what it is written to do"
    elif extract.weights.lower().startswith(("http://", "https://", "ftp://")):
        why = f"whoever serves {extract.weights} may change it between two tasks"
    else:
        return
    raise ConfigError(
        f"extract.weights needs extract.weights_sha256: {why}. `sha256sum FILE` prints it, for a copy that you trust"
    )


def _form(name: str, weights: str) -> str:
    """Whether the weights are installed, or given by URI; of SSCD those may be a state dict or an ONNX graph."""
    if not weights:
        return _INSTALLED
    return _GRAPH if name == "sscd" and weights.lower().endswith(".onnx") else _GIVEN


def _choice(extract: ExtractSettings, *, on_gpu: bool) -> tuple[str, str]:
    """(runtime, numbers). Raises ConfigError."""
    name = extract.embedding
    runtimes = _RUNTIMES.get((name, _form(name, extract.weights)))
    if runtimes is None:
        raise ConfigError(
            f"extract.embedding={name} has its weights installed: leave extract.weights empty"
            if name in INSTALLED
            else f"extract.embedding={name} needs extract.weights: {wanted_file(name)}, which all nodes can read"
        )
    _require_pinned(extract)
    wished = extract.runtime
    if wished == "auto" and extract.numbers != "auto":  # the numbers decide
        able = [runtime for runtime, (_, numbers) in runtimes.items() if extract.numbers in numbers]
    else:
        able = list(runtimes) if wished == "auto" else [r for r in runtimes if r == wished]
    if on_gpu and wished == "auto":
        able = [runtime for runtime in able if runtime == "torch"]
    if not able:
        raise ConfigError(f"{_asked(extract, on_gpu)} does not exist; there are {_listed(runtimes)}")
    runtime = able[0]
    module, numbers = runtimes[runtime]
    if extract.numbers not in ("auto", *numbers):
        raise ConfigError(f"{_asked(extract, on_gpu)} does not exist; there are {_listed(runtimes)}")
    default = "fp16" if on_gpu and runtime == "torch" else numbers[0]
    chosen = default if extract.numbers == "auto" else extract.numbers
    takes_graph_apart = module == "torch_graph" or (name == "sscd" and not extract.weights and chosen != "int8")
    _require_packages(name, runtime, takes_graph_apart)
    return runtime, chosen


def _asked(extract: ExtractSettings, on_gpu: bool) -> str:
    return (
        f"extract.embedding={extract.embedding} with extract.runtime={extract.runtime} and "
        f"extract.numbers={extract.numbers}{' on a GPU' if on_gpu else ''}"
    )


def _listed(runtimes: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    return ", ".join(f"{runtime} with {' or '.join(numbers)}" for runtime, (_, numbers) in runtimes.items())


def _require_packages(name: str, runtime: str, takes_graph_apart: bool) -> None:
    packages = {"onnxruntime": "cpu"} if runtime == "onnx" else {"torch": "torch", "torchvision": "torch"}
    if takes_graph_apart:
        packages["onnx"] = "torch"
    for package, extra in packages.items():
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"model '{name}' needs {package}: `pip install 'dedup-spark[{extra}]'`")
