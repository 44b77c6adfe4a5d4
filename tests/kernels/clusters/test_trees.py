"""Trees made finer, branches of trees, and what is together where, on random trees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, is_valid_linkage
from scipy.spatial.distance import squareform

from dedup_spark.kernels.clusters.linkage import cut_tree, merge_tree
from dedup_spark.kernels.clusters.trees import branch_around, joined_at, refine


def random_tree(n: int, seed: int, method: str = "average") -> np.ndarray:
    x = np.random.default_rng(seed).uniform(0, 1, (n, 3))
    return merge_tree(1 - np.linalg.norm(x[:, None] - x, axis=2) / 2, method)


def refined(n: int, seed: int, cut: float) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray], np.ndarray]:
    """A coarse tree, its labels at a cut, other trees inside its groups, and the one made of both."""
    coarse = random_tree(n, seed)
    label = cut_tree(coarse, cut)
    sizes = {int(group): int((label == group).sum()) for group in np.unique(label)}
    fine = {group: random_tree(size, seed + group + 1) for group, size in sizes.items() if size > 1}
    return coarse, label, fine, refine(coarse, label, fine)


@pytest.mark.parametrize("seed", range(6))
def test_the_cut_of_a_refined_tree_is_that_of_the_finer_trees(seed: int) -> None:
    _, label, fine, tree = refined(40, seed, 0.2)
    assert is_valid_linkage(tree)
    assert 1 < len(fine) < 40
    expected = np.arange(40)
    for group, finer in fine.items():
        members = np.flatnonzero(label == group)
        expected[members] = members[cut_tree(finer, 0.2)]
    assert len(set(expected.tolist())) > len(set(label.tolist())), "a finer tree splits a group"
    assert cut_tree(tree, 0.2).tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_no_merge_of_a_refined_tree_is_below_those_that_it_is_made_of_and_groups_merge_as_before(seed: int) -> None:
    coarse, label, fine, tree = refined(40, seed, 0.2)
    assert (np.diff(tree[:, 2]) >= 0).all()
    together, before = (squareform(cophenet(t)) for t in (tree, coarse))
    highest = {group: finer[-1, 2] for group, finer in fine.items()}
    for i, j in itertools.combinations(range(40), 2):
        if label[i] == label[j]:
            members = np.flatnonzero(label == label[i])
            of_fine = squareform(cophenet(fine[int(label[i])]))
            assert together[i, j] == of_fine[np.searchsorted(members, i), np.searchsorted(members, j)]
        else:
            assert together[i, j] >= before[i, j]
            assert together[i, j] in {*coarse[:, 2], *highest.values()}


def test_a_tree_without_finer_groups_stays_as_it_is() -> None:
    coarse = random_tree(15, 3)
    again = refine(coarse, np.arange(15), {})
    assert squareform(cophenet(again)) == pytest.approx(squareform(cophenet(coarse)))


def test_one_group_takes_the_finer_tree_as_a_whole() -> None:
    fine = random_tree(9, 5)
    assert refine(random_tree(9, 4), np.zeros(9, np.int64), {0: fine}) == pytest.approx(fine)


@pytest.mark.parametrize("max_leaves", [1, 2, 7, 20, 39, 40, 90])
@pytest.mark.parametrize("leaf", [0, 17, 39])
def test_a_branch_has_the_heights_of_the_tree_and_the_next_one_is_too_large(leaf: int, max_leaves: int) -> None:
    tree = random_tree(40, 6)
    branch = branch_around(tree, leaf, max_leaves)
    assert leaf in branch.leaves
    assert len(branch.leaves) == len(branch.tree) + 1 <= max_leaves
    whole = squareform(cophenet(tree))
    if len(branch.tree):
        assert is_valid_linkage(branch.tree)
        assert squareform(cophenet(branch.tree)) == pytest.approx(whole[np.ix_(branch.leaves, branch.leaves)])
    if branch.joins_at is None:
        assert len(branch.leaves) == 40
    else:
        outside = np.setdiff1d(np.arange(40), branch.leaves)
        assert whole[leaf, outside].min() == branch.joins_at
        assert (whole[leaf] <= branch.joins_at).sum() > max_leaves


def test_pairs_are_together_from_the_height_at_which_their_branches_merge() -> None:
    tree = random_tree(30, 7)
    a, b = np.triu_indices(30, 1)
    chosen = np.random.default_rng(1).permutation(len(a))[:50]
    assert joined_at(tree, a[chosen], b[chosen]) == pytest.approx(squareform(cophenet(tree))[a, b][chosen])
    assert len(joined_at(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, np.int64))) == 0
