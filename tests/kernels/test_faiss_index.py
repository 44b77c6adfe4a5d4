"""Indexes by factory strings: each holds every id, in the cells given, and answers near what the exact cosines are."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.kernels import vectors
from dedup_spark.kernels.faiss_index import PROBES_IN_FILE, fill_index, scores_of, train_index

RNG = np.random.default_rng(4)
CENTRES = RNG.standard_normal((12, 64))
X = CENTRES[RNG.integers(0, 12, 1500)] + 0.6 * RNG.standard_normal((1500, 64))
X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
IDS = RNG.permutation(np.unique(RNG.integers(-(2**63), 2**63 - 1, 1500)))
CENTROIDS = vectors.train_centroids(X, 12, seed=1)
CELLS = vectors.nearest_cells(X, CENTROIDS)
CODECS = ["Flat", "SQ4", "SQ6", "SQ8", "SQfp16", "SQbf16", "PQ8", "PQ16x6", "PQ32"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("cells", ["", "IVF,"])
def test_an_index_holds_each_image_under_its_id_in_its_cell(codec: str, cells: str) -> None:
    trained = train_index(cells + codec, CENTROIDS, X)
    parts = [fill_index(trained, IDS[rows], X[rows], CELLS[rows]) for rows in (slice(0, 700), slice(700, 1500))]
    assert [part.ntotal for part in parts] == [700, 800]
    index = faiss.deserialize_index(faiss.serialize_index(parts[1]))
    if cells:
        assert index.nprobe == 12
        assert np.array_equal(vectors.shard_centroids(index), CENTROIDS)
        for cell in range(12):
            n = index.invlists.list_size(cell)
            held = faiss.rev_swig_ptr(index.invlists.get_ids(cell), n).tolist() if n else []
            assert set(held) == set(IDS[700:][CELLS[700:] == cell].tolist())
    limits, _, found = index.range_search(X[700:720], -2)  # all
    assert sorted(found[: limits[1]].tolist()) == sorted(IDS[700:].tolist())


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("cells", ["", "IVF,"])
def test_the_score_that_is_measured_is_the_one_that_a_search_gives(codec: str, cells: str) -> None:
    """The difference to the cosine is what match lowers its threshold by."""
    index = fill_index(train_index(cells + codec, CENTROIDS, X), IDS, X, CELLS)
    scores, ids = index.search(X[:20], 30)
    query = np.repeat(np.arange(20), 30)
    assert scores_of(index, X[query], ids.ravel()) == pytest.approx(scores.ravel(), abs=2e-3)


def test_a_file_that_nobody_tells_otherwise_visits_more_than_one_cell() -> None:
    many = vectors.train_centroids(X, 200, seed=1)
    assert faiss.deserialize_index(np.frombuffer(train_index("IVF,Flat", many, X), np.uint8)).nprobe == PROBES_IN_FILE


def test_equal_rows_make_equal_files() -> None:
    made = [fill_index(train_index("IVF,PQ16", CENTROIDS, X), IDS, X, CELLS) for _ in range(2)]
    assert np.array_equal(*map(faiss.serialize_index, made))


def test_what_faiss_does_not_make_of_these_vectors_is_said_with_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"^index\.faiss_index=IVF,PQ7: .* 64 dimensions .*should be a multiple"):
        train_index("IVF,PQ7", CENTROIDS, X)
    with pytest.raises(ConfigError, match=r"index\.faiss_index=PQ8: .*from 100 images: .*at least as large as"):
        train_index("PQ8", CENTROIDS, X[:100])
