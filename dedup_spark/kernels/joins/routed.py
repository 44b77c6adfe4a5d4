"""The routed join: a vector is compared with the cells whose centroids are nearly as near to it as its own.

The margin rule: x visits a cell when its cosine to the cell's centroid is at most `margin` below that to its home
centroid. Two vectors are compared when either visits the home cell of the other: a symmetric rule, which at equal cost
finds more than many probes in one direction. The rule needs the centroids of the two shards alone, so no vector is
compared with all cells. Inside a cell sketches are compared. The survey of each run measures the margin that the recall
needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Int64, expect
from dedup_spark.kernels.joins.base import BASE_TILE, QUERY_TILE, Block, Candidates, Rows
from dedup_spark.kernels.joins.sketch import BlockSketches, near_in_all_bits, near_in_first_bits
from dedup_spark.kernels.joins.sketches import SketchFilter


@dataclass(frozen=True, eq=False)
class Routed:
    """A block, its sketches, and (n,) float32 the cosine of each row to its home centroid."""

    block: Block
    sketches: BlockSketches
    home: Float32

    def columns(self) -> Int64:
        """(n,): the position of each row's cell among the cells of the block."""
        return np.searchsorted(list(self.block.cell_bounds), self.block.cells)


def home_cosines(block: Block, centroids: Float32) -> Float32:
    """(n,) float32: cosine of each row to the centroid of its cell, of (k, d)."""
    expect(vectors=(block.vectors, "n d", np.float16), centroids=(centroids, "k d", np.float32))
    home = np.empty(len(block), np.float32)
    for cell, rows in block.cell_bounds.items():
        for part in _parts(rows):
            home[part] = block.unit_vectors(part) @ centroids[cell]
    return home


def routed_join(
    a: Routed, b: Routed | None, centroids: Float32, margin: float, sketch_filter: SketchFilter
) -> Candidates:
    """Candidates by the margin rule within the radii, each once; with `b` None of a with itself, i < j."""
    if b is None:
        visited, home = visits(a, a.block, centroids, margin), a.columns()
        for i, j in _candidates(a, a, visited, sketch_filter):
            again = (i == j) | ((i > j) & visited[j, home[i]])  # the second: proposed as (j, i) in the cell of i
            yield np.minimum(i, j)[~again], np.maximum(i, j)[~again]
        return
    visited, home = visits(a, b.block, centroids, margin), b.columns()
    yield from _candidates(a, b, visited, sketch_filter)
    for j, i in _candidates(b, a, visits(b, a.block, centroids, margin), sketch_filter):
        new = ~visited[i, home[j]]
        yield i[new], j[new]


def visits(a: Routed, base: Block, centroids: Float32, margin: float) -> Bools:
    """(n, cells of base): whether each row of `a` visits each of those cells; always its own."""
    expect(vectors=(base.vectors, "m d", np.float16), centroids=(centroids, "k d", np.float32))
    cells = np.array(list(base.cell_bounds), np.int32)
    visited = np.empty((len(a.block), len(cells)), bool)
    for part in _parts(slice(0, len(a.block))):
        gap = a.home[part, None] - a.block.unit_vectors(part) @ centroids[cells].T
        visited[part] = (gap <= margin) | (a.block.cells[part, None] == cells)
    return visited


def _candidates(
    queries: Routed, base: Routed, visited: Bools, sketch_filter: SketchFilter
) -> Iterator[tuple[Rows, Rows]]:
    for column, cell in enumerate(base.block.cell_bounds.values()):
        rows = np.flatnonzero(visited[:, column])
        for start in range(0, len(rows), QUERY_TILE):
            some = rows[start : start + QUERY_TILE]
            first = np.take(queries.sketches.first, some, axis=0)
            for part in _parts(cell):
                i, j, bits = near_in_first_bits(first, base.sketches.first[part], sketch_filter.first_radius)
                rest = queries.sketches.rest, base.sketches.rest
                yield near_in_all_bits(*rest, some[i], j + part.start, bits, sketch_filter)


def _parts(rows: slice) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, BASE_TILE):
        yield slice(start, min(start + BASE_TILE, rows.stop))
