"""The tree against SciPy's own reading of it; Newick read back by a small parser."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, dendrogram
from scipy.spatial.distance import squareform

from dedup_spark.kernels.clusters.linkage import elbows, merge_tree, newick


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


@pytest.mark.parametrize("n", [2, 3, 25])
def test_elbows_are_those_that_scipy_would_draw(n: int) -> None:
    tree = merge_tree(random_similarity(n, 2), "average")
    order, drawn = elbows(tree)
    expected = dendrogram(tree, no_plot=True, get_leaves=True)
    assert order == expected["leaves"]
    theirs = sorted(
        ((y[0] - 5) / 10, x[0], (y[3] - 5) / 10, x[3], x[1])
        for y, x in zip(expected["icoord"], expected["dcoord"], strict=True)
    )
    assert np.array(sorted(drawn)) == pytest.approx(np.array(theirs))


def test_the_height_of_a_merge_is_the_mean_distance_between_the_two_groups() -> None:
    similarity = np.array([[1, 0.9, 0.4], [0.9, 1, 0.2], [0.4, 0.2, 1]])
    tree = merge_tree(similarity, "average")
    assert squareform(cophenet(tree)) == pytest.approx(np.array([[0, 0.1, 0.7], [0.1, 0, 0.7], [0.7, 0.7, 0]]))
