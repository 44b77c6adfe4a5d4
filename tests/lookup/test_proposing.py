"""Candidates against a double loop over a lake in which the image that is looked up is a row like the others."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.config import MatchSettings
from dedup_spark.kernels.comparing.probability import DENSITY_RANK
from dedup_spark.lookup.added import ranks_of
from dedup_spark.lookup.proposing import Compared, candidates_of, near_phashes

FLOOR = 0.15


def lake(seed: int, n: int = 90) -> np.ndarray:
    """(n + 1, n + 1) cosines of images in groups; the last one is that which is looked up."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((6, 24))
    x = centres[rng.integers(0, 6, n + 1)] + rng.uniform(0.3, 1.6, (n + 1, 1)) * rng.standard_normal((n + 1, 24))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    products: np.ndarray = (x @ x.T).astype(np.float32)
    np.fill_diagonal(products, -1)
    return products


def nearest(cosines: np.ndarray, k: int) -> np.ndarray:
    """The `k` largest above the floor, descending."""
    found = np.sort(cosines)[::-1][:k]
    return found[found >= FLOOR]


@pytest.mark.parametrize("neighbours", [0, 8, 20, 32])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pairs_and_densities_are_those_of_a_lake_that_holds_the_image(seed: int, neighbours: int) -> None:
    settings, all_cosines = MatchSettings(neighbours=neighbours), lake(seed)
    n = len(all_cosines) - 1
    without, mine = all_cosines[:n, :n], all_cosines[n, :n]
    ranks = np.array([ranks_of(nearest(row, neighbours), neighbours, DENSITY_RANK) for row in without], np.float32)
    rows = np.flatnonzero(mine >= FLOOR)
    nothing = np.zeros(len(rows), np.int64)
    compared = Compared(rows, mine[rows], nothing, np.zeros(len(rows), bool), ranks[rows])
    found = candidates_of(compared, settings, FLOOR, is_known=False)

    lists = [nearest(row, neighbours) for row in all_cosines]
    expected = {
        j for j in rows.tolist()
        if mine[j] >= 0.45 or (neighbours and (mine[j] >= lists[n][-1] or mine[j] >= lists[j][-1]))
    }  # fmt: skip
    assert set(found.rows.tolist()) == expected

    def density(row: np.ndarray) -> float:
        return max(float(row[DENSITY_RANK - 1]) if len(row) >= DENSITY_RANK else FLOOR, FLOOR)

    for row, normalised, is_dense in zip(found.rows.tolist(), found.normalised, found.is_dense, strict=True):
        assert normalised == pytest.approx(mine[row] - (density(lists[n]) + density(lists[row])) / 2, abs=1e-6)
        full = [one for one in (lists[n], lists[row]) if len(one) == neighbours and neighbours]
        assert is_dense == any(one[-1] >= 0.45 for one in full)


def test_an_image_that_the_lake_holds_changes_no_list() -> None:
    settings, cosines = MatchSettings(neighbours=8), lake(4)
    rows = np.flatnonzero(cosines[0] >= FLOOR)
    lists = [nearest(row, 8) for row in cosines]
    ranks = np.array([ranks_of(one, 8, DENSITY_RANK) for one in lists], np.float32)
    compared = Compared(rows, cosines[0][rows], np.zeros(len(rows), np.int64), np.zeros(len(rows), bool), ranks[rows])
    found = candidates_of(compared, settings, FLOOR, is_known=True)
    assert set(found.rows.tolist()) == {
        j for j in rows.tolist()
        if cosines[0, j] >= 0.45 or cosines[0, j] >= min(lists[0][-1], lists[j][-1])
    }  # fmt: skip


def test_a_hash_proposes_and_a_cosine_below_the_floor_contradicts() -> None:
    settings = MatchSettings()
    none = np.full((3, 4), -2.0, np.float32)
    similarity = np.array([np.nan, 0.14, 0.16], np.float32)
    compared = Compared(np.arange(3), similarity, np.array([1, 1, 1]), np.ones(3, bool), none)
    assert candidates_of(compared, settings, 0.3, is_known=False).rows.tolist() == [0, 2]


@pytest.mark.parametrize("seed", [1, 2])
def test_near_hashes_are_those_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    query = int(rng.integers(-(2**63), 2**63 - 1))
    flips = [sum(1 << int(b) for b in rng.choice(64, k, replace=False)) for k in (0, 1, 2, 3, 4, 5) for _ in range(9)]
    hashes = np.array([(query ^ f) & (2**64 - 1) for f in flips], np.uint64)
    found = near_phashes(query, hashes.view(np.uint8).reshape(-1, 8), MatchSettings(max_phash_bucket=1000))
    assert set(found.tolist()) == {k for k, f in enumerate(flips) if f.bit_count() <= 3}


def test_a_hash_that_too_many_share_proposes_nothing() -> None:
    hashes = np.full(70, 12345, np.int64).view(np.uint8).reshape(-1, 8)
    assert len(near_phashes(12345, hashes, MatchSettings())) == 0
    assert len(near_phashes(12345, hashes[:63], MatchSettings())) == 63
