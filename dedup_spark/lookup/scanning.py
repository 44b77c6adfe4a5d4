"""Finds the vectors near one vector: by sign sketches, or of few vectors exactly. One core, no index to train.

A scan of sketches takes 2 to 3 ns a vector and needs the filter of match, so that it misses as little: 0.1 % of the
pairs right at match.min_similarity (`match.min_recall`). Up to EXACT_ROWS all products are computed, from float16, as a
match of so many would do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dedup_spark.kernels.arrays import Float16, Float32, Int64, UInt8, UInt64, expect
from dedup_spark.kernels.joins.sketch import near_in_all_bits, near_in_first_bits
from dedup_spark.kernels.joins.sketches import SketchFilter, make_sketches
from dedup_spark.kernels.vectors import build_shard, to_float32

EXACT_ROWS = 40_000
"""Of 512 numbers: 40 MB in memory, and 6 to 10 ms a scan. Above some 35,000 match takes sketches, too."""
FLOAT16_MARGIN = 2e-3
"""What a product of float16 values is off by at most: `kernels/joins/exact_gpu.py`."""
_MOST_FOUND = 20_000
"""Candidates of one scan, whose cosines are then computed in 20 ms. A blank picture is near a whole lake; of more than
this those stay whose sketches are nearest."""
_TILE = 8192


class Scan(Protocol):
    """What is near one vector of length 1, (d,) float32."""

    def near(self, vector: Float32, lowest: float) -> Int64:
        """Rows whose cosine may be at least `lowest`, in no order."""
        ...


@dataclass(frozen=True, eq=False)
class SketchScan:
    """`first` (n, bytes) and `rest` (n, words) of all rows, as `sketch_filter` compares them."""

    first: UInt8
    rest: UInt64
    sketch_filter: SketchFilter
    seed: int

    def near(self, vector: Float32, lowest: float) -> Int64:
        """`lowest` is that of the filter."""
        expect(vector=(vector, "d", np.float32))
        made = make_sketches(vector[None], self.sketch_filter.n_bits, self.seed)
        n_first = self.first.shape[1]
        query = np.ascontiguousarray(made[:, :n_first])
        rest = np.ascontiguousarray(made[:, n_first:]).view(np.uint64)
        i, j, bits = near_in_first_bits(query, self.first, self.sketch_filter.first_radius)
        if len(j) > _MOST_FOUND:
            nearest = np.argpartition(bits, _MOST_FOUND)[:_MOST_FOUND]
            i, j, bits = i[nearest], j[nearest], bits[nearest]
        return near_in_all_bits(rest, self.rest, i, j, bits, self.sketch_filter)[1]


class ExactScan:
    """Products with all rows of (n, d) float16, of which FAISS keeps a copy: an index of one cell, as its search by a
    radius is seven times as fast as that of a flat index of float16."""

    def __init__(self, vectors: Float16) -> None:
        n, d = vectors.shape
        self._index = build_shard(np.arange(n), vectors, np.zeros(n, np.int32), np.zeros((1, d), np.float32))

    def near(self, vector: Float32, lowest: float) -> Int64:
        expect(vector=(vector, "d", np.float32))
        _, scores, rows = self._index.range_search(vector[None], lowest - FLOAT16_MARGIN)
        if len(rows) > _MOST_FOUND:
            rows = rows[np.argpartition(-scores, _MOST_FOUND)[:_MOST_FOUND]]
        return np.asarray(rows, np.int64)


def near_of_all(vector: Float32, vectors: Float16, lowest: float) -> Int64:
    """As `ExactScan.near`, over vectors that are mapped from a file: 0.5 us a row, and what reading them takes."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(vectors), _TILE):
        products = to_float32(vectors[start : start + _TILE]) @ vector
        found.append(np.flatnonzero(products >= lowest - FLOAT16_MARGIN) + start)
    return np.concatenate(found)
