"""What an index stores of each vector, so that no join computes it again: its id and cell, its length, its sketch.

A join by sketches reads these 148 bytes a vector, and of the vectors themselves (1,024 bytes at 512 dimensions) the
rows that become candidates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels.arrays import Float16, Float32
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.routed import home_cosines
from dedup_spark.kernels.joins.sketch import BlockSketches, sketch_rows, split_sketches
from dedup_spark.kernels.joins.sketches import MOST_BITS, SketchFilter

ROW = np.dtype(
    [
        ("image_id", "<i8"),
        ("cell", "<i4"),
        ("inverse_norm", "<f4"),
        ("home_cosine", "<f4"),
        ("sketch", "u1", (MOST_BITS // 8,)),
    ]
)
"""`inverse_norm` is one over the length of the vector, `home_cosine` its cosine to the centroid of its cell."""

StoredRows = npt.NDArray[np.void]
"""(n,) of ROW, in the order of the vectors."""


def rows_of(block: Block, centroids: Float32, seed: int) -> StoredRows:
    """Of a block, whose cells are numbers of the (k, d) `centroids`; `seed` is that of the rotation of the sketches."""
    rows = np.empty(len(block), ROW)
    rows["image_id"], rows["cell"], rows["inverse_norm"] = block.ids, block.cells, block.inverse_norms
    rows["home_cosine"] = home_cosines(block, centroids)
    rows["sketch"] = sketch_rows(block, MOST_BITS, seed)
    return rows


def block_of(rows: StoredRows, vectors: Float16) -> Block:
    """The block of n stored rows and their vectors (n, d). The vectors are not read."""
    ids, cells, norms = (np.ascontiguousarray(rows[name]) for name in ("image_id", "cell", "inverse_norm"))
    return Block(ids, vectors, cells, norms)


def sketches_of(rows: StoredRows, sketch_filter: SketchFilter) -> BlockSketches:
    """What `sketch_block` makes of the vectors, with the seed that they were stored with."""
    return split_sketches(rows["sketch"], sketch_filter)
