"""Cuts of small components with known answers; trees against SciPy's own reading; Newick read by a small parser."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from dedup_spark.kernels.clusters import linkage
from dedup_spark.kernels.clusters.linkage import merge_tree, newick


def blocks(*sizes: int, inside: float, outside: float) -> np.ndarray:
    group = np.repeat(np.arange(len(sizes)), sizes)
    s = np.where(group[:, None] == group, inside, outside).astype(float)
    np.fill_diagonal(s, 1)
    return s


@pytest.mark.parametrize("method", ["average", "complete"])
def test_two_groups_joined_by_one_bridge_are_cut_apart(method: str) -> None:
    s = blocks(4, 5, inside=0.9, outside=0.1)
    s[3, 4] = s[4, 3] = 0.8  # a screenshot that shows both
    assert linkage.cut_component(s, 0.45, method).tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("n", [2, 25])
def test_wards_tree_is_that_of_the_unit_vectors_themselves(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    tree = merge_tree(np.clip(x @ x.T, -1, 1), "ward")
    assert tree == pytest.approx(scipy_linkage(x, "ward"), abs=1e-6)


def test_wards_tree_of_hashes_is_that_of_their_bits_up_to_a_factor() -> None:
    bits = np.random.default_rng(8).integers(0, 2, (12, 64)).astype(np.uint8)
    hashes = np.packbits(bits, axis=1).view(">i8").ravel().astype(np.int64)
    tree = merge_tree(linkage.agreement_matrix(hashes), "ward")
    assert tree[:, 2] * 32**0.5 == pytest.approx(scipy_linkage(bits.astype(float), "ward")[:, 2])


def test_ward_joins_two_images_at_the_cut_and_a_large_group_later() -> None:
    assert linkage.cut_component(blocks(2, inside=0.7, outside=0), 0.7, "ward").tolist() == [0, 0]
    s = blocks(6, 6, inside=0.99, outside=0.75)
    assert linkage.cut_component(s, 0.7, "average").tolist() == [0] * 12
    assert linkage.cut_component(s, 0.7, "ward").tolist() == [0] * 6 + [6] * 6


def test_a_component_is_cut_where_its_tree_is() -> None:
    s = random_similarity(40, 3)
    for method in ("average", "complete", "ward"):
        tree = merge_tree(s, method)
        labels = linkage.cut_tree(tree, linkage.height_of(0.6, method))
        assert labels.tolist() == linkage.cut_component(s, 0.6, method).tolist()
        assert 1 < len(set(labels.tolist())) < 40


def test_a_chain_is_not_one_cluster() -> None:
    n = 12
    s = np.maximum(0, 1 - 0.3 * np.abs(np.arange(n)[:, None] - np.arange(n)))
    labels = linkage.cut_component(s, 0.5, "average")
    assert len(set(labels.tolist())) >= 4


def test_similarity_exactly_at_the_cut_counts() -> None:
    for value in (0.45, 0.1 + 0.2, 0.7):
        assert linkage.cut_component(np.array([[1, value], [value, 1]]), value, "average").tolist() == [0, 0]


def test_a_label_is_the_first_row_of_its_cluster_whatever_the_order() -> None:
    s = blocks(3, 3, inside=0.9, outside=0.0)
    order = [5, 0, 3, 1, 4, 2]
    assert linkage.cut_component(s[np.ix_(order, order)], 0.5, "average").tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_members_are_themselves(n: int) -> None:
    assert linkage.cut_component(np.ones((n, n)), 0.5, "average").tolist() == list(range(n))


def test_cosines_and_agreements_are_symmetric_with_ones_on_the_diagonal() -> None:
    rng = np.random.default_rng(5)
    c = linkage.cosine_matrix(rng.standard_normal((20, 512)).astype(np.float16))
    a = linkage.agreement_matrix(rng.integers(-(2**63), 2**63 - 1, 20))
    for m in (c, a):
        assert np.array_equal(m, m.T)
        assert np.diag(m) == pytest.approx(1)
    assert linkage.agreement_matrix(np.array([0, -1, 1]))[0].tolist() == [1, 0, 63 / 64]


def random_similarity(n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def depths(text: str) -> dict[str, float]:
    """Name to the sum of branch lengths from the root."""
    found: dict[str, float] = {}
    open_names: list[list[str]] = [[]]
    for quoted, closing, length, opening in re.findall(r"('(?:[^']|'')*')|(\))|:([\d.e-]+)|(\()", text):
        if opening:
            open_names.append([])
        elif quoted:
            last = [quoted[1:-1].replace("''", "'")]
            open_names[-1] += last
            found[last[0]] = 0.0
        elif closing:
            last = open_names.pop()
            open_names[-1] += last
        else:
            for name in last:
                found[name] += float(length)
    return found


@pytest.mark.parametrize("method", ["average", "complete", "ward"])
def test_every_leaf_of_the_newick_text_is_as_deep_as_the_tree_is_high(method: str) -> None:
    tree = merge_tree(random_similarity(30, 1), method)
    names = [f"it's a (name), {i}; no. {i}:1" for i in range(30)]
    found = depths(newick(tree, names))
    assert sorted(found) == sorted(names)
    assert list(found.values()) == pytest.approx([tree[-1, 2]] * 30, rel=1e-4)


def test_a_chain_of_two_thousand_is_written_without_recursion() -> None:
    position = np.cumsum(np.arange(2000.0))
    tree = merge_tree(1 - np.abs(position[:, None] - position) / position[-1], "complete")
    assert len(depths(newick(tree, [str(i) for i in range(2000)]))) == 2000


def test_the_height_of_a_merge_is_the_mean_distance_between_the_two_groups() -> None:
    similarity = np.array([[1, 0.9, 0.4], [0.9, 1, 0.2], [0.4, 0.2, 1]])
    tree = merge_tree(similarity, "average")
    assert squareform(cophenet(tree)) == pytest.approx(np.array([[0, 0.1, 0.7], [0.1, 0, 0.7], [0.7, 0.7, 0]]))
