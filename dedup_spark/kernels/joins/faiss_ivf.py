"""The reference join: FAISS's own IVF range search over a shard file, with every row as a query.

Two shards are searched in both directions, so that two rows which probe each other's cells are proposed twice, but
never twice in one portion.
"""

from __future__ import annotations

import faiss
import numpy as np

from dedup_spark.kernels.joins.base import Block, Candidates

_QUERIES = 256  # per search: with 65,536 rows, all of them near, FAISS returns 200 MB

_FLOAT16_ERROR = 1e-2
"""FAISS multiplies the stored rows, whose length differs from 1 by up to 5e-4 each where they were unit vectors."""


def ivf_join(a: Block, b: Block | None, indexes: tuple[faiss.Index, ...], lowest: float, n_probes: int) -> Candidates:
    """Candidates that FAISS finds with `n_probes` of all cells; `indexes`: that of a, and of b where there is one."""
    if b is None:
        for i, j in _search(a, a, indexes[0], lowest, n_probes):
            # Two queries of one search that find each other would take two places among the nearest of both.
            keep = i != j
            keys = np.unique(np.minimum(i, j)[keep] * len(a) + np.maximum(i, j)[keep])
            yield keys // len(a), keys % len(a)
        return
    yield from _search(a, b, indexes[1], lowest, n_probes)
    for j, i in _search(b, a, indexes[0], lowest, n_probes):
        yield i, j


def _search(queries: Block, base: Block, index: faiss.Index, lowest: float, n_probes: int) -> Candidates:
    index.nprobe = n_probes  # type: ignore[attr-defined]
    order = np.argsort(base.ids)
    for start in range(0, len(queries), _QUERIES):
        x = queries.unit_vectors(slice(start, start + _QUERIES))
        limits, _, ids = index.range_search(x, lowest - _FLOAT16_ERROR)
        i = np.repeat(np.arange(len(x), dtype=np.int64), np.diff(limits).astype(np.int64))
        yield i + start, order[np.searchsorted(base.ids, ids, sorter=order)]
