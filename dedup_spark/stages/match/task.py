"""What executors do for match: read the two shards of a work item, join them with the engine chosen, score the pairs.

Memory of a task: two shards, their sketches, and the tiles of `kernels/joins/base.py`; settings bound all three.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from cachetools import cached
from pyspark.accumulators import Accumulator

from dedup_spark.columns import Columns
from dedup_spark.config import MatchSettings
from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.joins.base import Block, Candidates, ScoredPairs, score_candidates
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.kernels.joins.faiss_ivf import SearchCounts
from dedup_spark.kernels.joins.routed import Routed, routed_join
from dedup_spark.kernels.joins.sketch import BlockSketches, sketch_join
from dedup_spark.kernels.joins.sketches import SketchFilter
from dedup_spark.stages.match.engine_choice import Choice
from dedup_spark.stages.match.faiss_task import FaissSettings, search_shards
from dedup_spark.stages.match.gpu_task import GpuJoin
from dedup_spark.store.node_files import bytes_read
from dedup_spark.store.shards import Shard, ShardFiles, bounded_cache, read_shard

JOINED = Columns(
    "image_id_a bigint, image_id_b bigint, similarity float, best_of_a boolean, best_of_b boolean, "
    "item bigint, n_candidates bigint, overflow boolean, n_full_queries bigint, gave_up_gpu string, read_bytes bigint"
)
"""Pairs, and after those of each item one row with its number, its candidates, whether it was cut off, and of faiss_ivf
the queries that had more near images than a search returns, and why it left its GPU; and the bytes of shard files that
were read for it and not for an item before."""

_MIN_ITEM_PAIRS = 1_000_000  # below this no item is cut off: 25 MB of rows


@dataclass(frozen=True)
class JoinSettings:
    """What a task needs to join two shards. `margin` is of routed, `faiss` of faiss_ivf."""

    root: str
    engine: str
    min_similarity: float
    floor: float
    neighbours: int
    sketch_filter: SketchFilter | None
    margin: float
    faiss: FaissSettings
    seed: int
    max_pairs_per_image: int
    gpus_per_task: float = 0.0
    threads: int = 1
    """That score candidates of exact_gpu: the cores that its task holds."""

    @classmethod
    def of(
        cls, root: str, chosen: Choice, settings: MatchSettings, gpus_per_task: float = 0.0, threads: int = 1
    ) -> Self:
        """Those of the engine chosen. `root`: of the tables."""
        return cls(
            root=root,
            engine=chosen.engine,
            min_similarity=settings.min_similarity,
            floor=chosen.floor,
            neighbours=settings.neighbours,
            sketch_filter=chosen.sketch_filter,
            margin=chosen.margin,
            faiss=FaissSettings.of(chosen, settings),
            seed=settings.seed,
            max_pairs_per_image=settings.max_pairs_per_image,
            gpus_per_task=gpus_per_task,
            threads=threads if chosen.engine == "exact_gpu" else 1,
        )

    @property
    def lowest(self) -> float:
        """Cosine below which no pair is wanted."""
        return self.floor if self.neighbours else self.min_similarity


def join_items(
    batches: Iterable[pa.RecordBatch], settings: JoinSettings, n_pairs: Accumulator[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Work items (see work_items.py) to rows of JOINED. `n_pairs` counts as tasks end, for the guard on the driver."""
    items = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
    if settings.engine == "exact_gpu":
        yield from _join_on_gpu(items, settings, n_pairs)
        return
    for item in items:
        a, b, n_bytes = _shards_of(item, settings)
        end, counts = {"item": item["item"], "read_bytes": n_bytes}, SearchCounts()
        proposed = propose(a, b, settings, counts)
        yield from _join_item(end, (a.block, b.block if b else None), proposed, settings, n_pairs, counts)


def _join_on_gpu(
    items: Iterator[dict[str, Any]], settings: JoinSettings, n_pairs: Accumulator[int] | None
) -> Iterator[pa.RecordBatch]:
    first = next(items, None)
    if first is None:
        return  # a task without items need not start PyTorch
    join = GpuJoin(settings.gpus_per_task, (settings.floor, settings.neighbours, settings.min_similarity))
    read = functools.partial(_shards_of, settings=settings, read=join.read)
    for item, (a, b, n_bytes) in join.shards_ahead(itertools.chain([first], items), read):
        end, blocks = {"item": item["item"], "read_bytes": n_bytes}, (a.block, b.block if b else None)
        yield from _join_item(end, blocks, join.candidates(*blocks), settings, n_pairs, SearchCounts())


