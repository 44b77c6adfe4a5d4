"""The sketch join: all pairs by Hamming distance of sign sketches, in two looks.

The first look compares the first bits of every pair (FAISS, 0.8 ns a pair and core at 128 bits, 1.4 at 256, 2.7 at
512; a matrix product takes 16). The second adds the other bits for the few that pass (25 to 50 ns each). What passes
both is proposed. `kernels/joins/sketches.py` chooses bits and radii.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import faiss
import numpy as np

from dedup_spark.kernels.joins import sketches as sketch
from dedup_spark.kernels.joins.base import BASE_TILE, Block, Proposed, Rows, in_order, later, tiles


@dataclass(frozen=True, eq=False)
class Sketched:
    """Sketches of a block in two parts: `first` (n, bytes) uint8, `rest` (n, words) uint64, words may be 0."""

    first: sketch.Sketches
    rest: np.ndarray


def sketched(block: Block, look: sketch.Look, seed: int) -> Sketched:
    """Sketches of all rows of a block, a tile at a time."""
    n_bits = look.first_bits + look.rest_bits
    sketches = np.empty((len(block), n_bits // 8), np.uint8)
    for start in range(0, len(block), BASE_TILE):
        x = block.floats(slice(start, start + BASE_TILE))
        sketches[start : start + BASE_TILE] = sketch.make_sketches(x, n_bits, seed)
    n_first = look.first_bits // 8
    return Sketched(
        np.ascontiguousarray(sketches[:, :n_first]), np.ascontiguousarray(sketches[:, n_first:]).view(np.uint64)
    )


def sketch_join(a: Sketched, b: Sketched | None, look: sketch.Look) -> Proposed:
    """Rows within both radii; with `b` None of a with itself, i < j."""
    base, within = a if b is None else b, b is None
    for cols, row_tiles in tiles(len(a.first), None if b is None else len(b.first)):
        for rows in row_tiles:
            behind = later(rows, cols, within)
            i, j, bits = first_look(a.first[rows], base.first[behind], look.first_radius)
            i, j = second_look(a.rest, base.rest, i + rows.start, j + behind.start, bits, look)
            yield in_order(i, j, rows, behind, within)


def first_look(queries: sketch.Sketches, base: sketch.Sketches, radius: int) -> tuple[Rows, Rows, np.ndarray]:
    """(i, j, distance) of all rows within `radius` bits. FAISS reads both where they lie: no index is built."""
    found = faiss.RangeSearchResult(len(queries))
    if len(queries) and len(base):
        a, b = np.ascontiguousarray(queries), np.ascontiguousarray(base)
        faiss.hamming_range_search(  # type: ignore[attr-defined]
            faiss.swig_ptr(a), faiss.swig_ptr(b), len(a), len(b), radius + 1, a.shape[1], found
        )  # FAISS keeps distances below its radius
    limits = faiss.rev_swig_ptr(found.lims, len(queries) + 1).astype(np.int64)
    n = int(limits[-1])
    if n == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32)
    i = np.repeat(np.arange(len(queries), dtype=np.int64), np.diff(limits))
    bits = faiss.rev_swig_ptr(found.distances, n).astype(np.int32)
    return i, faiss.rev_swig_ptr(found.labels, n).astype(np.int64), bits


def second_look(
    a: np.ndarray, b: np.ndarray, i: Rows, j: Rows, bits: np.ndarray, look: sketch.Look
) -> tuple[Rows, Rows]:
    """Of the rows (i, j), `bits` apart in the first part, those within the radius of both parts together."""
    if look.rest_bits == 0 or len(i) == 0:
        return i, j
    differ = np.bitwise_count(np.take(a, i, axis=0) ^ np.take(b, j, axis=0))
    total = functools.reduce(np.add, (differ[:, word] for word in range(differ.shape[1])), bits)
    near = total <= look.radius
    return i[near], j[near]
