"""Indexes by factory strings: each holds every id, in the cells given, and answers near what the exact cosines are."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.kernels import vectors
from dedup_spark.kernels.faiss_index import PROBES_IN_FILE, fill_index, over_all_cells, scores_of, train_index

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
    rows = np.flatnonzero(CELLS % 3 == 1)  # of 12 cells four
    index = faiss.deserialize_index(
        faiss.serialize_index(fill_index(trained, IDS[rows], X[rows], CELLS[rows], CENTROIDS))
    )
    assert index.ntotal == len(rows)
    if cells:
        assert (index.nlist, index.nprobe) == (4, 4)
        assert np.array_equal(index.quantizer.reconstruct_n(0, 4), CENTROIDS[1::3])
        assert [ids_of_list(index, i) for i in range(4)] == [set(IDS[cell == CELLS].tolist()) for cell in (1, 4, 7, 10)]
    limits, _, found = index.range_search(X[rows[:20]], -2)  # all
    assert sorted(found[: limits[1]].tolist()) == sorted(IDS[rows].tolist())


def ids_of_list(index: Any, number: int) -> set[int]:
    n = index.invlists.list_size(number)
    return set(faiss.rev_swig_ptr(index.invlists.get_ids(number), n).tolist()) if n else set()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("cells", ["", "IVF,"])
def test_an_index_over_all_cells_answers_with_few_probes_as_one_that_was_filled_so(codec: str, cells: str) -> None:
    """One probe visits the nearest of all cells, which most shards do not hold."""
    rows = np.flatnonzero(np.isin(CELLS, (2, 3, 11)))
    trained = train_index(cells + codec, CENTROIDS, X)
    narrow = fill_index(trained, IDS[rows], X[rows], CELLS[rows], CENTROIDS)
    wide = over_all_cells(narrow, np.array([2, 3, 11], np.int32), CENTROIDS)
    every: Any = faiss.deserialize_index(np.frombuffer(trained, np.uint8))
    if not cells:
        assert wide is narrow
        return
    every.add_with_ids(np.ascontiguousarray(X[rows]), IDS[rows])
    assert (wide.nlist, [ids_of_list(wide, i) for i in range(12)]) == (12, [ids_of_list(every, i) for i in range(12)])
    for n_probes in (1, 4, 12):
        wide.nprobe = every.nprobe = n_probes
        assert all(np.array_equal(*found) for found in zip(wide.search(X, 5), every.search(X, 5), strict=True))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("cells", ["", "IVF,"])
def test_the_score_that_is_measured_is_the_one_that_a_search_gives(codec: str, cells: str) -> None:
    """The difference to the cosine is what match lowers its threshold by."""
    index = fill_index(train_index(cells + codec, CENTROIDS, X), IDS, X, CELLS, CENTROIDS)
    scores, ids = index.search(X[:20], 30)
    query = np.repeat(np.arange(20), 30)
    assert scores_of(index, X[query], ids.ravel()) == pytest.approx(scores.ravel(), abs=2e-3)


def test_a_file_that_nobody_tells_otherwise_visits_more_than_one_cell() -> None:
    many = vectors.train_centroids(X, 200, seed=1)
    assert faiss.deserialize_index(np.frombuffer(train_index("IVF,Flat", many, X), np.uint8)).nprobe == PROBES_IN_FILE


def test_equal_rows_make_equal_files() -> None:
    made = [fill_index(train_index("IVF,PQ16", CENTROIDS, X), IDS, X, CELLS, CENTROIDS) for _ in range(2)]
    assert np.array_equal(*map(faiss.serialize_index, made))


def test_what_faiss_does_not_make_of_these_vectors_is_said_with_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"^index\.faiss_index=IVF,PQ7: .* 64 dimensions .*should be a multiple"):
        train_index("IVF,PQ7", CENTROIDS, X)
    with pytest.raises(ConfigError, match=r"index\.faiss_index=PQ8: .*from 100 images: .*at least as large as"):
        train_index("PQ8", CENTROIDS, X[:100])
