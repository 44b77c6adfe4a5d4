"""From the probability that two images are copies to groups, inside one component.

Not every two members were compared. Where a pair was, its probability stands, for or against; where it was not, the
best path between the two takes its place, less something for every further step, so that a chain cannot reach far. Then
hierarchical clustering cuts the component: two groups merge while, on average, their members are more likely copies
than not. Two images that were compared and found different (in one frame) stay apart although a path leads from one to
the other. The component is cut twice: after the first cut, the leaders of each group are compared with all its members,
and for the second cut those comparisons stand in for the pairs that nobody compared.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from dedup_spark.kernels.arrays import Float64, Int64, expect
from dedup_spark.kernels.clusters import linkage

_STEP_FACTOR = 0.9
"""What each step of a path beyond the first costs: seven steps of certain pairs fall below one half."""
_SMALLEST = 1e-6


def group_component(
    n: int, a: Int64, b: Int64, probability: Float64, min_probability: float, method: str, *, settled: bool = False
) -> Int64:
    """Cut one component: its `component_tree` where two groups' linkage probability falls below `min_probability`.

    Returns:
        (n,) for each member the smallest number in its group.
    """
    tree = component_tree(n, a, b, probability, method, settled=settled)
    return linkage.cut_tree(tree, linkage.height_of(min_probability, method))


def component_tree(n: int, a: Int64, b: Int64, probability: Float64, method: str, *, settled: bool = False) -> Float64:
    """The merges inside one component, as `linkage.merge_tree`; heights are 1 - probability.

    Args:
        n: members, numbered from 0; at least one.
        a, b, probability: (m,) the pairs that were compared, each once, and how likely they are copies.
        method: `average` or `complete`. Probabilities are no distances in any space, so `ward` is not defined.
        settled: the leaders of each group were compared with all its members (see `fill_from_likely_copies`).

    Raises:
        ValueError: the method is not defined for probabilities.
    Memory 6 x 8 n^2 bytes; time O(n^3) of matrix products.
    """
    expect(a=(a, "m", np.int64), b=(b, "m", np.int64), probability=(probability, "m", np.float64))
    if method == linkage.WARD:
        raise ValueError("Ward's method is not defined for probabilities")
    fill = fill_from_likely_copies if settled else fill_unknown
    return linkage.merge_tree(fill(n, a, b, probability), method)


def fill_from_likely_copies(n: int, a: Int64, b: Int64, probability: Float64) -> Float64:
    """(n, n) symmetric: the mean probability over the compared pairs between the likely copies of the one image and
    those of the other, the two themselves included; 0 where no such pair was compared. Where the two were compared
    themselves, that probability counts half and this mean the other half.

    So one false pair between two groups counts as one among the pairs of their leaders with all members, which are
    against it. Of 100 groups of 17 edited copies one such pair had merged two (precision 0.978); with leaders compared
    and this fill none did (1.000), at the same recall.
    """
    compared, known = np.eye(n), np.eye(n)
    compared[a, b] = compared[b, a] = probability
    known[a, b] = known[b, a] = 1.0
    likely = (compared >= 0.5).astype(np.float64)
    likely /= likely.sum(axis=1, keepdims=True)
    counted = likely @ known @ likely.T
    mean = np.where(counted > 0, (likely @ compared @ likely.T) / np.maximum(counted, 1e-12), 0.0)
    mean = (mean + mean.T) / 2
    return np.minimum(np.where(known > 0, (compared + mean) / 2, mean), 1.0)


def fill_unknown(n: int, a: Int64, b: Int64, probability: Float64) -> Float64:
    """(n, n) symmetric: the probability of each compared pair; of the others that of the best path of likely copies."""
    walked = probability >= 0.5
    steps = -np.log(np.clip(probability[walked] * _STEP_FACTOR, _SMALLEST, 1.0))
    graph = coo_array((steps, (a[walked], b[walked])), shape=(n, n)).tocsr()
    filled = np.exp(-shortest_path(graph, method="D", directed=False)) / _STEP_FACTOR
    filled[a, b] = filled[b, a] = probability
    np.fill_diagonal(filled, 1.0)
    return np.minimum(filled, 1.0)
