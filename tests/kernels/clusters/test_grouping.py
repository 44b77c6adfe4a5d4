"""Grouping: evidence for and against, paths where there is none, chains cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dedup_spark.kernels.clusters import grouping


def group(n: int, pairs: dict[tuple[int, int], float], method: str = "average", *, settled: bool = False) -> list[int]:
    a, b = (np.array([k[i] for k in pairs], np.int64) for i in (0, 1))
    return grouping.group_component(n, a, b, np.array(list(pairs.values())), 0.5, method, settled=settled).tolist()


@pytest.mark.parametrize("method", ["average", "complete"])
def test_certain_pairs_form_one_group_though_not_all_were_compared(method: str) -> None:
    assert group(4, {(0, 1): 0.99, (1, 2): 0.98, (0, 3): 0.99}, method) == [0, 0, 0, 0]


def test_wards_method_is_refused_as_probabilities_are_no_euclidean_distances() -> None:
    with pytest.raises(ValueError, match="Ward's method is not defined for probabilities"):
        group(3, {(0, 1): 0.9}, "ward")


def test_one_false_pair_between_two_groups_joins_nothing() -> None:
    pairs = {p: 0.99 for start in (0, 6) for p in itertools.combinations(range(start, start + 6), 2)}
    pairs |= {(i, j): 0.02 for i in range(6) for j in range(6, 12)}
    pairs[(0, 6)] = 0.97
    assert group(12, pairs) == [0] * 6 + [6] * 6


def test_different_pictures_that_were_compared_stay_apart_though_a_path_leads_between_them() -> None:
    pairs = {(0, 1): 0.99, (1, 2): 0.9, (2, 3): 0.99, (0, 2): 0.01, (0, 3): 0.01, (1, 3): 0.01}
    assert group(4, pairs) == [0, 0, 2, 2]


def test_leaders_undo_a_merge_by_one_false_pair() -> None:
    pairs = {p: 0.99 for start in (0, 6) for p in itertools.combinations(range(start, start + 6), 2)}
    pairs[(3, 9)] = 0.999
    assert group(12, pairs) == [0] * 12, "nothing is known against it"
    pairs |= {(leader, j): 0.02 for leader in (0, 1, 2) for j in range(6, 12)}
    assert group(12, pairs, settled=True) == [0] * 6 + [6] * 6


def test_leaders_keep_a_member_that_few_were_compared_with() -> None:
    pairs = dict.fromkeys(itertools.combinations(range(9), 2), 0.99)
    pairs |= {(0, 9): 0.98, (1, 9): 0.97, (2, 9): 0.2}
    assert group(10, pairs, settled=True) == [0] * 10


def test_likely_copies_stand_in_for_pairs_that_were_not_compared() -> None:
    a, b, p = np.array([0, 1, 3]), np.array([1, 2, 4]), np.array([0.9, 0.8, 0.9])
    filled = grouping.fill_from_likely_copies(5, a, b, p)
    assert np.array_equal(filled, filled.T)
    assert filled[0, 1] == pytest.approx((0.9 + (1 + 0.9 + 0.9 + 1 + 0.8) / 5) / 2)
    assert filled[0, 2] == pytest.approx((0.9 + 1 + 0.8) / 3)
    assert filled[0, 3] == 0, "nothing is known between the two groups"


def test_a_long_chain_is_cut() -> None:
    labels = group(40, {(i, i + 1): 0.97 for i in range(39)})
    assert max(labels.count(x) for x in set(labels)) < 20
    assert len(set(labels)) > 2


def test_compared_pairs_stand_and_others_are_the_best_path_with_its_cost() -> None:
    a, b, p = np.array([0, 1, 0]), np.array([1, 2, 3]), np.array([0.9, 0.8, 0.3])
    filled = grouping.fill_unknown(5, a, b, p)
    assert np.array_equal(filled, filled.T)
    assert filled[0, 1] == pytest.approx(0.9)
    assert filled[0, 3] == pytest.approx(0.3)
    assert filled[0, 2] == pytest.approx(0.9 * 0.8 * 0.9)
    assert filled[1, 3] == 0, "no path of pairs that are rather copies"
    assert filled[4].tolist() == [0, 0, 0, 0, 1]


def test_a_component_without_pairs_falls_apart() -> None:
    assert group(3, {(0, 1): 0.1}) == [0, 1, 2]


def test_a_pair_that_is_as_likely_a_copy_as_not_is_a_step_of_a_path() -> None:
    filled = grouping.fill_unknown(3, np.array([0, 1]), np.array([1, 2]), np.array([0.5, 0.9]))
    assert filled[0, 2] == pytest.approx(0.5 * 0.9 * 0.9)
