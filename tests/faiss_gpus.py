"""A FAISS library whose GPUs are CPU indexes, for the code that calls FAISS on GPUs; and devices that fail.

It has the names and arguments of `faiss-gpu` 1.15, and refuses what a GPU refuses: lists above 2,048, range searches.
"""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np

OUT_OF_MEMORY = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) at "
    "/project/faiss/gpu/StandardGpuResources.cpp:530: Error: 'err == cudaSuccess' failed: StandardGpuResources: alloc "
    "fail type FlatData dev 0 space Device stream 0x1 size 67108864 bytes (cudaMalloc error out of memory [2])"
)
"""As FAISS says it."""

GPU_TYPES = ("IndexFlat", "IndexFlatIP", "IndexIVFFlat", "IndexIVFScalarQuantizer", "IndexIVFPQ")


class OnGpu:
    """A copy of an index that can what a GPU can; it remembers how many queries each search had."""

    def __init__(self, index: Any) -> None:
        self._index, self.searched = faiss.clone_index(index), list[int]()

    @property
    def nprobe(self) -> int:
        return self._index.nprobe

    @nprobe.setter
    def nprobe(self, n: int) -> None:
        assert n <= 2048
        self._index.nprobe = n

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert queries.flags.c_contiguous
        assert queries.dtype == np.float32
        assert 0 < k <= 2048
        self.searched.append(len(queries))
        return self._index.search(queries, k)


class Library:
    """`faiss` with `n_gpus` GPUs. Searches of more than `most_queries`, those after `n_searches` in all, copies where
    `is_full`, and copies beside `most_copies` that are in use run out of memory."""

    __version__ = "1.15.1"
    GpuClonerOptions = GpuIndexFlatConfig = SimpleNamespace

    def __init__(
        self,
        n_gpus: int = 1,
        *,
        is_full: bool = False,
        most_queries: int = 10**9,
        n_searches: int = 10**9,
        most_copies: int = 10**9,
    ) -> None:
        self.n_gpus, self.is_full, self.most_queries, self.n_searches = n_gpus, is_full, most_queries, n_searches
        self.most_copies, self.n_copies, self.n_refused = most_copies, 0, 0
        self._in_use = weakref.WeakSet[OnGpu]()

    def get_num_gpus(self) -> int:
        return self.n_gpus

    def StandardGpuResources(self) -> Any:  # noqa: N802
        return SimpleNamespace(setTempMemory=lambda n_bytes: None)

    def index_cpu_to_gpu(self, resources: Any, number: int, index: Any, options: Any) -> OnGpu:
        assert 0 <= number < self.n_gpus
        if self.is_full or len(self._in_use) >= self.most_copies:
            self.n_refused += 1
            raise RuntimeError(OUT_OF_MEMORY)
        if type(index).__name__ not in GPU_TYPES:
            raise RuntimeError(
                f"Error in index_cpu_to_gpu at /x.cpp:1: Error: {type(index).__name__} is no type of GPUs"
            )
        if hasattr(index, "pq") and not options.useFloat16 and index.pq.M * index.pq.ksub * 4 > 49_152:
            raise RuntimeError("Error in verify at /x.cu:1: Error: 'required <= 48 KB' failed: useFloat16LookupTables")
        assert (
            not hasattr(index, "sq") or index.sq.qtype != faiss.ScalarQuantizer.QT_bf16
        )  # FAISS would end the process
        copy = _Bounded(index, self)
        self._in_use.add(copy)
        self.n_copies += 1
        return copy

    def GpuIndexFlatIP(self, resources: Any, d: int, config: Any) -> Any:  # noqa: N802
        assert 0 <= config.device < self.n_gpus
        if self.is_full:
            raise RuntimeError(OUT_OF_MEMORY)
        return faiss.IndexFlatIP(d)


class _Bounded(OnGpu):
    def __init__(self, index: Any, library: Library) -> None:
        super().__init__(index)
        self._library = library

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if len(queries) > self._library.most_queries or self._library.n_searches == 0:
            raise RuntimeError(OUT_OF_MEMORY)
        self._library.n_searches -= 1
        return super().search(queries, k)
