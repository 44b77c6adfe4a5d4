"""FAISS on a GPU: the one place that calls its GPU classes, and where what they cannot do becomes words.

FAISS's package for CPUs lacks these classes, so everything here takes the library as an argument: tests give one whose
"device" is a CPU index, or one that fails. Interface: FAISS 1.15, `index_cpu_to_gpu`, `StandardGpuResources`,
`GpuIndexFlatIP`, `GpuClonerOptions`.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from dedup_spark.kernels.arrays import Float32, Int32, Int64, expect

MAX_K = 2048
"""Neighbours of one query, and cells that it visits: the longest list that FAISS selects on a GPU."""

_TEMPORARY_BYTES = 512 << 20
"""Memory that FAISS takes at once for its products and lists; its default of 1.5 GB leaves less for tasks that share a
GPU."""

_SHARED_BYTES = 48 << 10

_SCALAR_TYPES = tuple(getattr(faiss.ScalarQuantizer, f"QT_{name}") for name in ("4bit", "6bit", "8bit", "fp16"))

_FEWEST_QUERIES = 256
"""A search of so few that runs out of memory is not divided further."""

_DEVICE = "cuda:"


class FaissGpuUnusable(Exception):
    """FAISS cannot use the GPU for what was asked; the message says why. A setting decides what follows."""


class FaissGpu:
    """One GPU as FAISS uses it. It belongs to one thread."""

    def __init__(self, number: int, library: Any) -> None:
        self.number, self._library = number, library
        self._resources = library.StandardGpuResources()
        self._resources.setTempMemory(_TEMPORARY_BYTES)

    def copy(self, index: Any) -> Any:
        """A Flat or IVF index, copied to the GPU: `GpuIndexFlat`, `GpuIndexIVFFlat`, `...ScalarQuantizer`, `...PQ`.

        Raises:
            FaissGpuUnusable: its type has no form for GPUs, or the memory of the GPU is full.
        """
        _require_supported(index)
        options = self._library.GpuClonerOptions()
        options.useFloat16 = _has_large_tables(index)
        try:
            return self._library.index_cpu_to_gpu(self._resources, self.number, index, options)
        except (RuntimeError, MemoryError) as e:
            what = f"a copy of an index ({type(index).__name__}, {index.ntotal:,} vectors of {index.d} dimensions)"
            raise self._unusable(what, e) from e

    def search(self, on_gpu: Any, queries: Float32, k: int) -> tuple[Float32, Int64]:
        """(n, k) scores, the highest first, and labels, -1 where there are fewer. Out of memory: half as many at once.

        Raises:
            FaissGpuUnusable: k is above MAX_K, or few queries do not fit into the memory either.
        """
        if k > MAX_K:
            raise FaissGpuUnusable(f"FAISS selects at most {MAX_K:,} neighbours of a query on a GPU, not {k:,}")
        try:
            scores, labels = on_gpu.search(queries, k)
        except (RuntimeError, MemoryError) as e:
            if len(queries) <= _FEWEST_QUERIES or not _is_out_of_memory(e):
                raise self._unusable(f"a search of {len(queries):,} queries for {k:,} neighbours", e) from e
            half = len(queries) // 2
            parts = [self.search(on_gpu, part, k) for part in (queries[:half], queries[half:])]
            scores, labels = (np.concatenate(side) for side in zip(*parts, strict=True))
        return scores, labels

    def nearest_cells(self, centroids: Float32) -> GpuCells:
        """What finds the nearest of (k, d) centroids on this GPU, among all of them. Raises FaissGpuUnusable."""
        flat = faiss.IndexFlatIP(centroids.shape[1])
        flat.add(np.ascontiguousarray(centroids))
        return GpuCells(self, self.copy(flat))

    def train_centroids(self, sample: Float32, n_cells: int, seed: int) -> Float32:
        """As `kernels/vectors.py` does on a CPU, with each round's assignment on the GPU. Raises FaissGpuUnusable."""
        expect(sample=(sample, "n d", np.float32))
        clustering = spherical_clustering(sample.shape[1], n_cells, seed)
        try:
            assigns = self._library.GpuIndexFlatIP(self._resources, sample.shape[1], self._flat_config())
            clustering.train(np.ascontiguousarray(sample), assigns)
        except (RuntimeError, MemoryError) as e:
            raise self._unusable(f"k-means of {len(sample):,} vectors to {n_cells:,} cells", e) from e
        return np.array(faiss.vector_to_array(clustering.centroids)).reshape(n_cells, -1)

    def _flat_config(self) -> Any:
        config = self._library.GpuIndexFlatConfig()
        config.device = self.number
        return config

    def _unusable(self, what: str, error: Exception) -> FaissGpuUnusable:
        full = "its memory is full" if _is_out_of_memory(error) else "FAISS has no form of it for GPUs, or it failed"
        return FaissGpuUnusable(f"GPU {self.number} did not take {what}: {full}: {_last_words(error)}")


