"""What all joins share: blocks of vectors, proposed rows to verified pairs, and the k best of a row.

A join is a generator of `(i, j)`: rows of a block `a` and of a block `b`, or of `a` twice with i < j. It may propose
too much, `verified` has the last word in double precision: so all joins agree bit for bit on what they both propose.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels import vectors as ann

Rows = npt.NDArray[np.int64]
Proposed = Iterator[tuple[Rows, Rows]]

QUERY_TILE, BASE_TILE = 1024, 8192
"""Rows of a tile: 8192 sketches of 512 bits are 512 KB, an L2 cache; 1024 x 8192 float32 products are 32 MB, and as
many pairs, all of them equal, 96 MB."""

FLOAT32_ERROR = 1e-4
"""Of the cosine of two float16 rows in float32: 512 products, each with a relative error of 6e-8, with room for
embeddings of 65,536 dimensions (measured at 512: 2e-7)."""

_PORTION_PAIRS = 262_144

_SCORED_ROWS = 512
"""Pairs scored at once: two gathers of 1 MB, which stay in the cache (measured: 0.8 us a pair; 1.4 us at 4096)."""


@dataclass(frozen=True, eq=False)
class Block:
    """Vectors of a shard: ids (n,) int64, vectors (n, d) float16, home cells (n,) int32 in ascending order."""

    ids: ann.Ids
    vectors: ann.Halves
    cells: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)

    def floats(self, rows: slice | Rows) -> ann.Floats:
        """Rows as float32 of length 1, but for a vector of zeros, which stays one."""
        floats = ann.to_floats(_rows(self.vectors, rows))
        floats *= _rows(self.inverse_norms, rows)[:, None]
        return floats

    @functools.cached_property
    def inverse_norms(self) -> ann.Floats:
        """(n,) float32."""
        squares = np.empty(len(self), np.float32)
        for start in range(0, len(self), BASE_TILE):
            x = ann.to_floats(self.vectors[start : start + BASE_TILE])
            squares[start : start + BASE_TILE] = np.einsum("ij,ij->i", x, x)
        return (1 / np.sqrt(np.maximum(squares, 1e-30))).astype(np.float32)

    @functools.cached_property
    def cell_bounds(self) -> dict[int, slice]:
        """The rows of each cell."""
        cells, starts = np.unique(self.cells, return_index=True)
        ends = np.append(starts, len(self))[1:]
        return {c: slice(s, e) for c, s, e in zip(cells.tolist(), starts.tolist(), ends.tolist(), strict=True)}


@dataclass(frozen=True)
class Found:
    """Verified pairs of one tile: rows, cosines, and whether each is among the k best of its row in the tile."""

    i: Rows
    j: Rows
    similarity: ann.Floats
    best_of_a: npt.NDArray[np.bool_]
    best_of_b: npt.NDArray[np.bool_]
    n_proposed: int


def tiles(n_a: int, n_b: int | None, query_rows: int = QUERY_TILE) -> Iterator[tuple[slice, list[slice]]]:
    """For each tile of rows of b the tiles of rows of a to compare it with; `n_b` None: of a with itself, i < j."""
    n_base = n_a if n_b is None else n_b
    for low in range(0, n_base, BASE_TILE):
        cols = slice(low, min(low + BASE_TILE, n_base))
        n_rows = cols.stop if n_b is None else n_a
        yield cols, [slice(s, min(s + query_rows, n_rows)) for s in range(0, n_rows, query_rows)]


def later(rows: slice, cols: slice, within: bool) -> slice:
    """The part of `cols` that can stand behind a row of `rows`, where i < j is asked for."""
    return slice(max(cols.start, rows.start), cols.stop) if within else cols


def in_order(i: Rows, j: Rows, rows: slice, cols: slice, within: bool) -> tuple[Rows, Rows]:
    """Drop i >= j, where the tiles overlap and i < j is asked for."""
    if not within or rows.stop <= cols.start:
        return i, j
    keep = i < j
    return i[keep], j[keep]


def verified(a: Block, b: Block | None, proposed: Proposed, floor: float, k: int, keep: float) -> Iterator[Found]:
    """Pairs with cosine >= `keep`, and those >= `floor` that are among the `k` best of either row in their tile.

    The k best of a tile hold those of the whole, so that a later merge finds the k best of everything.
    """
    base = a if b is None else b
    lowest = floor if k else keep
    rows_of_a, rows_of_b = _Floats(a), _Floats(base)
    for i, j in itertools.chain.from_iterable(map(_portions, proposed)):
        near, similarity = _score(rows_of_a, rows_of_b, i, j, lowest)
        row, col = i[near], j[near]
        best_of_a, best_of_b = best(row, base.ids[col], similarity, k), best(col, a.ids[row], similarity, k)
        stays = (similarity >= np.float32(keep)) | best_of_a | best_of_b
        yield Found(row[stays], col[stays], similarity[stays], best_of_a[stays], best_of_b[stays], len(i))


def best(row: Rows, other_id: ann.Ids, similarity: ann.Floats, k: int) -> npt.NDArray[np.bool_]:
    """For each pair whether it is among the `k` most similar of its row; ties go to the smaller `other_id`."""
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
    """At most _PORTION_PAIRS at a time, so that a flood can be stopped before it is scored; also nothing, once."""
    i, j = rows
    for start in range(0, max(1, len(i)), _PORTION_PAIRS):
        yield i[start : start + _PORTION_PAIRS], j[start : start + _PORTION_PAIRS]


class _Floats:
    """Rows of a block as float32; where many of one tile are asked for, the tile is kept for the next time."""

    def __init__(self, block: Block) -> None:
        self.block, self._start, self._tile = block, 0, np.empty((0, 0), np.float32)

    def prepare(self, rows: Rows) -> None:
        """Keep the tile of these rows, if so many are asked for that it pays."""
        low, high = int(rows.min()), int(rows.max()) + 1
        if self._start <= low and high <= self._start + len(self._tile):
            return
        start, end = low // QUERY_TILE * QUERY_TILE, min(-(-high // QUERY_TILE) * QUERY_TILE, len(self.block))
        if end - start <= min(2 * len(rows), 2 * BASE_TILE):
            self._start, self._tile = start, self.block.floats(slice(start, end))
        else:
            self._tile = self._tile[:0]

    def rows(self, rows: Rows) -> ann.Floats:
        if len(self._tile):
            return np.take(self._tile, rows - self._start, axis=0)
        return self.block.floats(rows)


def _score(of_a: _Floats, of_b: _Floats, i: Rows, j: Rows, lowest: float) -> tuple[Rows, ann.Floats]:
    """Positions in (i, j) of the pairs of two images with cosine >= `lowest`, and their cosines."""
    a, b = of_a.block, of_b.block
    positions, similarities = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    if len(i):
        of_a.prepare(i)
        of_b.prepare(j)
    for start in range(0, len(i), _SCORED_ROWS):
        rows, cols = i[start : start + _SCORED_ROWS], j[start : start + _SCORED_ROWS]
        rough = np.einsum("ij,ij->i", of_a.rows(rows), of_b.rows(cols))
        maybe = np.flatnonzero(rough >= lowest - FLOAT32_ERROR)
        cosine = ann.cosines(a.vectors[rows[maybe]], b.vectors[cols[maybe]])
        near = (cosine >= np.float32(lowest)) & (a.ids[rows[maybe]] != b.ids[cols[maybe]])
        positions.append(maybe[near] + start)
        similarities.append(cosine[near])
    return np.concatenate(positions), np.concatenate(similarities)


def _rows(x: npt.NDArray[Any], rows: slice | Rows) -> npt.NDArray[Any]:
    return x[rows] if isinstance(rows, slice) else np.take(x, rows, axis=0)  # take: four times as fast as x[rows]
