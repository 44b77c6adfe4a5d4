"""What the engines of match are predicted to cost and which is chosen; without Spark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from surveys import survey

from dedup_spark.config import MatchSettings
from dedup_spark.kernels.joins.faiss_ivf import SearchLimits
from dedup_spark.kernels.joins.sketches import CosineHistogram
from dedup_spark.stages.match.engine_choice import Choice, Slots, choose, notes, predict
from dedup_spark.stages.match.floors import lowest_floor, raised_floor, sketch_floor
from dedup_spark.stages.match.survey import Survey
from dedup_spark.stages.match.survey_task import RANK_BINS
from dedup_spark.stages.match.task import JoinSettings

SETTINGS = MatchSettings()


def test_auto_takes_the_cheapest_engine() -> None:
    def chosen(**facts: Any) -> str:
        return choose(predict(survey(**facts), 1e9, SETTINGS), "auto").engine

    assert chosen(gemm_ns=0.01) == "exact"  # a GPU, or a small lake
    assert chosen() == "routed"
    assert chosen(margin=3.0) == "sketch"  # every cell would have to be visited


def test_engines_on_gpus_and_on_cores_are_compared_by_when_they_end() -> None:
    """A GPU with 14 cores, of which one task needs all, or leaves twelve to the others."""

    def chosen(gpu_ns: float | None, slots: Slots) -> str:
        return choose(predict(survey(), 1e12, SETTINGS, gpu_ns, slots=slots), "auto").engine

    a_node, few_gpus = Slots(14, 1, 14), Slots(1400, 1, 14)
    on_cores = predict(survey(), 1e12, SETTINGS)["routed"].core_seconds / 1e3  # ns per comparison of one core
    assert chosen(None, a_node) == "routed"
    assert chosen(on_cores / 14 * 0.8, a_node) == "exact_gpu"
    assert chosen(on_cores / 14 * 1.2, a_node) == "routed"
    assert chosen(on_cores * 0.8, Slots(1, 1, 14)) == "exact_gpu"
    assert chosen(on_cores / 14 * 0.8, few_gpus) == "routed"  # 100 nodes, one of which has a GPU
    of_both = predict(survey(), 1e12, SETTINGS, 0.01, slots=a_node)
    assert of_both["exact"].seconds == pytest.approx(of_both["exact"].core_seconds / 14)
    assert of_both["exact_gpu"].seconds == of_both["exact_gpu"].core_seconds


def test_what_exact_gpu_scores_on_the_cores_of_its_task_is_in_its_cost() -> None:
    measured = survey({0.5: 1_000}, n_compared=100_000)
    alone, of_ten = (
        predict(measured, 1e9, SETTINGS, 0.01, slots=Slots(10, 1, n))["exact_gpu"].core_seconds for n in (1, 10)
    )
    assert alone == pytest.approx(0.01 + 0.01 * measured.costs.score)
    assert of_ten == pytest.approx(0.01 + 0.001 * measured.costs.score)


def test_the_settings_of_the_join_are_those_of_the_choice() -> None:
    joining = JoinSettings.of("/t", Choice("exact_gpu", 1.0, 0.3), SETTINGS, gpus_per_task=0.5, threads=7)
    assert (joining.engine, joining.floor, joining.gpus_per_task, joining.threads) == ("exact_gpu", 0.3, 0.5, 7)
    assert JoinSettings.of("/t", Choice("exact", 1.0, 0.3), SETTINGS, threads=7).threads == 1


def scans(faiss_ns: float = 20.0, probed: float = 0.03, **facts: Any) -> Survey:
    """A survey that timed FAISS, with that share of the lake in the 8 cells that recall asks for."""
    ranks = [0] * len(RANK_BINS)
    ranks[RANK_BINS.tolist().index(8)], ranks[-1] = round(1000 * probed), 1000 - round(1000 * probed)
    return survey(ranks=tuple(ranks), faiss_ns=faiss_ns, **facts)


def test_faiss_is_taken_where_it_is_predicted_cheaper_at_the_recall_asked_for() -> None:
    def chosen(measured: Survey, **settings: Any) -> str:
        return choose(predict(measured, 1e9, MatchSettings(**settings)), "auto").engine

    assert chosen(scans(faiss_ns=0.5)) == "faiss_ivf"
    assert chosen(scans()) == "routed"  # rows of 1 KB are slower to scan than sketches of 16 bytes
    assert chosen(scans(faiss_ns=0.5, probed=0.9, margin=3.0)) == "faiss_ivf"
    assert chosen(scans(faiss_ns=20.0, probed=0.9, margin=3.0)) == "sketch"
    assert chosen(scans(faiss_ns=0.5), faiss_probes=4) == "routed"  # fewer cells than the recall needs
    assert chosen(scans(faiss_ns=0.5), faiss_probes=16) == "faiss_ivf"
    assert chosen(survey()) == "routed"  # not timed, so not known


def test_faiss_on_a_gpu_is_taken_where_it_is_cheaper_than_products_there() -> None:
    def chosen(gpu_ns: float, faiss_gpu_ns: float | None, **settings: Any) -> tuple[str, bool]:
        taken = choose(predict(scans(), 1e9, MatchSettings(**settings), gpu_ns, faiss_gpu_ns), "auto")
        return taken.engine, taken.on_gpu

    assert chosen(1.0, 0.001) == ("faiss_ivf", True)
    assert chosen(0.003, 2.0) == ("exact_gpu", False)
    assert chosen(1.0, None)[1] is False
    named = choose(predict(scans(n_probes=4096), 1e9, SETTINGS, 1.0, 0.001), "faiss_ivf")
    assert (named.engine, named.on_gpu) == ("faiss_ivf", False)  # a GPU visits 2,048 cells at most


def test_faiss_pays_for_both_directions_for_choosing_cells_and_for_scores() -> None:
    free = {"negatives": CosineHistogram((0.0,), (1.0,))}
    cost = predict(scans(10.0, probed=0.25, **free), 1e9, SETTINGS)["faiss_ivf"].core_seconds
    assert cost == pytest.approx(2 * 0.25 * 10)
    with_cells = predict(scans(10.0, probed=0.25, cells_per_row=0.05, **free), 1e9, SETTINGS)["faiss_ivf"]
    assert with_cells.core_seconds == pytest.approx(cost + 2 * 0.05 * 16)
    near = CosineHistogram((0.0, 0.5), (0.999, 0.001))
    scored = predict(scans(10.0, probed=0.25, negatives=near), 1e9, SETTINGS)["faiss_ivf"]
    assert scored.core_seconds == pytest.approx(cost + 2 * 0.25 * 0.001 * 1000)


def test_an_index_without_cells_is_scanned_whole() -> None:
    flat = predict(scans(10.0), 1e9, SETTINGS, index_type="SQ8")["faiss_ivf"]
    assert flat.core_seconds >= 2 * 10.0
    assert flat.reaches_recall


def test_the_search_takes_its_probes_and_its_margin_from_the_choice() -> None:
    chosen = choose(predict(scans(faiss_margin=0.07), 1e9, SETTINGS), "faiss_ivf")
    settings = JoinSettings.of("/t", chosen, MatchSettings(faiss_k=99, faiss_without_gpu="stop")).faiss
    assert settings.limits == SearchLimits(8, 99, chosen.floor, 0.45, 0.07)
    assert (settings.without_gpu, settings.on_gpu) == ("stop", False)
    many = MatchSettings(neighbours=500)
    on_gpu = JoinSettings.of("/t", replace(chosen, on_gpu=True), many).faiss
    assert on_gpu.limits.k == 501  # all nearest of an image, itself among them
    alone = JoinSettings.of("/t", chosen, MatchSettings(neighbours=0)).faiss
    assert (alone.limits.k, alone.limits.lowest) == (0, 0.45)
    assert choose(predict(scans(), 1e9, MatchSettings(faiss_probes=3)), "faiss_ivf").n_probes == 3


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
