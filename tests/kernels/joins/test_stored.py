"""What an index stores of a vector is what the joins would compute of it."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.joins import stored
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.routed import home_cosines
from dedup_spark.kernels.joins.sketch import sketch_block
from dedup_spark.kernels.joins.sketches import FIRST_BITS, SketchFilter
from dedup_spark.kernels.vectors import nearest_cells, train_centroids


def block(n: int, d: int, seed: int) -> tuple[Block, np.ndarray]:
    """Rows of any length, and more cells than there are in the block."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, d)) * rng.uniform(0.3, 3, (n, 1))).astype(np.float32)
    centroids = train_centroids(x[: n // 2].copy(), 20, 1)
    cells = nearest_cells(x, centroids)
    some = np.flatnonzero(cells > 7)
    some = some[np.argsort(cells[some], kind="stable")]
    ids = rng.integers(-(2**63), 2**63 - 1, len(some))
    return Block(ids, x[some].astype(np.float16), cells[some]), centroids


@pytest.mark.parametrize("d", [24, 512, 1100])
def test_stored_rows_give_the_block_and_the_sketches_of_every_filter(d: int) -> None:
    made, centroids = block(300, d, d)
    rows = np.frombuffer(stored.rows_of(made, centroids, seed=9).tobytes(), stored.ROW)  # as of a file
    back = stored.block_of(rows, made.vectors)
    for name in ("ids", "cells", "inverse_norms"):
        assert np.array_equal(getattr(back, name), getattr(made, name))
    assert back.vectors is made.vectors
    assert np.array_equal(rows["home_cosine"], home_cosines(made, centroids))
    assert rows.itemsize == 148
    for first in FIRST_BITS:
        for rest in (0, 128, 512):
            used = SketchFilter(first, rest, 0, 0)
            given, expected = stored.sketches_of(rows, used), sketch_block(made, used, seed=9)
            assert (given.first.shape, given.rest.shape) == (expected.first.shape, expected.rest.shape)
            differ = (given.first != expected.first).sum() + (given.rest != expected.rest).sum()
            assert differ <= 2  # a product of 0 but for rounding
    assert (stored.sketches_of(rows, used).first != sketch_block(made, used, seed=8).first).mean() > 0.5


def test_the_norms_that_are_stored_are_those_that_unit_vectors_are_made_with() -> None:
    made, _ = block(300, 24, 1)
    halved = Block(made.ids, made.vectors, made.cells, made.inverse_norms / 2)
    assert np.array_equal(halved.unit_vectors(slice(None)), made.unit_vectors(slice(None)) / 2)
