from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

from dedup_spark.kernels import vectors


def clustered(n: int, seed: int, d: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // 5), d))
    x = centres[rng.integers(0, len(centres), n)] + 0.4 * rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_a_shard_holds_its_vectors_bit_for_bit_by_the_cells_that_it_has_and_their_centroids(n: int) -> None:
    x, ids = clustered(max(n, 1), 1)[:n], np.arange(n, dtype=np.int64) * 3 - 7
    centroids = vectors.train_centroids(clustered(64, 2).astype(np.float32), 9, 1)
    cells = vectors.nearest_cells(x.astype(np.float32), centroids)
    index: Any = faiss.deserialize_index(faiss.serialize_index(vectors.build_shard(ids, x, cells, centroids)))
    held = np.unique(cells)
    assert (index.ntotal, index.nlist) == (n, len(held))
    assert np.array_equal(index.quantizer.reconstruct_n(0, len(held)), centroids[held])
    for i, cell in enumerate(held.tolist()):
        size = index.invlists.list_size(i)
        assert np.array_equal(faiss.rev_swig_ptr(index.invlists.get_ids(i), size), ids[cells == cell])
        codes = faiss.rev_swig_ptr(index.invlists.get_codes(i), size * index.code_size)
        assert np.array_equal(codes.view(np.float16).reshape(size, -1), x[cells == cell])


def test_a_shard_answers_a_faiss_search() -> None:
    x, ids = clustered(200, 3), np.arange(200, dtype=np.int64) + 1000
    centroids = vectors.train_centroids(x.astype(np.float32), 8, 1)
    index = vectors.build_shard(ids, x, vectors.nearest_cells(x.astype(np.float32), centroids), centroids)
    index.nprobe = 8
    similarity, found = index.search(x.astype(np.float32), 1)
    assert np.array_equal(found[:, 0], ids)
    assert similarity == pytest.approx(1, abs=2e-3)


def test_half_precision_numbers_become_floats_unchanged() -> None:
    x = np.concatenate([clustered(50, 4), np.array([[0, -0.0, 1, -1, 6e-8, 65504, 2**-14, 0.1] * 8], np.float16)])
    assert np.array_equal(vectors.to_float32(x), x.astype(np.float32))
    assert np.array_equal(vectors.to_float32(x[::3]), x[::3].astype(np.float32))  # not contiguous
    assert vectors.to_float32(x[:0]).shape == (0, 64)


def test_cosines_do_not_depend_on_the_rows_beside() -> None:
    x, y = clustered(500, 6, 512), clustered(500, 7, 512)
    whole = vectors.cosines(x, y)
    assert np.array_equal(whole, np.concatenate([vectors.cosines(x[i : i + 1], y[i : i + 1]) for i in range(500)]))
    assert np.array_equal(whole, vectors.cosines(y, x))
    assert vectors.cosines(x, x) == pytest.approx(1)


def test_the_nearest_cell_is_that_of_brute_force() -> None:
    x = clustered(300, 8).astype(np.float32)
    centroids = vectors.train_centroids(x, 12, 1)
    assert centroids.shape == (12, 64)
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(1, abs=1e-4)
    expected = [int(np.argmax([float(v @ c) for c in centroids])) for v in x]
    assert vectors.nearest_cells(x, centroids).tolist() == expected


def test_embeddings_come_back_as_they_were_stored() -> None:
    x = clustered(3, 9, 8)
    assert np.array_equal(vectors.from_bytes([row.tobytes() for row in x]), x)
    assert vectors.from_bytes([]).shape == (0, 0)


def test_many_cells_are_searched_by_two_levels_and_nearly_always_rightly() -> None:
    rng = np.random.default_rng(10)
    x = rng.standard_normal((3000, 32)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    centroids, queries = x[:1500], clustered(500, 11, 32).astype(np.float32)
    found = vectors.Quantiser(centroids).nearest(queries)
    nearest = vectors.nearest_cells(queries, centroids)
    assert (found == nearest).mean() > 0.8  # of cells at random, which is the worst case
    similarity = queries @ centroids.T
    rows = np.arange(len(queries))
    assert (similarity[rows, nearest] - similarity[rows, found]).mean() < 0.02
    assert np.array_equal(vectors.Quantiser(centroids).nearest(queries[::-1])[::-1], found)
    assert np.array_equal(
        vectors.Quantiser(centroids[:100]).nearest(queries), vectors.nearest_cells(queries, centroids[:100])
    )


def test_one_cell_has_the_mean_direction_as_its_centroid() -> None:
    x = clustered(50, 12, 32).astype(np.float32)
    mean = x.mean(axis=0)
    assert vectors.train_centroids(x, 1, 1) == pytest.approx(mean[None] / np.linalg.norm(mean), abs=1e-6)
    assert vectors.train_centroids(np.zeros((3, 8), np.float32), 1, 1).tolist() == [[0.0] * 8]


def test_two_levels_are_used_beyond_1024_cells_only() -> None:
    x = np.random.default_rng(1).standard_normal((1025, 32)).astype(np.float32)
    assert vectors.Quantiser(x[:1024])._index is None
    assert vectors.Quantiser(x)._index is not None
