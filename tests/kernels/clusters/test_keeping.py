"""Keepers within a bound: the promise on random distances, the choice among those eligible, and how groups split."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.clusters.keeping import assign_keepers, centre


def random_distances(n: int, rng: np.random.Generator) -> np.ndarray:
    points = rng.random((n, 2))
    return np.linalg.norm(points[:, None] - points[None], axis=2)


@pytest.mark.parametrize("seed", range(12))
def test_every_member_is_within_the_bound_of_its_keeper_and_keepers_keep_themselves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance, rank = random_distances(int(rng.integers(1, 60)), rng), rng.permutation(60)
    bound = rng.uniform(0.05, 1)
    keeper = assign_keepers(distance <= bound, rank[: len(distance)])
    assert (distance[np.arange(len(distance)), keeper] <= bound).all()
    assert np.array_equal(keeper[keeper], keeper)


@pytest.mark.parametrize("seed", range(12))
def test_one_keeper_serves_all_where_one_can_and_it_is_the_first_by_rank_of_those(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    distance, rank = random_distances(30, rng), rng.permutation(30)
    bound = float(np.sort(distance.max(axis=1))[5])  # six members are within it of all others
    eligible = np.flatnonzero((distance <= bound).all(axis=1))
    expected = eligible[np.argmin(rank[eligible])]
    assert set(assign_keepers(distance <= bound, rank).tolist()) == {int(expected)}


def test_a_chain_is_split_around_the_members_that_reach_most() -> None:
    position = np.arange(7)
    distance = np.abs(position[:, None] - position[None]).astype(float)
    assert assign_keepers(distance <= 1.0, np.arange(7)).tolist() == [1, 1, 1, 4, 4, 4, 6]


def test_the_better_rank_gathers_where_two_reach_as_many() -> None:
    distance = np.full((5, 5), 9.0)
    for a, b in ((0, 2), (1, 2), (3, 2), (3, 4), (3, 0)):
        distance[a, b] = distance[b, a] = 1.0
    np.fill_diagonal(distance, 0)
    first = assign_keepers(distance <= 1.0, np.array([0, 1, 2, 3, 4]))  # 2 and 3 reach four each, themselves included
    second = assign_keepers(distance <= 1.0, np.array([4, 3, 2, 1, 0]))
    assert first.tolist() == [2, 2, 2, 2, 4]
    assert second.tolist() == [3, 1, 3, 3, 3]


def test_members_near_nobody_keep_themselves() -> None:
    assert assign_keepers(np.eye(4, dtype=bool), np.arange(4)).tolist() == [0, 1, 2, 3]
    assert assign_keepers(np.zeros((0, 0), bool), np.arange(0)).tolist() == []


def test_the_order_of_the_rows_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    distance, rank = random_distances(40, rng), rng.permutation(40)
    keeper = assign_keepers(distance <= 0.2, rank)
    order = rng.permutation(40)
    shuffled = assign_keepers(distance[np.ix_(order, order)] <= 0.2, rank[order])
    assert np.array_equal(order[shuffled], keeper[order])


def test_the_centre_is_the_member_with_most_others_near_it_then_the_better_rank() -> None:
    position = np.arange(5)
    near = np.abs(position[:, None] - position[None]) <= 1
    assert centre(near, np.array([0, 4, 3, 2, 1])) == 3  # 1, 2 and 3 have two others each
    near[0, 2] = near[2, 0] = True
    assert centre(near, np.array([0, 4, 3, 2, 1])) == 2


def test_ranks_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rank: expected int64 of shape \(n\), n = 4; found int64 of shape \(3,\)"):
        assign_keepers(np.eye(4, dtype=bool), np.arange(3))
    with pytest.raises(ValueError, match=r"near: expected bool of shape \(n, n\), n = 4"):
        centre(np.ones((4, 3), bool), np.arange(4))
