"""What all joins share: blocks of vectors, the exact scoring of candidates, and the k nearest of a row.

A join is a generator of candidates `(i, j)`: rows of a block `a` and of a block `b`, or of `a` twice with i < j. It may
propose too many: `score_candidates` computes the cosine of each in double precision and decides. So all joins agree bit
for bit on the pairs that both of them propose.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels.arrays import Bools, Float16, Float32, Int32, Int64, expect
from dedup_spark.kernels.vectors import cosines, to_float32

Rows = Int64
"""Row numbers within a block, as against ids of images."""

Candidates = Iterator[tuple[Rows, Rows]]

QUERY_TILE, BASE_TILE = 1024, 8192
"""Rows per tile: 8192 sketches of 512 bits are 512 KB, an L2 cache; 1024 x 8192 float32 products are 32 MB, and as
many pairs, all of them equal, 96 MB."""

FLOAT32_ERROR = 1e-4
"""Bound on the error of a cosine of two float16 rows that is computed in float32: 512 products, each with a relative
error of 6e-8, with room for embeddings of 65,536 dimensions (measured at 512: 2e-7)."""

_PORTION_PAIRS = 262_144

_SCORED_ROWS = 512
"""Pairs scored at once: two gathers of 1 MB, which stay in the cache (measured: 0.8 us per pair; 1.4 us at 4096)."""


@dataclass(frozen=True, eq=False)
class Block:
    """Vectors of a shard: ids (n,) int64, vectors (n, d) float16, home cells (n,) int32 in ascending order.

    `known_norms` are the `inverse_norms`, where somebody stored them: to compute them all vectors are read.
    """

    ids: Int64
    vectors: Float16
    cells: Int32
    known_norms: Float32 | None = None

    def __post_init__(self) -> None:
        ids, vectors, cells = self.ids, self.vectors, self.cells
        expect(ids=(ids, "n", np.int64), vectors=(vectors, "n d", np.float16), cells=(cells, "n", np.int32))

    def __len__(self) -> int:
        return len(self.ids)

    def unit_vectors(self, rows: slice | Rows) -> Float32:
        """Rows as float32 vectors of length 1; a vector of zeros stays one of zeros."""
        unit = to_float32(_rows(self.vectors, rows))
        unit *= _rows(self.inverse_norms, rows)[:, None]
        return unit

    @functools.cached_property
    def inverse_norms(self) -> Float32:
        """(n,) float32: one over the length of each row."""
        if self.known_norms is not None:
            return self.known_norms
        squares = np.empty(len(self), np.float32)
        for start in range(0, len(self), BASE_TILE):
            x = to_float32(self.vectors[start : start + BASE_TILE])
            squares[start : start + BASE_TILE] = np.einsum("ij,ij->i", x, x)
        return (1 / np.sqrt(np.maximum(squares, 1e-30))).astype(np.float32)

    @functools.cached_property
    def cell_bounds(self) -> dict[int, slice]:
        """The rows of each cell."""
        cells, starts = np.unique(self.cells, return_index=True)
        ends = np.append(starts, len(self))[1:]
        return {c: slice(s, e) for c, s, e in zip(cells.tolist(), starts.tolist(), ends.tolist(), strict=True)}


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of one tile: rows, exact cosines, and whether each is among the k nearest of its row in the tile.

    `n_candidates` counts what was proposed, near or not.
    """

    i: Rows
    j: Rows
    similarity: Float32
    best_of_a: Bools
    best_of_b: Bools
    n_candidates: int


def tiles(
    n_a: int, n_b: int | None, query_rows: int | None = None, base_rows: int | None = None
) -> Iterator[tuple[slice, list[slice]]]:
    """Each tile of `base_rows` of b with the tiles of `query_rows` of a to compare it with; by default those of a CPU.

    `n_b` None: of a with itself, i < j.
    """
    query_rows, base_rows = query_rows or QUERY_TILE, base_rows or BASE_TILE
    n_base = n_a if n_b is None else n_b
    for low in range(0, n_base, base_rows):
        cols = slice(low, min(low + base_rows, n_base))
        n_rows = cols.stop if n_b is None else n_a
        yield cols, [slice(s, min(s + query_rows, n_rows)) for s in range(0, n_rows, query_rows)]


def later(rows: slice, cols: slice, within: bool) -> slice:
    """The part of `cols` that can come after some row of `rows`; all of it unless i < j is asked for."""
    return slice(max(cols.start, rows.start), cols.stop) if within else cols


def in_order(i: Rows, j: Rows, rows: slice, cols: slice, within: bool) -> tuple[Rows, Rows]:
    """Drop the candidates with i >= j, where the tiles overlap and i < j is asked for."""
    if not within or rows.stop <= cols.start:
        return i, j
    keep = i < j
    return i[keep], j[keep]


def score_candidates(
    a: Block, b: Block | None, candidates: Candidates, floor: float, k: int, keep: float, threads: int = 1
) -> Iterator[ScoredPairs]:
    """Pairs with cosine >= `keep`, and those >= `floor` that are among the `k` nearest of either row in their tile.

    The k nearest in the whole are among the k nearest in their tiles, so that a later merge of all tiles finds them.
    With several `threads` the same comes in the same order, while more candidates are proposed.
    """
    scorer = _Scorer(a, a if b is None else b, floor if k else keep, k, keep)
    portions = itertools.chain.from_iterable(map(_portions, candidates))
    yield from map(scorer.score, portions) if threads == 1 else _by_threads(scorer.score, portions, threads)


