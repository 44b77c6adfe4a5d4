"""A small tree with everything that can be shown of one, for tests without Spark."""

from __future__ import annotations

from typing import Any

import numpy as np

from dedup_spark.commands.dendrogram.tree import Dendrogram, Leaf, axis_of
from dedup_spark.vocabulary import DistanceUnit

AXIS = axis_of(DistanceUnit.COPY_PROBABILITY, "average")


def known_tree(**facts: Any) -> Dendrogram:
    """Six pictures: 0 to 2 are cluster 10; 3 and 4 one group at the cut, but clusters 11 and 12; 5 is alone.

    Merges: 0-1 at 0.1, 3-4 at 0.3, {0, 1}-2 at 0.4, cut at 0.5, then all but 5 at 0.8, and 5 at 0.95.
    """
    clusters, keepers = (10, 10, 10, 11, 12, None), (0, 3, 4)
    leaves = tuple(Leaf(100 + i, f"file:///l/{i}.jpg", 1 + (i == 2), c, i in keepers) for i, c in enumerate(clusters))
    merges = np.array([[0, 1, 0.1, 2], [3, 4, 0.3, 2], [2, 6, 0.4, 3], [7, 8, 0.8, 5], [5, 9, 0.95, 6]], float)
    given: dict[str, Any] = {
        "component_id": 100, "cluster_id": 10, "n_pictures": 6, "axis": AXIS, "method": "average", "cut": 0.5,
        "at": 0.5, "leaves": leaves, "merges": merges, "joined_by": "Pairs join images to a component.",
    }  # fmt: skip
    return Dendrogram(**(given | facts))
