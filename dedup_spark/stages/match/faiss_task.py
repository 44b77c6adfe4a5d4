"""What tasks of match do for faiss_ivf: search two shards by FAISS, on the GPU that the task holds if there is one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Self

from cachetools import LRUCache, cached

from dedup_spark.config import MatchSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.joins.base import Candidates
from dedup_spark.kernels.joins.faiss_device import FaissGpu, FaissGpuUnusable
from dedup_spark.kernels.joins.faiss_ivf import GPU_K, SearchCounts, SearchLimits, ShardSearch, copy_to, ivf_join
from dedup_spark.stages.faiss_gpu import gpu_of_task
from dedup_spark.stages.match.engine_choice import Choice
from dedup_spark.store.shards import Shard, bounded_cache

WAYS_OUT = (
    "use --set match.faiss_without_gpu=cpu to search on the CPU, match.gpus_per_task=0 to ask for no GPU, or "
    "match.engine=exact_gpu to multiply by PyTorch"
)

_GPU_BYTES = 1 << 30
"""Copies of indexes that a worker keeps on its GPU: fifteen shards of 65,536 float16 rows of 512 dimensions. Vectors
and indexes in its own memory stay those of two shards, see `read_shard`."""


@dataclass(frozen=True)
class FaissSettings:
    """How faiss_ivf searches a shard; see SearchLimits. `without_gpu`: match.faiss_without_gpu."""

    limits: SearchLimits
    without_gpu: str = "cpu"
    on_gpu: bool = False

    @classmethod
    def of(cls, chosen: Choice, settings: MatchSettings) -> Self:
        """Those of the choice. `lowest` is the floor where nearest neighbours are wanted."""
        lowest = chosen.floor if settings.neighbours else settings.min_similarity
        k = settings.faiss_k or (max(GPU_K, settings.neighbours + 1) if chosen.on_gpu else 0)
        limits = SearchLimits(chosen.n_probes, k, lowest, settings.min_similarity, chosen.faiss_margin)
        return cls(limits, settings.faiss_without_gpu, chosen.on_gpu)


def search_shards(
    a: Shard, b: Shard | None, settings: FaissSettings, gpus_per_task: float, counts: SearchCounts
) -> Candidates:
    """Rows that FAISS proposes. Where the GPU cannot, the CPU answers the queries that are left; `counts` says why.

    No query is answered twice: its pairs would count twice towards the bounds on pairs.

    Raises:
        ConfigError: the GPU cannot, and match.faiss_without_gpu is `stop`.
    """
    if settings.on_gpu:
        try:
            yield from _by_gpu(a, b, settings, gpu_of_task(gpus_per_task), counts)
            return
        except FaissGpuUnusable as e:
            if settings.without_gpu == "stop":
                raise ConfigError(f"match.faiss_without_gpu=stop: {e}; {WAYS_OUT}") from e
            counts.gave_up_gpu = str(e)
    yield from ivf_join(_on_cpu(a), _on_cpu(b) if b else None, settings.limits, counts, counts.n_queries)


def _by_gpu(a: Shard, b: Shard | None, settings: FaissSettings, gpu: FaissGpu, counts: SearchCounts) -> Candidates:
    """The queries that are left, by the GPU; where it fails, once more without the copies of other shards.

    Raises:
        FaissGpuUnusable: it fails without them too, or did so for an item before, after which it is not asked again.
    """
    if why := _given_up.get((gpu.number, settings)):
        raise FaissGpuUnusable(why)
    try:
        yield from ivf_join(_on_gpu(a, gpu), _on_gpu(b, gpu) if b else None, settings.limits, counts, counts.n_queries)
        return
    except FaissGpuUnusable as e:
        why = str(e)
    is_alone = _copies.keys() <= {_key(shard, gpu) for shard in (a, b) if shard}
    _copies.clear()
    if is_alone:
        _given_up[gpu.number, settings] = why
        raise FaissGpuUnusable(why)
    yield from _by_gpu(a, b, settings, gpu, counts)


_given_up: dict[tuple[int, FaissSettings], str] = {}
"""Why this worker left a GPU, by the settings of the join, as another join may ask less of it."""


def _on_cpu(shard: Shard) -> ShardSearch:
    return ShardSearch(shard.block, shard.index)


def _on_gpu(shard: Shard, gpu: FaissGpu) -> ShardSearch:
    return ShardSearch(shard.block, shard.index, gpu, _copy(shard, gpu).on_gpu)


@dataclass(frozen=True)
class _Copy:
    """An index on a GPU, and the bytes of its codes and ids."""

    on_gpu: Any
    n_bytes: int


_copies: LRUCache[Hashable, _Copy] = bounded_cache(_GPU_BYTES, lambda copy: copy.n_bytes)


def _key(shard: Shard, gpu: FaissGpu) -> Hashable:
    return shard.root, shard.named, gpu.number


@cached(_copies, key=_key)
def _copy(shard: Shard, gpu: FaissGpu) -> _Copy:
    index: Any = shard.index
    return _Copy(copy_to(gpu, index), index.ntotal * (index.sa_code_size() + 8))
