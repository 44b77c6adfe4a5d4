"""How fast one core compares and embeds, measured in a second or two; runs on executors, on all cores at once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np
import numpy.typing as npt

from dedup_spark.kernels import ann, sketch

_ROWS = 8192
"""Half against half: 17 million pairs, 0.1 to 0.3 s, and sketches that fill a cache as those of a shard do."""
_DIMENSIONS = 512
_IMAGES = 8


class Embeds(Protocol):
    """The part of a model that is timed."""

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class CoreRates:
    """Nanoseconds a pair of 512-dimensional vectors on one core."""

    exact_pair_ns: float
    sketch_pair_ns: float


def measure_core(min_similarity: float, task_cpus: int) -> CoreRates:
    """Time the two ways to compare random unit vectors, with `task_cpus` threads, as seconds of one core."""
    faiss.omp_set_num_threads(task_cpus)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((_ROWS, _DIMENSIONS), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    n_bits = sketch.choose_bits(min_similarity)
    radius = sketch.radius_bits(n_bits, min_similarity, 0.999)
    sketches = sketch.make_sketches(x, n_bits, seed=0)
    begin = time.perf_counter()
    for _ in ann.near_sketches(sketches[: _ROWS // 2], sketches[_ROWS // 2 :], radius):
        pass
    sketch_seconds = time.perf_counter() - begin
    block = x[: _ROWS // 8]
    _ = block @ block.T  # the first product of a process starts its threads
    begin = time.perf_counter()
    np.count_nonzero(block @ x.T >= min_similarity)
    exact_seconds = time.perf_counter() - begin
    to_ns = 1e9 * task_cpus
    return CoreRates(exact_seconds * to_ns / (len(block) * _ROWS), sketch_seconds * to_ns / (_ROWS // 2) ** 2)


def embed_seconds(model: Embeds, input_px: int) -> float:
    """Seconds an image, in a batch of eight, with the threads of the model; the second of two batches counts."""
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, input_px, input_px, 3), dtype=np.uint8)
    model.embed(images)
    begin = time.perf_counter()
    model.embed(images)
    return (time.perf_counter() - begin) / _IMAGES