def _shards_of(
    item: dict[str, Any], settings: JoinSettings, read: Callable[..., Shard] = read_shard
) -> tuple[Shard, Shard | None, int]:
    """The two shards of an item, each read once, None where it joins a shard with itself; and the bytes read for it."""
    before = bytes_read()
    a_files, b_files = (ShardFiles.of(item, f"{side}_") for side in "ab")
    searched = {"with_index": True} if settings.engine == "faiss_ivf" else {}
    a = read(settings.root, a_files, **searched)
    b = None if a_files == b_files else read(settings.root, b_files, **searched)
    return a, b, bytes_read() - before


def propose(a: Shard, b: Shard | None, settings: JoinSettings, counts: SearchCounts) -> Candidates:
    """Rows that an engine other than exact_gpu proposes; with `b` None: pairs within `a`. `counts`: of faiss_ivf.

    Raises ValueError for an engine that has no branch here.
    """
    a_block, b_block = a.block, b.block if b else None
    if settings.engine == "exact":
        return exact_join(a_block, b_block, settings.lowest)
    if settings.engine == "faiss_ivf":
        return search_shards(a, b, settings.faiss, settings.gpus_per_task, counts)
    if settings.engine not in ("sketch", "routed"):
        raise ValueError(f"engine {settings.engine!r} proposes nothing here")
    assert settings.sketch_filter is not None
    a_sketched = _sketched(a, settings.sketch_filter, settings.seed)
    b_sketched = _sketched(b, settings.sketch_filter, settings.seed) if b else None
    if settings.engine == "sketch":
        return sketch_join(a_sketched, b_sketched, settings.sketch_filter)
    a_routed = Routed(a_block, a_sketched, a.home_cosines)
    b_routed = Routed(b.block, b_sketched, b.home_cosines) if b and b_sketched else None
    return routed_join(a_routed, b_routed, a.centroids, settings.margin, settings.sketch_filter)


@cached(
    bounded_cache(64 << 20, lambda sketched: sketched.first.nbytes + sketched.rest.nbytes),
    key=lambda shard, sketch_filter, seed: (shard.root, shard.named, sketch_filter, seed),
)
def _sketched(shard: Shard, sketch_filter: SketchFilter, seed: int) -> BlockSketches:
    """Cached, as many items of a worker have the same shards: eight of 65,536 rows at 1,024 bits, 32 at 256."""
    return shard.sketches(sketch_filter, seed)


def _join_item(
    end: dict[str, Any],
    blocks: tuple[Block, Block | None],
    proposed: Candidates,
    settings: JoinSettings,
    counter: Accumulator[int] | None,
    counts: SearchCounts,
) -> Iterator[pa.RecordBatch]:
    """Pairs, and the row at the end, of which `end` is known before."""
    n_found = n_candidates = 0
    a, b = blocks
    base = a if b is None else b
    allowed = max(_MIN_ITEM_PAIRS, settings.max_pairs_per_image * (len(a) + len(base)))
    wanted = settings.floor, settings.neighbours, settings.min_similarity
    for found in score_candidates(a, b, proposed, *wanted, settings.threads):
        n_found, n_candidates = n_found + len(found.i), n_candidates + found.n_candidates
        if n_found > allowed:
            break
        if len(found.i):
            yield _pairs(found, a.ids[found.i], base.ids[found.j])
    if counter is not None:
        counter.add(n_found)
    of_search = {"n_full_queries": counts.n_full, "gave_up_gpu": counts.gave_up_gpu or None}
    end |= {"n_candidates": n_candidates, "overflow": n_found > allowed, **of_search}
    yield pa.RecordBatch.from_pylist([end], schema=JOINED.arrow)


def _pairs(found: ScoredPairs, a: Int64, b: Int64) -> pa.RecordBatch:
    swap = a > b
    columns = [
        np.minimum(a, b), np.maximum(a, b), found.similarity,
        np.where(swap, found.best_of_b, found.best_of_a), np.where(swap, found.best_of_a, found.best_of_b),
    ]  # fmt: skip
    nulls = [pa.nulls(len(a), kind) for kind in JOINED.arrow.types[5:]]
    return pa.RecordBatch.from_arrays([*(pa.array(c) for c in columns), *nulls], schema=JOINED.arrow)
