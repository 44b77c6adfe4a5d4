"""The routed join: a vector is compared with the cells that lie nearly as close to it as its own.

The margin rule: x visits a cell when its cosine to the cell's centroid is at most `margin` below that to its home
centroid. Two vectors meet when either visits the home of the other: symmetric, which at equal cost finds more than
many probes in one direction. The rule needs the centroids of the two shards alone, so no vector is compared with all
cells. Inside a cell sketches are compared. The survey of each run measures the margin that the recall needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels import vectors
from dedup_spark.kernels.joins import sketches as sketch
from dedup_spark.kernels.joins.base import BASE_TILE, QUERY_TILE, Block, Proposed, Rows
from dedup_spark.kernels.joins.sketch import Sketched, first_look, second_look

Visited = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Routed:
    """A block, its sketches, and (n,) float32 the cosine of each row to its home centroid."""

    block: Block
    sketches: Sketched
    home: vectors.Floats

    def columns(self) -> npt.NDArray[np.int64]:
        """(n,): the place of each row's cell among the cells of the block."""
        return np.searchsorted(list(self.block.cell_bounds), self.block.cells)


def home_cosines(block: Block, centroids: vectors.Floats) -> vectors.Floats:
    """(n,) float32: cosine of each row to the centroid of its cell."""
    home = np.empty(len(block), np.float32)
    for cell, rows in block.cell_bounds.items():
        for part in _parts(rows):
            home[part] = block.floats(part) @ centroids[cell]
    return home


def routed_join(a: Routed, b: Routed | None, centroids: vectors.Floats, margin: float, look: sketch.Look) -> Proposed:
    """Rows that meet by the margin rule and lie within the radii, each once; with `b` None of a with itself, i < j."""
    if b is None:
        visited, home = visits(a, a.block, centroids, margin), a.columns()
        for i, j in _meetings(a, a, visited, look):
            again = (i == j) | ((i > j) & visited[j, home[i]])  # the second: met as (j, i) in the cell of i
            yield np.minimum(i, j)[~again], np.maximum(i, j)[~again]
        return
    visited, home = visits(a, b.block, centroids, margin), b.columns()
    yield from _meetings(a, b, visited, look)
    for j, i in _meetings(b, a, visits(b, a.block, centroids, margin), look):
        new = ~visited[i, home[j]]
        yield i[new], j[new]


def visits(a: Routed, base: Block, centroids: vectors.Floats, margin: float) -> Visited:
    """(n, cells of base): whether each row of `a` visits each of those cells; always its own."""
    cells = np.array(list(base.cell_bounds), np.int32)
    visited = np.empty((len(a.block), len(cells)), bool)
    for part in _parts(slice(0, len(a.block))):
        gap = a.home[part, None] - a.block.floats(part) @ centroids[cells].T
        visited[part] = (gap <= margin) | (a.block.cells[part, None] == cells)
    return visited


def _meetings(queries: Routed, base: Routed, visited: Visited, look: sketch.Look) -> Iterator[tuple[Rows, Rows]]:
    for column, cell in enumerate(base.block.cell_bounds.values()):
        rows = np.flatnonzero(visited[:, column])
        for start in range(0, len(rows), QUERY_TILE):
            some = rows[start : start + QUERY_TILE]
            first = np.take(queries.sketches.first, some, axis=0)
            for part in _parts(cell):
                i, j, bits = first_look(first, base.sketches.first[part], look.first_radius)
                yield second_look(queries.sketches.rest, base.sketches.rest, some[i], j + part.start, bits, look)


def _parts(rows: slice) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, BASE_TILE):
        yield slice(start, min(start + BASE_TILE, rows.stop))
