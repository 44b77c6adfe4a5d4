"""Leaders of groups: of one picture, of several that a collage chains, and of outliers."""

from __future__ import annotations

import itertools

import numpy as np

from dedup_spark.kernels.clusters.leaders import find_leaders


def leaders(n: int, *cliques: range, pairs: tuple[tuple[int, int], ...] = ()) -> list[int]:
    """Of a group in which all members of a clique are likely copies of each other, and the further pairs."""
    all_pairs = [p for clique in cliques for p in itertools.combinations(clique, 2)] + list(pairs)
    a, b = np.array(all_pairs, np.int64).reshape(-1, 2).T
    return find_leaders(np.ascontiguousarray(a), np.ascontiguousarray(b), n).tolist()


def test_one_picture_has_three_leaders_those_with_the_most_copies() -> None:
    assert leaders(6, range(5), pairs=((4, 5),)) == [0, 1, 4]


def test_each_picture_of_a_group_gets_a_leader() -> None:
    found = leaders(30, range(10), range(10, 20), range(20, 30), pairs=((0, 10), (10, 20)))
    assert len(found) == 3
    assert [i // 10 for i in found] == [0, 1, 2]


def test_more_than_three_pictures_get_more_leaders_up_to_eight() -> None:
    cliques = [range(10 * k, 10 * k + 10) for k in range(10)]
    assert len(leaders(60, *cliques[:6])) == 6
    assert len(leaders(100, *cliques)) == 8


def test_outliers_take_no_leader_from_the_picture() -> None:
    assert leaders(20, range(16), pairs=((16, 17), (18, 19))) == [0, 1, 2]


def test_a_group_without_likely_copies_has_none() -> None:
    assert leaders(3) == []
