"""The joins of ours at dimensions that models of ours do not have: vectors of users have any."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels import vectors
from dedup_spark.kernels.joins import exact, sketches
from dedup_spark.kernels.joins.base import Block, score_candidates
from dedup_spark.kernels.joins.routed import Routed, home_cosines, routed_join
from dedup_spark.kernels.joins.sketch import sketch_block, sketch_join

T = 0.8


def planted(d: int) -> tuple[Block, np.ndarray]:
    """300 unit vectors in pairs at cosines around the threshold, and the centroids of four cells."""
    rng = np.random.default_rng(d)
    a = rng.standard_normal((150, d))
    x = np.concatenate([a, a + rng.uniform(0.1, 1, (150, 1)) * rng.standard_normal((150, d))])
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    centroids = vectors.train_centroids(x, 4, seed=1)
    cells = vectors.nearest_cells(x, centroids)
    order = np.argsort(cells, kind="stable")
    return Block(rng.permutation(300)[order], x[order].astype(np.float16), cells[order]), centroids


@pytest.mark.parametrize("d", [8, 96, 1100])
def test_every_join_finds_the_pairs_of_brute_force_at_any_dimension(d: int) -> None:
    block, centroids = planted(d)
    i, j = np.triu_indices(len(block), 1)
    near = vectors.cosines(block.vectors[i], block.vectors[j]) >= T
    true = set(zip(i[near].tolist(), j[near].tolist(), strict=True))
    assert len(true) > 50
    used = sketches.choose_filter([(T, 0.999)])
    sketched = sketch_block(block, used, 5)
    routed = Routed(block, sketched, home_cosines(block, centroids))
    proposed = {
        "exact": exact.exact_join(block, None, T),
        "sketch": sketch_join(sketched, None, used),
        "routed": routed_join(routed, None, centroids, 3.0, used),
    }
    for name, candidates in proposed.items():
        scored = list(score_candidates(block, None, candidates, T, 0, T))
        found = {pair for f in scored for pair in zip(f.i.tolist(), f.j.tolist(), strict=True)}
        assert found <= true
        assert len(found) >= (1 if name == "exact" else 0.99) * len(true), name


def test_a_rotation_of_long_vectors_makes_only_the_columns_that_are_used() -> None:
    r = sketches.rotation(1280, 256, 3)
    q, upper = np.linalg.qr(np.random.default_rng(3).standard_normal((1280, 1280))[:, :256])
    assert np.allclose(r, q * np.sign(np.diag(upper)), atol=1e-6)
    assert sketches._rotations(1280, 1, 1024, 3).shape == (1280, 1024)
