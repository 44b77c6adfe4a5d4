"""Scans against brute force: nothing that is near may be missed, by products or by sketches."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.sketch import sketch_block
from dedup_spark.kernels.joins.sketches import choose_filter
from dedup_spark.lookup.scanning import ExactScan, SketchScan, near_of_all


def planted(seed: int, n: int = 3000, d: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) float16 rows of length 1, and one query (d,) float32, of which every tenth row is a noisy copy."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    query = rng.standard_normal(d)
    noise = rng.uniform(0.2, 2.0, (n // 10 + 1, 1))[: len(x[::10])]
    x[::10] = query + noise * x[::10]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float16), (query / np.linalg.norm(query)).astype(np.float32)


def truth(rows: np.ndarray, query: np.ndarray, lowest: float) -> set[int]:
    x = rows.astype(np.float64)
    return set(np.flatnonzero(x @ query / np.linalg.norm(x, axis=1) >= lowest).tolist())


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("lowest", [0.15, 0.45, 0.7])
def test_products_miss_nothing_and_propose_hardly_more(seed: int, lowest: float) -> None:
    rows, query = planted(seed)
    for found in (ExactScan(rows).near(query, lowest), near_of_all(query, rows, lowest)):
        assert truth(rows, query, lowest) <= set(found.tolist()) <= truth(rows, query, lowest - 0.01)


@pytest.mark.parametrize("lowest", [0.45, 0.7])
def test_sketches_miss_less_than_they_are_allowed_to(lowest: float) -> None:
    n_missed = n_true = 0
    for seed in range(8):
        rows, query = planted(seed)
        chosen = choose_filter([(lowest, 0.999)])
        block = Block(np.arange(len(rows)), rows, np.zeros(len(rows), np.int32))
        made = sketch_block(block, chosen, 5)
        found = set(SketchScan(made.first, made.rest, chosen, 5).near(query, lowest).tolist())
        n_true, n_missed = n_true + len(truth(rows, query, lowest)), n_missed + len(truth(rows, query, lowest) - found)
    assert n_true > 300
    assert n_missed <= 1


def test_a_query_that_is_near_everything_gives_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup_spark.lookup.scanning._MOST_FOUND", 50)
    rows, query = planted(3)
    found = ExactScan(rows).near(query, -1.0)
    cosines = rows.astype(np.float32) @ query
    assert set(found.tolist()) == set(np.argsort(-cosines)[:50].tolist())
