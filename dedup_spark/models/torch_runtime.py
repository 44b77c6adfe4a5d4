"""PyTorch on CUDA or the CPU: what all its models share. Networks are in torch_resnet, torch_graph, torch_script.

On CUDA, pixels are copied from pinned memory without blocking and scaled on the device, memory is channels-last,
convolutions run under AMP in fp16 or bf16 (fp32 without TF32), and only deterministic algorithms are used. When a batch
does not fit into memory, batches are halved from then on, instead of failing. The same code runs on the CPU.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.models.base import ModelSettings, noise_image, require_vectors, unit_rows

log = logging.getLogger(__name__)

# CUDA reads this when it starts: cuda:i is then the i of nvidia-smi, hence of Spark. Its default is the fastest first.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

_MOST_ON_CPU, _MOST_ON_GPU = 16, 512
_PROBE_IMAGES = 4
_SHARE_OF_FREE_MEMORY = 0.8  # the rest is for convolutions that ask for more than the probe did, and for fragments
_TYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEmbedder:
    """A network from uint8 pixels (n, h, w, 3) to (n, d), on one device."""

    def __init__(self, network: torch.nn.Module, settings: ModelSettings, device: str) -> None:
        self.model_id, self._threads = settings.model_id, settings.threads
        self._device, self._type = open_device(device), _TYPES[settings.numbers]
        network = network.eval().requires_grad_(False)
        self._network = network.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dimensions = require_vectors(self._answer(noise_image(settings.input_px)), self.model_id)
        self.max_batch_images = self._batch_to_use(settings.input_px, settings.max_batch_images)

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        vectors = np.empty((len(images), self.dimensions), np.float32)
        start = 0
        while start < len(images):
            part = images[start : start + self.max_batch_images]
            try:
                vectors[start : start + len(part)] = self._answer(part)
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if not _is_out_of_memory(e):
                    raise
                self._halve(e)
            else:
                start += len(part)
                continue
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # only here: while the error is handled, it holds the pass's activations
        return unit_rows(vectors, self.model_id)

    def _answer(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with self._set_up():
            return self._forward(images).float().cpu().numpy()

    def _forward(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        pixels = torch.from_numpy(np.require(images, requirements=["C", "W"]))
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        vectors: torch.Tensor = self._network(pixels)
        return vectors

    @contextlib.contextmanager
    def _set_up(self) -> Iterator[None]:
        """Set, for the calling thread, the task's share of threads, no gradients, and the numbers of the settings."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        kind = self._device.type
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(torch.autocast(kind, self._type or torch.bfloat16, enabled=self._type is not None))
            if kind == "cuda":
                stack.enter_context(torch.cuda.device(self._device))
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
            yield

    def _batch_to_use(self, input_px: int, asked: int) -> int:
        if self._device.type != "cuda":
            return asked or _MOST_ON_CPU
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._answer(np.repeat(noise_image(input_px), _PROBE_IMAGES, axis=0))
        per_image = (torch.cuda.max_memory_allocated(self._device) - before) / _PROBE_IMAGES
        free, _ = torch.cuda.mem_get_info(self._device)
        n = batch_that_fits(free, per_image, asked or _MOST_ON_GPU)
        log.info("%s on %s: batches of up to %d images (%.0f MB free)", self.model_id, self._device, n, free / 1e6)
        return n

    def _halve(self, error: Exception) -> None:
        if self.max_batch_images == 1:
            raise ConfigError(
                f"model {self.model_id} on {self._device}: memory does not hold one image; lower extract.input_px, "
                "or share the device among fewer tasks (a larger extract.gpus_per_task)"
            ) from error
        self.max_batch_images //= 2
        log.warning("%s: out of memory; batches of %d images from now on", self._device, self.max_batch_images)


def batch_that_fits(free_bytes: float, bytes_per_image: float, most: int) -> int:
    """Images of a forward pass: the largest power of two that memory holds, at least 1, at most `most`."""
    fits = int(free_bytes * _SHARE_OF_FREE_MEMORY / max(bytes_per_image, 1))
    return min(most, 1 << max(0, fits.bit_length() - 1))


def open_device(device: str) -> torch.device:
    """The device `cpu` or `cuda:<address>`. Raises ConfigError when it is not there: no other one replaces it."""
    if device == "cpu":
        return torch.device(device)
    address = device.removeprefix("cuda:")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if address.isdigit() and int(address) < n_devices:
        return torch.device("cuda", int(address))
    for i in range(n_devices):  # a discovery script may print UUIDs, like nvidia-smi -L
        if address == f"GPU-{torch.cuda.get_device_properties(i).uuid}":
            return torch.device("cuda", i)
    raise ConfigError(
        f"this task holds GPU {address}, and PyTorch {torch.__version__} sees {n_devices} CUDA devices here: install "
        "a driver and a PyTorch of its CUDA version on the executors, or do without: --set extract.gpus_per_task=0 "
        "--set match.gpus_per_task=0"
    )


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def to_network(what: str, error: Exception) -> ArtifactError:
    """The error of weights that do not make a network."""
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return ArtifactError(f"model weights {what} cannot be loaded: {type(error).__name__}: {first_line}")