def _by_threads[X, Y](work: Callable[[X], Y], inputs: Iterator[X], threads: int) -> Iterator[Y]:
    """The results in order; at most twice as many inputs as threads are under way."""
    with ThreadPoolExecutor(threads, thread_name_prefix="score") as pool:
        under_way = deque[Future[Y]]()
        for given in inputs:
            under_way.append(pool.submit(work, given))
            if len(under_way) > 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


class _Scorer:
    """Scores candidates of two blocks; each thread keeps tiles of its own."""

    def __init__(self, a: Block, b: Block, lowest: float, k: int, keep: float) -> None:
        self._a, self._b, self._lowest, self._k, self._keep = a, b, lowest, k, keep
        self._mine = threading.local()

    def score(self, rows: tuple[Rows, Rows]) -> ScoredPairs:
        i, j = rows
        if not hasattr(self._mine, "of_a"):
            self._mine.of_a, self._mine.of_b = _UnitRows(self._a), _UnitRows(self._b)
        near, similarity = _score(self._mine.of_a, self._mine.of_b, i, j, self._lowest)
        row, col = i[near], j[near]
        best_of_a = best(row, self._b.ids[col], similarity, self._k)
        best_of_b = best(col, self._a.ids[row], similarity, self._k)
        stays = (similarity >= np.float32(self._keep)) | best_of_a | best_of_b
        return ScoredPairs(row[stays], col[stays], similarity[stays], best_of_a[stays], best_of_b[stays], len(i))


def best(row: Rows, other_id: Int64, similarity: Float32, k: int) -> Bools:
    """(m,) for each pair whether it is among the `k` most similar of its row; ties go to the smaller `other_id`."""
    expect(row=(row, "m", np.int64), id=(other_id, "m", np.int64), similarity=(similarity, "m", np.float32))
    if k == 0 or len(row) == 0:
        return np.zeros(len(row), bool)
    if np.bincount(row - row.min()).max() <= k:
        return np.ones(len(row), bool)
    order = np.lexsort((other_id, -similarity, row))
    ordered = row[order]
    first = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    place = np.arange(len(row)) - np.repeat(first, np.diff(np.append(first, len(row))))
    chosen = np.empty(len(row), bool)
    chosen[order] = place < k
    return chosen


def _portions(rows: tuple[Rows, Rows]) -> Iterator[tuple[Rows, Rows]]:
    """At most _PORTION_PAIRS at a time, so that a task can stop before it scores too many; an empty one for none."""
    i, j = rows
    for start in range(0, max(1, len(i)), _PORTION_PAIRS):
        yield i[start : start + _PORTION_PAIRS], j[start : start + _PORTION_PAIRS]


class _UnitRows:
    """Rows of a block as unit vectors; where many of one tile are asked for, the tile is kept for the next time."""

    def __init__(self, block: Block) -> None:
        self.block, self._start, self._tile = block, 0, np.empty((0, 0), np.float32)

    def prepare(self, rows: Rows) -> None:
        """Convert and keep the tile of these rows, if so many of it are asked for that it pays."""
        low, high = int(rows.min()), int(rows.max()) + 1
        if self._start <= low and high <= self._start + len(self._tile):
            return
        start, end = low // QUERY_TILE * QUERY_TILE, min(-(-high // QUERY_TILE) * QUERY_TILE, len(self.block))
        if end - start <= min(2 * len(rows), 2 * BASE_TILE):
            self._start, self._tile = start, self.block.unit_vectors(slice(start, end))
        else:
            self._tile = self._tile[:0]

    def rows(self, rows: Rows) -> Float32:
        if len(self._tile):
            return np.take(self._tile, rows - self._start, axis=0)
        return self.block.unit_vectors(rows)


def _score(of_a: _UnitRows, of_b: _UnitRows, i: Rows, j: Rows, lowest: float) -> tuple[Rows, Float32]:
    """Positions in (i, j) of the pairs of different images with cosine >= `lowest`, and their cosines."""
    a, b = of_a.block, of_b.block
    positions, similarities = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    if len(i):
        of_a.prepare(i)
        of_b.prepare(j)
    for start in range(0, len(i), _SCORED_ROWS):
        rows, cols = i[start : start + _SCORED_ROWS], j[start : start + _SCORED_ROWS]
        rough = np.einsum("ij,ij->i", of_a.rows(rows), of_b.rows(cols))
        maybe = np.flatnonzero(rough >= lowest - FLOAT32_ERROR)
        cosine = cosines(a.vectors[rows[maybe]], b.vectors[cols[maybe]])
        near = (cosine >= np.float32(lowest)) & (a.ids[rows[maybe]] != b.ids[cols[maybe]])
        positions.append(maybe[near] + start)
        similarities.append(cosine[near])
    return np.concatenate(positions), np.concatenate(similarities)


def _rows(x: npt.NDArray[Any], rows: slice | Rows) -> npt.NDArray[Any]:
    return x[rows] if isinstance(rows, slice) else np.take(x, rows, axis=0)  # take: four times as fast as x[rows]
