"""Keepers within a bound: the promise on random distances, who is kept, what supports the others, how groups split."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.clusters.keeping import Kept, assign_keepers, centre


def random_distances(n: int, rng: np.random.Generator) -> np.ndarray:
    points = rng.random((n, 2))
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def assign(distance: np.ndarray, bound: float, rank: np.ndarray, alike: np.ndarray | None = None) -> Kept:
    """The keepers where all distances were measured."""
    near = np.where(distance <= bound, distance, np.inf).astype(np.float32)
    return assign_keepers(near, np.eye(len(rank), dtype=bool) if alike is None else alike, rank)


@pytest.mark.parametrize("seed", range(12))
def test_every_member_is_near_its_keeper_or_near_a_member_that_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance, rank = random_distances(int(rng.integers(1, 60)), rng), rng.permutation(60)
    bound = rng.uniform(0.05, 1)
    kept = assign(distance, bound, rank[: len(distance)])
    rows = np.arange(len(distance))
    assert (distance[rows, kept.near] <= bound).all()
    assert (distance[kept.near, kept.keeper] <= bound).all()
    assert np.array_equal(kept.keeper[kept.near], kept.keeper)  # what supports a member is in its group
    is_direct = distance[rows, kept.keeper] <= bound
    assert np.array_equal(kept.near[is_direct], kept.keeper[is_direct])


@pytest.mark.parametrize("seed", range(12))
def test_the_keeper_is_the_first_of_its_group_by_rank_and_the_first_of_all_is_one(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    distance, rank = random_distances(40, rng), rng.permutation(40)
    kept = assign(distance, rng.uniform(0.05, 0.5), rank)
    assert (rank[kept.keeper] <= rank).all()
    assert np.array_equal(kept.keeper[kept.keeper], kept.keeper)
    assert kept.keeper[np.argmin(rank)] == np.argmin(rank)


def test_a_group_is_not_split_because_its_first_is_not_near_all() -> None:
    """0 is a bordered original: its grey and sepia copies, 3 and 4, are near the plain copies 1 and 2 alone."""
    distance = np.ones((5, 5))
    for a, b in ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)):
        distance[a, b] = distance[b, a] = 0.1 + a / 100
    np.fill_diagonal(distance, 0)
    kept = assign(distance, 0.5, np.arange(5))
    assert kept.keeper.tolist() == [0] * 5
    assert kept.near.tolist() == [0, 0, 0, 1, 2]  # 3 is nearer to 1 than to 2


def test_what_supports_others_is_no_mere_re_encoding_of_the_keeper_where_another_will_do() -> None:
    distance = np.array([[0, 1, 1, 9, 9], [1, 0, 1, 1, 1], [1, 1, 0, 2, 9], [9, 1, 2, 0, 9], [9, 1, 9, 9, 0]], float)
    alike = np.eye(5, dtype=bool)
    alike[0, 1] = alike[1, 0] = True
    assert assign(distance, 2.0, np.arange(5)).near.tolist() == [0, 0, 0, 1, 1]
    assert assign(distance, 2.0, np.arange(5), alike).near.tolist() == [0, 0, 0, 2, 1]  # for 4 there is no other


def test_a_chain_reaches_two_steps_from_its_keeper_and_no_further() -> None:
    position = np.arange(7)
    distance = np.abs(position[:, None] - position[None]).astype(float)
    first = assign(distance, 1.0, np.arange(7))
    assert first.keeper.tolist() == [0, 0, 0, 3, 3, 3, 6]
    assert first.near.tolist() == [0, 0, 1, 3, 3, 4, 6]
    assert assign(distance, 1.0, np.array([6, 5, 4, 0, 3, 2, 1])).keeper.tolist() == [0, 3, 3, 3, 3, 3, 6]


def test_members_near_nobody_keep_themselves() -> None:
    alone = assign(np.where(np.eye(4), 0, 9.0), 1.0, np.arange(4))
    assert (alone.keeper.tolist(), alone.near.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3])
    nobody = assign_keepers(np.zeros((0, 0), np.float32), np.zeros((0, 0), bool), np.arange(0))
    assert (nobody.keeper.tolist(), nobody.near.tolist()) == ([], [])


def test_the_order_of_the_rows_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    distance, rank = random_distances(40, rng), rng.permutation(40)
    kept = assign(distance, 0.2, rank)
    order = rng.permutation(40)
    shuffled = assign(distance[np.ix_(order, order)], 0.2, rank[order])
    assert np.array_equal(order[shuffled.keeper], kept.keeper[order])
    assert np.array_equal(order[shuffled.near], kept.near[order])


def test_the_centre_is_the_member_with_most_others_near_it_then_the_better_rank() -> None:
    position = np.arange(5)
    near = np.abs(position[:, None] - position[None]) <= 1
    assert centre(near, np.array([0, 4, 3, 2, 1])) == 3  # 1, 2 and 3 have two others each
    near[0, 2] = near[2, 0] = True
    assert centre(near, np.array([0, 4, 3, 2, 1])) == 2


def test_ranks_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rank: expected int64 of shape \(n\), n = 4; found int64 of shape \(3,\)"):
        assign_keepers(np.zeros((4, 4), np.float32), np.eye(4, dtype=bool), np.arange(3))
    with pytest.raises(ValueError, match=r"near: expected bool of shape \(n, n\), n = 4"):
        centre(np.ones((4, 3), bool), np.arange(4))
