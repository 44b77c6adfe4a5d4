"""Pictures that look the same at a glance, found among the last ones."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.features.grids import GRID_PX, MOST_BITS, MOST_LEVELS, GridLog, grid_of


def random_grid(seed: int) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (GRID_PX, GRID_PX, 3), dtype=np.uint8)


def changed(grid: UInt8, levels: int) -> UInt8:
    """One cell in one colour, by so many levels."""
    copy = grid.copy()
    copy[3, 4, 1] = copy[3, 4, 1] + levels if copy[3, 4, 1] < 128 else copy[3, 4, 1] - levels
    return copy


@pytest.mark.parametrize("input_px", [64, 100, 256, 288])
def test_a_cell_is_the_mean_of_its_pixels(input_px: int) -> None:
    pixels = np.random.default_rng(input_px).integers(0, 256, (input_px, input_px, 3), dtype=np.uint8)
    assert grid_of(pixels).shape == (GRID_PX, GRID_PX, 3)
    np.testing.assert_allclose(grid_of(pixels).mean((0, 1)), pixels.mean((0, 1)), atol=1)
    assert (grid_of(np.full_like(pixels, 200)) == 200).all()


@pytest.mark.parametrize(("levels", "is_found"), [(0, True), (MOST_LEVELS, True), (MOST_LEVELS + 1, False)])
def test_one_cell_decides(levels: int, is_found: bool) -> None:
    """The mean would forget it; a caption changes few cells."""
    log: GridLog[str] = GridLog(4)
    log.add(7, random_grid(0), "a")
    assert (log.find(7, changed(random_grid(0), levels)) == "a") is is_found


@pytest.mark.parametrize("phash", [0, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("bits", range(MOST_BITS + 2))
def test_phashes_differ_in_few_bits(phash: int, bits: int) -> None:
    log: GridLog[str] = GridLog(4)
    log.add(phash, random_grid(0), "a")
    other = int(np.uint64(phash % 2**64) ^ np.uint64((1 << bits) - 1))
    signed = other - 2**64 if other >= 2**63 else other
    assert (log.find(signed, random_grid(0)) == "a") is (bits <= MOST_BITS)


def test_the_nearest_of_several_is_found() -> None:
    log: GridLog[str] = GridLog(4)
    for name, levels in (("far", 4), ("near", 1), ("middle", 2)):
        log.add(1, changed(random_grid(0), levels), name)
    log.add(1, random_grid(1), "stranger")
    assert log.find(1, random_grid(0)) == "near"
    assert log.find(1, random_grid(2)) is None


def test_the_oldest_is_forgotten() -> None:
    log: GridLog[int] = GridLog(3)
    for i in range(8):
        log.add(i << 32, random_grid(i), i)
    assert [log.find(i << 32, random_grid(i)) for i in range(8)] == [None] * 5 + [5, 6, 7]
