"""How the memory that an executor has for Python is divided: what each worker may hold at any time, and what is shared.

    python memory >= workers x (WORKER_BYTES + extract.inflight_bytes + decoders x DECODER_BYTES)
                     + large images + large objects

A worker holds itself with its model, and encoded images up to extract.inflight_bytes. Each of its decoders holds Python
with its libraries, an ordinary image (`memory.ORDINARY_BYTES`) and the bytes of its file. The rest is shared by all
workers: images that need more than an ordinary one are admitted to it by what they need (`admission.py`), and objects
that are too large to be held beside others by their size. A test does the sum for the settings of each platform.
"""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass

from dedup_spark.kernels.decoding.memory import ORDINARY_BYTES
from dedup_spark.spark.python_memory import ExecutorMemory, python_bytes_here
from dedup_spark.stages.reading.admission import Admission, shared_folder

log = logging.getLogger(__name__)

WORKER_BYTES = 384 << 20
"""A Python worker of Spark with pyarrow, NumPy, and a model of ONNX Runtime on one core with its batch: an allowance,
not yet measured for each model."""
MODEL_ON_GPU_BYTES = 3 << 30
"""What a worker takes of the host's memory more for PyTorch with CUDA."""
LARGE_OBJECT_BYTES = 16 << 20
"""Objects from here on are admitted before they are read. Those below are among extract.inflight_bytes."""
LIBRARIES_BYTES = 64 << 20
"""What libraries of rare formats add to a decoder process when the first file of them comes."""
DECODER_BYTES = (96 << 20) + LIBRARIES_BYTES + ORDINARY_BYTES
_LEAST_SHARED_BYTES = 64 << 20
_SHARE_OF_OBJECTS = 1 / 4
COPIES = 2
"""Of an object that is read: the worker has one, and the decoder process another."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Bytes that all workers of an executor share: for pixels of large images, and for large objects."""

    pixels: int
    objects: int


def shared_bytes(python_bytes: int, workers: int, decoders: int, inflight_bytes: int, max_object_bytes: int) -> Shared:
    """What is left of `python_bytes` for large images and objects, beside `workers` of so many `decoders` each.

    A little where nothing is left: then each worker takes more than its share, and images that need more are rejected.
    """
    rest = max(_LEAST_SHARED_BYTES, python_bytes - workers * worker_bytes(decoders, inflight_bytes))
    objects = min(int(_SHARE_OF_OBJECTS * rest), COPIES * max_object_bytes)
    return Shared(rest - objects, objects)


def worker_bytes(decoders: int, inflight_bytes: int) -> int:
    """What a worker may hold at any time, its decoder processes included."""
    return WORKER_BYTES + inflight_bytes + decoders * DECODER_BYTES


@dataclass(frozen=True, slots=True)
class Rooms:
    """The shared memory of an executor, as its workers find it; `python_bytes` is all that it has for Python."""

    pixels: Admission
    objects: Admission
    python_bytes: int


@functools.cache
def rooms_of(
    executor: ExecutorMemory, asked_bytes: int, decoders: int, inflight_bytes: int, max_object_bytes: int
) -> Rooms:
    """Of the executor that this process belongs to.

    Args:
        executor: What Spark's settings say of it.
        asked_bytes: extract.python_memory_bytes; 0: what the settings and the machine say.
        decoders: Of each worker.
        inflight_bytes, max_object_bytes: As in ExtractSettings.
    """
    python_bytes = max(0, (asked_bytes or python_bytes_here(executor)) - executor.taken_bytes)
    workers = executor.n_tasks or max(1, _n_cores() // decoders)
    shared = shared_bytes(python_bytes, workers, decoders, inflight_bytes, max_object_bytes)
    needed = workers * worker_bytes(decoders, inflight_bytes) + _LEAST_SHARED_BYTES
    if python_bytes < needed:
        log.warning(
            "%.1f GiB for Python is less than %.1f GiB, which %d workers with %d decoders each may need: raise "
            "spark.executor.memoryOverhead, or lower spark.executor.cores",
            python_bytes / 2**30, needed / 2**30, workers, decoders,
        )  # fmt: skip
    folder = shared_folder()
    return Rooms(Admission(folder, "pixels", shared.pixels), Admission(folder, "objects", shared.objects), python_bytes)


def _n_cores() -> int:
    """That this process may use: as many tasks run at a time where no setting of Spark says how many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
