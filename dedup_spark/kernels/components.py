"""Connected components in memory, for graphs whose edges fit on one machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ids = npt.NDArray[np.int64]


def label_components(a: Ids, b: Ids) -> tuple[Ids, Ids]:
    """Label every node of the edges a (m,), b (m,) with the smallest id of its component.

    Returns:
        nodes (n,) int64, ascending, and component (n,) int64.
    Cost: O(m log m) time; about 90 bytes an edge at the peak where nodes have two edges each (measured at 5 M edges).
    """
    nodes, position = np.unique(np.concatenate([a, b]), return_inverse=True)
    if not len(nodes):
        return nodes, nodes
    m = len(a)
    graph = coo_array((np.ones(m, np.int8), (position[:m], position[m:])), shape=(len(nodes), len(nodes)))
    n_components, label = connected_components(graph, directed=False)
    smallest = np.full(n_components, np.iinfo(np.int64).max)
    np.minimum.at(smallest, label, nodes)
    return nodes, smallest[label]
