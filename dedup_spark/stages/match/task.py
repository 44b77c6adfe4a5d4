"""What executors do for match: load the two shards of a work item, join them with the engine chosen, verify.

Memory of a task: two shards, their sketches, and the tiles of `kernels/joins/base.py`; settings bound all three.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.accumulators import Accumulator

from dedup_spark.columns import Columns
from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.joins.base import Block, Candidates, ScoredPairs, score_candidates
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.kernels.joins.faiss_ivf import ivf_join
from dedup_spark.kernels.joins.routed import Routed, home_cosines, routed_join
from dedup_spark.kernels.joins.sketch import BlockSketches, sketch_block, sketch_join
from dedup_spark.kernels.joins.sketches import SketchFilter
from dedup_spark.spark.gpus import device_of_task
from dedup_spark.store import shards
from dedup_spark.store.kept import Kept

JOINED = Columns(
    "image_id_a bigint, image_id_b bigint, similarity float, best_of_a boolean, best_of_b boolean, "
    "item bigint, n_candidates bigint, overflow boolean"
)
"""Pairs, and after those of each item one row with its number, its candidates, and whether it was cut off."""


EXACT = ("exact", "exact_gpu")
"""Engines that miss nothing."""

_MIN_ITEM_PAIRS = 1_000_000  # below this no item is cut off: 25 MB of rows


@dataclass(frozen=True)
class JoinSettings:
    """What a task needs to join two shards. `margin` is of routed, `n_probes` of faiss_ivf."""

    root: str
    engine: str
    min_similarity: float
    floor: float
    neighbours: int
    sketch_filter: SketchFilter | None
    margin: float
    n_probes: int
    seed: int
    max_pairs_per_image: int
    gpus_per_task: float = 0.0

    @property
    def lowest(self) -> float:
        """Cosine below which no pair is wanted."""
        return self.floor if self.neighbours else self.min_similarity


def join_items(
    batches: Iterable[pa.RecordBatch], settings: JoinSettings, n_pairs: Accumulator[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Work items (see plan.py) to rows of JOINED. `n_pairs` counts as tasks end, for the guard on the driver."""
    for item in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
        a_file = (settings.root, item["a_path"], item["a_sha256"])
        b_file = (settings.root, item["b_path"], item["b_sha256"])
        a, b = shards.read_shard(*a_file), None if b_file == a_file else shards.read_shard(*b_file)
        allowed = max(_MIN_ITEM_PAIRS, settings.max_pairs_per_image * (len(a) + len(b or a)))
        yield from _join_item(item["item"], (a, b), propose(a_file, b_file, settings), settings, allowed, n_pairs)


def propose(a_file: tuple[str, str, str], b_file: tuple[str, str, str], settings: JoinSettings) -> Candidates:
    """Rows that the engine proposes; the same file twice: pairs within it."""
    within = a_file == b_file
    a, b = shards.read_shard(*a_file), None if within else shards.read_shard(*b_file)
    if settings.engine in EXACT:
        device = open_device(settings.gpus_per_task) if settings.engine == "exact_gpu" else None
        return exact_join(a, b, settings.lowest, device)
    if settings.engine == "faiss_ivf":
        indexes = (_index(*a_file),) if within else (_index(*a_file), _index(*b_file))
        return ivf_join(a, b, indexes, settings.lowest, settings.n_probes)
    assert settings.sketch_filter is not None
    sa, sb = (_sketched(f, settings.sketch_filter, settings.seed) for f in (a_file, b_file))
    if settings.engine == "sketch":
        return sketch_join(sa, None if within else sb, settings.sketch_filter)
    centroids = _centroids(*b_file)
    ra, rb = (Routed(x, s, home_cosines(x, centroids)) for x, s in ((a, sa), (b or a, sb)))
    return routed_join(ra, None if within else rb, centroids, settings.margin, settings.sketch_filter)


def _join_item(
    item: int,
    blocks: tuple[Block, Block | None],
    candidates: Candidates,
    settings: JoinSettings,
    allowed: int,
    counter: Accumulator[int] | None,
) -> Iterator[pa.RecordBatch]:
    n_found = n_candidates = 0
    a, b = blocks
    for found in score_candidates(a, b, candidates, settings.floor, settings.neighbours, settings.min_similarity):
        n_found, n_candidates = n_found + len(found.i), n_candidates + found.n_candidates
        if n_found > allowed:
            break
        if len(found.i):
            yield _pairs(found, a.ids[found.i], (b or a).ids[found.j])
    if counter is not None:
        counter.add(n_found)
    end = {"item": item, "n_candidates": n_candidates, "overflow": n_found > allowed}
    yield pa.RecordBatch.from_pylist([end], schema=JOINED.arrow)


def _pairs(found: ScoredPairs, a: Int64, b: Int64) -> pa.RecordBatch:
    swap = a > b
    columns = [
        np.minimum(a, b), np.maximum(a, b), found.similarity,
        np.where(swap, found.best_of_b, found.best_of_a), np.where(swap, found.best_of_a, found.best_of_b),
    ]  # fmt: skip
    nulls = [pa.nulls(len(a), kind) for kind in (pa.int64(), pa.int64(), pa.bool_())]
    return pa.RecordBatch.from_arrays([*(pa.array(c) for c in columns), *nulls], schema=JOINED.arrow)


def _sketched(file: tuple[str, str, str], sketch_filter: SketchFilter, seed: int) -> BlockSketches:
    """A worker meets the same shards in many items."""
    key = file, sketch_filter, seed
    return _sketches.get(key, lambda: sketch_block(shards.read_shard(*file), sketch_filter, seed))


_sketches = Kept[BlockSketches](64 << 20, 2, lambda s: s.first.nbytes + s.rest.nbytes)
"""Of eight shards of 65,536 rows at 1,024 bits, of 32 at 256."""

_index = functools.lru_cache(maxsize=2)(shards.read_index)
_centroids = functools.lru_cache(maxsize=1)(shards.read_centroids)


def open_device(gpus: float) -> str:
    """torch's name of the GPU that this task holds. Raises ConfigError where there is none, or PyTorch sees none."""
    from dedup_spark.models.torch_runtime import open_device  # it imports torch, which takes seconds

    return str(open_device(device_of_task(gpus)))
