"""The benchmark of linkages: the groups that it scores by cosine."""

from __future__ import annotations

import numpy as np
import pytest
from linkages import LINKAGES_OF_COSINES, by_cosine


@pytest.mark.parametrize("method", LINKAGES_OF_COSINES)
def test_groups_by_cosine_are_components_that_linkage_cuts(method: str) -> None:
    cosines = np.eye(7)
    for group in ([0, 1, 2], [3, 4, 5]):
        cosines[np.ix_(group, group)] = 1.0
    cosines[2, 3] = cosines[3, 2] = 0.7  # one pair joins the two groups; 6 has no pair
    found = by_cosine(list("abcdefg"), cosines, 0.6, method)
    assert sorted(map(sorted, found)) == [["a", "b", "c"], ["d", "e", "f"]]
