"""Pairs of a large component come to the piece that holds both ends, each once."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.clusters.pieces import rows_of_pieces


@pytest.mark.parametrize("size", [1, 3, 7, 40, 41])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_pairs_of_a_piece_are_those_with_both_ends_in_it(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    members = rng.permutation(rng.choice(10**12, 40, replace=False).astype(np.int64) - 5 * 10**11)
    a, b = (members[rng.integers(0, 40, 300)] for _ in "ab")
    found = rows_of_pieces(members, a, b, size)
    assert len(found) == -(-40 // size)
    for number, rows in enumerate(found):
        mine = members[number * size : (number + 1) * size]
        assert rows.tolist() == np.flatnonzero(np.isin(a, mine) & np.isin(b, mine)).tolist()


def test_a_component_without_pairs_has_pieces_without_pairs() -> None:
    nothing = np.empty(0, np.int64)
    assert [len(rows) for rows in rows_of_pieces(np.arange(5), nothing, nothing, 2)] == [0, 0, 0]