class GpuCells:
    """Finds the nearest cell of vectors on a GPU, like `Quantiser` on a CPU, but among all cells at any number."""

    def __init__(self, gpu: FaissGpu, on_gpu: Any) -> None:
        self._gpu, self._on_gpu = gpu, on_gpu

    def nearest(self, vectors: Float32) -> Int32:
        """(n,) int32: the cell of each of (n, d) float32 vectors. Raises FaissGpuUnusable."""
        expect(vectors=(vectors, "n d", np.float32))
        return self._gpu.search(self._on_gpu, np.ascontiguousarray(vectors), 1)[1][:, 0].astype(np.int32)


def open_gpu(device: str, library: Any = faiss) -> FaissGpu:
    """The GPU of a task, named as torch does (`cuda:0`).

    Raises:
        FaissGpuUnusable: this FAISS was built for CPUs, or sees fewer GPUs.
    """
    number = int(device.removeprefix(_DEVICE))
    if not hasattr(library, "StandardGpuResources"):
        raise FaissGpuUnusable(
            f"FAISS {library.__version__} here was built for CPUs: install faiss-gpu in place of faiss-cpu"
        )
    n_gpus = library.get_num_gpus()
    if number >= n_gpus:
        raise FaissGpuUnusable(
            f"FAISS {library.__version__} sees {n_gpus} GPUs here, and the task holds GPU {number}: "
            "does `nvidia-smi` list it, and is the driver new enough for CUDA 12?"
        )
    try:
        return FaissGpu(number, library)
    except (RuntimeError, MemoryError) as e:
        raise FaissGpuUnusable(f"GPU {number} could not be opened by FAISS: {_last_words(e)}") from e


def spherical_clustering(n_dimensions: int, n_cells: int, seed: int) -> Any:
    """FAISS's k-means to unit centroids by inner product, as `train_centroids` of `kernels/vectors.py` runs it."""
    clustering = faiss.Clustering(n_dimensions, n_cells)
    clustering.niter, clustering.seed, clustering.spherical, clustering.min_points_per_centroid = 10, seed, True, 1
    return clustering


def _require_supported(index: Any) -> None:
    """FAISS checks this type only after it copied the lists, and then ends the process. Raises FaissGpuUnusable."""
    quantiser = getattr(index, "sq", None)
    if quantiser is not None and quantiser.qtype not in _SCALAR_TYPES:
        raise FaissGpuUnusable("scalar quantisers other than SQ4, SQ6, SQ8 and SQfp16 have no form for GPUs in FAISS")


def _has_large_tables(index: Any) -> bool:
    """Of a product quantiser: whether its float32 tables are larger than the shared memory of a block of threads."""
    quantiser = getattr(index, "pq", None)
    return quantiser is not None and quantiser.M * quantiser.ksub * 4 > _SHARED_BYTES


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "alloc fail" in text


def _last_words(error: Exception) -> str:
    """FAISS's message without the function and the line of its source that stand before it."""
    return " ".join(str(error).split(" at /")[-1].split("Error: ")[-1].split()) or type(error).__name__
