"""What a run compared each image with, as its evidence says it, and who of these votes on one that is looked up."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dedup_spark.kernels.comparing.query_images import MAX_CANDIDATES, NEIGHBOURS, is_query
from dedup_spark.lookup import run_pairs
from dedup_spark.lookup.run_pairs import Beside, beside_columns, numbers

NOBODY: frozenset[int] = frozenset()


def lists(of: list[tuple[int, int, float, int | None]], n: int, keys: list[int] | None = None) -> dict[str, pa.Array]:
    """Of (row, row, cosine, inliers) of pairs; ids fall as rows rise."""
    a, b, cosine, inliers = (list(column) for column in zip(*of, strict=True))
    evidence = pa.table(
        {"similarity": pa.array(cosine, pa.float32(), from_pandas=True), "n_inliers": pa.array(inliers, pa.int32())}
    )
    ids = np.arange(n)[::-1].copy()
    return beside_columns(evidence, np.array(a), np.array(b), ids, np.array(keys or range(n)))


def test_a_pair_is_weighed_at_one_of_its_images_and_both_have_the_other_near() -> None:
    found = lists([(0, 1, 0.9, 30), (0, 2, 0.5, 0), (1, 2, 0.4, None), (0, 3, 0.2, 7)], 4)
    candidates = {row: numbers(found["candidates"], row)[0].tolist() for row in range(4)}
    asked = [(a, b) for a, others in candidates.items() for b in others]
    assert sorted(tuple(sorted(pair)) for pair in asked) == [(0, 1), (0, 2), (0, 3)]
    assert all(is_query(a, b) for a, b in asked)
    nearest = {row: numbers(found["nearest"], row)[0].tolist() for row in range(4)}
    assert nearest == {0: [1, 2], 1: [0, 2], 2: [0, 1], 3: []}
    assert np.allclose(numbers(found["nearest"], 2)[1], [0.5, 0.4])


def test_the_nearest_are_first_and_few_ties_go_to_the_smaller_id() -> None:
    found = lists([(0, row, 0.5 + 0.01 * (row // 2), 9) for row in range(1, 31)], 31, keys=[-1, *range(1, 61, 2)])
    rows, cosine = numbers(found["nearest"], 0)
    assert rows.tolist() == [30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19]
    assert len(rows) == NEIGHBOURS
    assert (np.diff(cosine) <= 0).all()


def test_an_image_without_pairs_has_empty_lists() -> None:
    found = lists([(0, 1, float("nan"), None)], 3)
    assert [len(numbers(found[name], row)[0]) for name in found for row in range(3)] == [0] * 6


def beside(candidates: int, nearest: int) -> Beside:
    """Rows from 100 whose cosines fall by 0.005."""
    (c, of_c), (m, of_m) = ((100 + np.arange(n), (0.9 - 0.005 * np.arange(n)).astype(np.float32))
                            for n in (candidates, nearest))  # fmt: skip
    return Beside(c, of_c, np.zeros(candidates, bool), m, of_m)


def test_candidates_vote_in_the_chunk_in_which_the_image_would_be() -> None:
    known = beside(90, 0)
    companions, _ = known.voting_on(NOBODY, 0.95)
    assert companions.tolist() == [*range(100, 100 + MAX_CANDIDATES - 1)]
    companions, _ = known.voting_on(NOBODY, 0.9 - 0.005 * 39.5)  # behind forty
    assert companions.tolist() == [*range(140, 140 + MAX_CANDIDATES - 1)]
    companions, _ = known.voting_on(NOBODY, 0.1)
    assert companions.tolist() == [*range(180, 190)]


def test_the_image_itself_does_not_vote_where_the_run_holds_it() -> None:
    known = beside(90, 12)
    companions, neighbours = known.voting_on(frozenset({103}), float(known.similarity[3]))
    assert companions.tolist() == [100, 101, 102, *range(104, 104 + MAX_CANDIDATES - 4)]
    assert neighbours.tolist() == []
    assert Beside(known.candidates[:0], known.similarity[:0], known.is_sure[:0], known.nearest,
                  known.nearest_similarity).voting_on(frozenset({103}), float(known.similarity[3]))[1].tolist() == [
        100, 101, 102, *range(104, 112)
    ]  # fmt: skip


def test_the_image_takes_the_place_of_the_last_of_the_nearest_where_it_is_nearer() -> None:
    known = beside(0, NEIGHBOURS)
    assert [len(known.voting_on(NOBODY, s)[1]) for s in (0.95, 0.5, 0.1)] == [NEIGHBOURS - 1, NEIGHBOURS, NEIGHBOURS]
    few = beside(0, 3)
    assert len(few.voting_on(NOBODY, 0.5)[1]) == 3


def test_pairs_that_are_sure_do_not_vote() -> None:
    known = beside(5, 5)
    sure = Beside(known.candidates, known.similarity, np.arange(5) == 1, known.nearest, known.nearest_similarity)
    companions, neighbours = sure.voting_on(NOBODY, 0.95)
    assert companions.tolist() == [100, 102, 103, 104]
    assert neighbours.tolist() == []


def test_what_is_read_of_evidence_is_what_match_proposed() -> None:
    assert str(run_pairs.FOR_MATCH) == '(compared_for == "match")'
