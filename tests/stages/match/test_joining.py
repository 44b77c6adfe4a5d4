"""How large waves are: by the prediction first, then by what the last one took; without Spark."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.stages.match import joining
from dedup_spark.stages.match.engine_choice import Choice
from dedup_spark.stages.match.joining import Join


def join(n_numbers: int, seconds: float, slots: int = 10) -> Join:
    context = SimpleNamespace(accumulator=lambda _: None)
    run: Any = SimpleNamespace(tables=SimpleNamespace(spark=SimpleNamespace(sparkContext=context)))
    items: Any = SimpleNamespace(n_numbers=n_numbers, n_items=n_numbers // 2)
    return Join(run, items, Choice("sketch", seconds * slots, 0.3, slots=slots), None, None)  # type: ignore[arg-type]


def test_a_wave_is_so_many_seconds_of_the_predicted_work() -> None:
    assert join(10_000, 10 * joining._WAVE_SECONDS)._first_size() == 1_000
    assert join(10_000, 1e6)._first_size() == 20  # two for each task at once, so that none is idle
    assert join(10_000, 1.0)._first_size() == 10_000


@pytest.mark.parametrize(
    ("took", "expected"),
    [(1.0, 1_000), (0.5, 2_000), (2.0, 500), (0.001, 4_000), (100.0, 250)],
    ids=["as predicted", "quick", "slow", "at once", "as after a pause"],
)
def test_the_next_wave_is_sized_by_what_the_last_one_took(took: float, expected: int) -> None:
    assert join(10_000, 1e4)._next_size(1_000, took * joining._WAVE_SECONDS) == expected
    assert join(10_000, 1e4)._next_size(20, 100 * joining._WAVE_SECONDS) == 20
