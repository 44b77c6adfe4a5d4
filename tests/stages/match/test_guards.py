"""An explosion of pairs is stopped: before the join by the survey, after it by what was found."""

from __future__ import annotations

from typing import Any

import pytest
from surveys import survey

from dedup_spark.config import MatchSettings
from dedup_spark.errors import GuardError
from dedup_spark.stages.match.guards import PairGuard

GUARD = PairGuard(1000, MatchSettings())  # 200 pairs per image


@pytest.mark.parametrize(
    ("found", "stops"), [({"near": {0.5: 39_000}}, False), ({"near": {0.5: 41_000}}, True), ({"exploded": True}, True)]
)
def test_a_flood_is_predicted_from_the_sample(found: dict[str, Any], stops: bool) -> None:
    near = found.pop("near", None)
    if not stops:
        GUARD.check_survey(survey(near, **found))
        return
    with pytest.raises(GuardError, match=r"pairs expected among 1,000 distinct images.*match\.max_pairs_per_image"):
        GUARD.check_survey(survey(near, **found))


@pytest.mark.parametrize(
    ("n_near", "is_cut_off", "said"),
    [
        (200_000, False, ""),
        (200_001, False, r"^200,001 pairs among 1,000 distinct images.*match\.max_pairs_per_image"),
        (7, True, r"^more than 7 pairs among"),
    ],
)
def test_a_flood_that_was_found_is_not_written(n_near: int, is_cut_off: bool, said: str) -> None:
    if not said:
        GUARD.check_found(n_near, is_cut_off)
        return
    with pytest.raises(GuardError, match=said):
        GUARD.check_found(n_near, is_cut_off)


def test_tasks_may_find_what_the_floor_lets_through_besides() -> None:
    assert PairGuard(1000, MatchSettings(max_pairs_per_image=7, neighbours=0)).max_found == 7_000
    assert PairGuard(1000, MatchSettings(max_pairs_per_image=7, neighbours=3)).max_found == 19_000
