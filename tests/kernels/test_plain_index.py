"""The index that users take away, searched by plain FAISS, against brute force."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from dedup_spark.kernels.plain_index import PlainIndex, n_probes
from dedup_spark.kernels.vectors import nearest_cells, train_centroids


@pytest.mark.parametrize("d", [8, 96, 2048])
def test_a_file_that_faiss_opens_finds_what_brute_force_finds(d: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(d)
    x = rng.standard_normal((300, d)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ids = rng.integers(-(1 << 63), (1 << 63) - 1, 300)
    centroids = train_centroids(x, 5, seed=1)
    made = PlainIndex(centroids)
    for rows in (slice(0, 100), slice(100, 300)):  # it grows by blocks
        made.add(ids[rows], x[rows].astype(np.float16), nearest_cells(x[rows], centroids))
    faiss.write_index(made.index, str(tmp_path / "a.faiss"))
    opened = faiss.read_index(str(tmp_path / "a.faiss"))
    cosines, found = opened.search(x[:20], 3)
    stored = x.astype(np.float16).astype(np.float32)
    exact = x[:20] @ stored.T
    best = np.argsort(-exact, axis=1)[:, :3]
    assert (opened.ntotal, opened.d, opened.metric_type) == (300, d, faiss.METRIC_INNER_PRODUCT)
    assert np.array_equal(found, ids[best])
    assert cosines == pytest.approx(np.take_along_axis(exact, best, axis=1), abs=1e-5)


def test_a_search_visits_all_cells_where_they_are_few() -> None:
    assert [n_probes(n) for n in (1, 128, 16_384)] == [1, 128, 128]
    assert PlainIndex(np.eye(8, dtype=np.float32)).index.nprobe == 8
