"""The short ways of looking for bands find what the plain ones find."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.arrays import Bools, UInt8
from dedup_spark.kernels.features import borders


def first_run(flags: Bools, longer_than: int) -> int:
    """Flag by flag; behind the last one all are true, but no run begins there."""
    behind = [*flags.tolist(), *[True] * longer_than]
    starts = (i for i in range(len(flags)) if all(behind[i : i + longer_than + 1]))
    return next(starts, len(flags))


@pytest.mark.parametrize("seed", range(40))
def test_the_first_long_run_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flags, longer_than = rng.random(rng.integers(1, 60)) < rng.uniform(0.3, 0.95), int(rng.integers(1, 8))
    assert borders._first_run(flags, longer_than, True) == first_run(flags, longer_than)
    inside = np.concatenate([flags, np.zeros(longer_than, bool)])
    assert min(borders._first_run(flags, longer_than, False), len(flags)) == min(
        first_run(inside, longer_than), len(flags)
    )


def banded(seed: int) -> UInt8:
    """Lines of noise behind a band of any width, on which there may be letters."""
    rng = np.random.default_rng(seed)
    lines = rng.integers(0, 256, (int(rng.integers(30, 400)), 64)).astype(np.uint8)
    n = int(rng.integers(0, len(lines)))
    lines[:n] = rng.integers(256)
    lines[:n][rng.random((n, 64)) < rng.uniform(0, 0.5)] = 7
    return lines


@pytest.mark.parametrize("seed", range(40))
def test_looking_at_the_first_lines_alone_changes_no_band(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = borders._band(banded(seed))
    monkeypatch.setattr(borders, "_FIRST_LINES", 10_000)
    assert borders._band(banded(seed)) == found


@pytest.mark.parametrize("n", [1, 2, 3, 8, 63, 128])
def test_the_median_is_that_of_numpy(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 256, n).astype(np.uint8)
    assert borders._median(values) == np.median(values)


def test_neighbours_differ_by_so_much_on_average() -> None:
    lines = np.random.default_rng(1).integers(0, 256, (50, 130)).astype(np.uint8)
    for view in (lines, lines.T, lines[::-1]):
        expected = np.abs(view[:, 1::2].astype(int) - view[:, :-1:2]).mean(axis=1)
        assert np.array_equal(borders._mean_difference(view[:, 1::2], view[:, :-1:2]), expected)
