"""The sketch join: all pairs by Hamming distance of sign sketches, in two stages.

The first stage compares the first bits of every pair (FAISS, per pair and core 0.8 ns at 128 bits, 1.4 at 256, 2.7 at
512; a matrix product takes 16). The second adds the other bits for the few that pass (25 to 50 ns each). What passes
both is a candidate. `kernels/joins/sketches.py` chooses bits and radii.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import faiss
import numpy as np

from dedup_spark.kernels.arrays import Int32, UInt8, UInt64, expect
from dedup_spark.kernels.joins.base import BASE_TILE, Block, Candidates, Rows, in_order, later, tiles
from dedup_spark.kernels.joins.sketches import SketchFilter, make_sketches


@dataclass(frozen=True, eq=False)
class BlockSketches:
    """Sketches of a block in two parts: `first` (n, bytes) uint8, `rest` (n, words) uint64, words may be 0."""

    first: UInt8
    rest: UInt64

    def __post_init__(self) -> None:
        expect(first=(self.first, "n bytes", np.uint8), rest=(self.rest, "n words", np.uint64))


def sketch_block(block: Block, sketch_filter: SketchFilter, seed: int) -> BlockSketches:
    """Sketches of all rows of a block."""
    return split_sketches(sketch_rows(block, sketch_filter.n_bits, seed), sketch_filter)


def sketch_rows(block: Block, n_bits: int, seed: int) -> UInt8:
    """(n, n_bits / 8): sketches of all rows, made one tile at a time. 10 us a row at 1,024 bits and 512 dimensions."""
    sketches = np.empty((len(block), n_bits // 8), np.uint8)
    for start in range(0, len(block), BASE_TILE):
        x = block.unit_vectors(slice(start, start + BASE_TILE))
        sketches[start : start + BASE_TILE] = make_sketches(x, n_bits, seed)
    return sketches


def split_sketches(sketches: UInt8, sketch_filter: SketchFilter) -> BlockSketches:
    """The two parts that the filter compares, of (n, bytes) sketches of as many bits or more."""
    expect(sketches=(sketches, "n bytes", np.uint8))
    n_first, n_bytes = sketch_filter.first_bits // 8, sketch_filter.n_bits // 8
    return BlockSketches(
        np.ascontiguousarray(sketches[:, :n_first]), np.ascontiguousarray(sketches[:, n_first:n_bytes]).view(np.uint64)
    )


def sketch_join(a: BlockSketches, b: BlockSketches | None, sketch_filter: SketchFilter) -> Candidates:
    """Candidates within both radii; with `b` None of a with itself, i < j."""
    base, within = a if b is None else b, b is None
    for cols, row_tiles in tiles(len(a.first), None if b is None else len(b.first)):
        for rows in row_tiles:
            behind = later(rows, cols, within)
            i, j, bits = near_in_first_bits(a.first[rows], base.first[behind], sketch_filter.first_radius)
            i, j = near_in_all_bits(a.rest, base.rest, i + rows.start, j + behind.start, bits, sketch_filter)
            yield in_order(i, j, rows, behind, within)


def near_in_first_bits(queries: UInt8, base: UInt8, radius: int) -> tuple[Rows, Rows, Int32]:
    """(i, j, distance) of all rows within `radius` bits. FAISS reads both in place: no index is built."""
    expect(queries=(queries, "n bytes", np.uint8), base=(base, "m bytes", np.uint8))
    found = faiss.RangeSearchResult(len(queries))
    if len(queries) and len(base):
        a, b = np.ascontiguousarray(queries), np.ascontiguousarray(base)
        faiss.hamming_range_search(  # type: ignore[attr-defined]
            faiss.swig_ptr(a), faiss.swig_ptr(b), len(a), len(b), radius + 1, a.shape[1], found
        )  # FAISS keeps distances strictly below its radius
    limits = faiss.rev_swig_ptr(found.lims, len(queries) + 1).astype(np.int64)
    n = int(limits[-1])
    if n == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32)
    i = np.repeat(np.arange(len(queries), dtype=np.int64), np.diff(limits))
    bits = faiss.rev_swig_ptr(found.distances, n).astype(np.int32)
    return i, faiss.rev_swig_ptr(found.labels, n).astype(np.int64), bits


def near_in_all_bits(
    a: UInt64, b: UInt64, i: Rows, j: Rows, bits: Int32, sketch_filter: SketchFilter
) -> tuple[Rows, Rows]:
    """Of the rows (i, j), which differ in `bits` of the first bits, those within the radius over all bits."""
    if sketch_filter.rest_bits == 0 or len(i) == 0:
        return i, j
    differ = np.bitwise_count(np.take(a, i, axis=0) ^ np.take(b, j, axis=0))
    total = functools.reduce(np.add, (differ[:, word] for word in range(differ.shape[1])), bits)
    near = total <= sketch_filter.radius
    return i[near], j[near]
