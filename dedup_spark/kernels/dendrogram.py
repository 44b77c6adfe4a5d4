"""The tree of merges behind a cluster: which members were joined first, and how far apart they were."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

Floats = npt.NDArray[np.float64]

Elbow = tuple[float, float, float, float, float]


def merge_tree(similarity: Floats, method: str) -> Floats:
    """(n, n) similarities, n >= 2, to the (n - 1, 4) merges of scipy.cluster.hierarchy.linkage on 1 - similarity.

    A row is (left, right, distance, leaves): numbers below n are leaves, n + i is the merge of row i.
    """
    distance = np.clip(1.0 - similarity, 0.0, None)
    np.fill_diagonal(distance, 0.0)
    return np.asarray(linkage(squareform(distance, checks=False), method, optimal_ordering=len(similarity) <= 500))


def newick(tree: Floats, names: list[str]) -> str:
    """The tree in Newick format, branch lengths in units of distance; quotes in names are doubled, as it asks."""
    n = len(names)
    heights = [0.0] * n + tree[:, 2].tolist()
    texts = ["'" + name.replace("'", "''") + "'" for name in names]
    for left, right, height, _ in tree.tolist():
        ends = (int(left), int(right))
        texts.append("(" + ",".join(f"{texts[i]}:{max(height - heights[i], 0.0):.6g}" for i in ends) + ")")
        for i in ends:
            texts[i] = ""
    return texts[-1] + ";"


def elbows(tree: Floats) -> tuple[list[int], list[Elbow]]:
    """What to draw: the leaves from top to bottom, and for each merge (y_left, x_left, y_right, x_right, x).

    Leaf k of the order is at y = k, x = 0; x is the distance.
    """
    n = len(tree) + 1
    order = leaves_list(tree).tolist()
    at: list[tuple[float, float]] = [(0.0, 0.0)] * n
    for y, leaf in enumerate(order):
        at[leaf] = (float(y), 0.0)
    drawn = []
    for left, right, height, _ in tree.tolist():
        (y_left, x_left), (y_right, x_right) = at[int(left)], at[int(right)]
        drawn.append((y_left, x_left, y_right, x_right, height))
        at.append(((y_left + y_right) / 2, height))
    return order, drawn
