"""From the probability that two images are copies to groups, inside one component.

Not every two members were compared. Where a pair was, that evidence stands, for or against; where it was not, the
best path between the two stands in, less something for every further step, so that a chain cannot reach far. Then
hierarchical clustering cuts the component: two groups merge while, on average, their members are more likely copies
than not. So one false pair between two groups of ten joins nothing, and strangers who were compared and found
different (a shared frame) stay apart although a path leads from one to the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from dedup_spark.kernels import linkage

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_STEP_FACTOR = 0.9
"""What each step of a path beyond the first costs: seven steps of certain pairs fall below one half."""
_SMALLEST = 1e-6


def group_component(n: int, a: Ints, b: Ints, probability: Floats, min_probability: float, method: str) -> Ints:
    """Cut one component.

    Args:
        n: members, numbered from 0.
        a, b, probability: (m,) the pairs that were weighed, each once, and how likely they are copies.
        min_probability: two groups merge while their linkage probability is at least this.
        method: `average`, `complete` or `ward`.

    Returns:
        (n,) for each member the smallest number in its group. Memory 5 x 8 n^2 bytes; time O(n m log n).
    """
    return linkage.cut_component(fill_unknown(n, a, b, probability), min_probability, method)


def fill_unknown(n: int, a: Ints, b: Ints, probability: Floats) -> Floats:
    """(n, n) symmetric: what was weighed where it was, else the best path of pairs that are rather copies than not."""
    walked = probability >= 0.5
    steps = -np.log(np.clip(probability[walked] * _STEP_FACTOR, _SMALLEST, 1.0))
    graph = coo_array((steps, (a[walked], b[walked])), shape=(n, n)).tocsr()
    filled = np.exp(-shortest_path(graph, method="D", directed=False)) / _STEP_FACTOR
    filled[a, b] = filled[b, a] = probability
    np.fill_diagonal(filled, 1.0)
    return np.minimum(filled, 1.0)
