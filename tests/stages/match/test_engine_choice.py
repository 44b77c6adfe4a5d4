"""What the engines of match are predicted to cost and which is chosen; without Spark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from surveys import survey

from dedup_spark.config import MatchSettings
from dedup_spark.stages.match.engine_choice import Choice, choose, notes, predict
from dedup_spark.stages.match.floors import lowest_floor, raised_floor, sketch_floor
from dedup_spark.stages.match.task import JoinSettings

SETTINGS = MatchSettings()


def test_auto_takes_the_cheapest_engine() -> None:
    def chosen(**facts: Any) -> str:
        return choose(predict(survey(**facts), 1e9, SETTINGS), "auto").engine

    assert chosen(gemm_ns=0.01) == "exact"  # a GPU, or a small lake
    assert chosen() == "routed"
    assert chosen(margin=3.0) == "sketch"  # every cell would have to be visited


def test_a_gpu_is_used_where_it_is_cheaper_for_all_the_cores_that_it_keeps_busy() -> None:
    def chosen(gpu_ns: float | None) -> str:
        return choose(predict(survey(), 1e9, SETTINGS, gpu_ns), "auto").engine

    assert (chosen(0.003 * 8), chosen(16.0), chosen(None)) == ("exact_gpu", "routed", "routed")
    joining = JoinSettings.of("/t", Choice("exact_gpu", 1.0, 0.3), SETTINGS, gpus_per_task=0.5)
    assert (joining.engine, joining.floor, joining.gpus_per_task) == ("exact_gpu", 0.3, 0.5)


def test_faiss_is_used_when_asked_for_and_never_by_itself() -> None:
    choices = predict(survey(), 1e9, SETTINGS)
    assert choose(choices, "faiss_ivf").n_probes == 8
    free = choices | {"faiss_ivf": replace(choices["faiss_ivf"], core_seconds=0.0)}
    assert choose(free, "auto").engine != "faiss_ivf"


def test_exact_engines_reach_the_lowest_floor_and_sketches_the_one_that_they_can_afford() -> None:
    floors = {name: c.floor for name, c in predict(survey(), 1e9, SETTINGS, 1.0).items()}
    assert floors == {"exact_gpu": 0.15, "exact": 0.15, "sketch": 0.3, "routed": 0.3, "faiss_ivf": 0.3}
    crowded = predict(survey({0.2: 20_000, 0.36: 20_000}), 1e9, SETTINGS)
    assert (crowded["exact"].floor, crowded["sketch"].floor) == (0.37, 0.37)


def test_the_notes_say_what_was_chosen_and_what_the_others_would_have_cost() -> None:
    choices = predict(survey({0.31: 250}), 1e9, SETTINGS)
    said = notes(choices, choose(choices, "sketch"), survey({0.31: 250}))
    assert (said["engine"], said["floor"], said["neighbours_per_image_above_floor"]) == ("sketch", 0.3, 2.5)
    assert said["predicted_core_seconds"]["exact"] == 16.0
    assert said["sketch"]["first_bits"] == choices["sketch"].sketch_filter.first_bits


def test_the_floor_stays_within_reach_of_min_similarity() -> None:
    assert lowest_floor(SETTINGS) == 0.15
    assert lowest_floor(MatchSettings(min_similarity=0.1)) == 0.1
    assert sketch_floor(SETTINGS) == 0.3
    assert sketch_floor(MatchSettings(min_similarity=0.7)) == pytest.approx(0.55)
    assert sketch_floor(MatchSettings(min_similarity=0.2)) == 0.15


def test_the_floor_rises_where_the_nearest_are_found_above_it_all_the_same() -> None:
    assert raised_floor(SETTINGS, survey({0.31: 12_000}), 0.3) == 0.3
    assert raised_floor(SETTINGS, survey({0.31: 12_000, 0.36: 12_000}), 0.3) == 0.32
    assert raised_floor(SETTINGS, survey({0.31: 10**6, 0.44: 10**6}), 0.3) == 0.45
