"""The plan of match, without Spark: what is predicted, what is chosen, and what a task may and may not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fabricated import directions, exact_cosines, families, random_ids, to_bytes, write_shards
from pyspark.sql import SparkSession

from dedup_spark.config import MatchSettings
from dedup_spark.errors import GuardError
from dedup_spark.kernels.joins import base
from dedup_spark.kernels.joins.sketches import NEGATIVES, SketchCosts, choose_filter
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match import plan as match_plan
from dedup_spark.stages.match import survey as match_survey
from dedup_spark.stages.match import task as match_tasks
from dedup_spark.stages.match.survey import COSINE_BINS, GAP_BINS, Survey
from dedup_spark.stages.match.task import JoinSettings

SETTINGS = MatchSettings()


def survey(near: dict[float, int] | None = None, **facts: Any) -> Survey:
    """A sample of 100 with so many neighbours at each cosine."""
    counts = np.zeros(len(COSINE_BINS) - 1, int)
    for cosine, n in (near or {}).items():
        counts[round((cosine + 1) * 100)] += n
    gaps = [0] * (len(GAP_BINS) - 1)
    gaps[0], gaps[-1] = 2, 98  # 2 % of the lake in the home cells, the rest far off
    values: dict[str, Any] = {
        "n_queries": 100, "n_compared": 1, "near": tuple(counts.tolist()), "negatives": NEGATIVES,
        "gaps": tuple(gaps), "n_routed": 1000, "margin": 0.1, "n_probes": 8, "gemm_ns": 16.0,
        "costs": SketchCosts(), "exploded": False,
    }  # fmt: skip
    return Survey(**values | facts)


# --- the choice ------------------------------------------------------------------------------------------


def test_auto_takes_the_cheapest_engine() -> None:
    def chosen(**facts: Any) -> str:
        return match_plan.choose(match_plan.predict(survey(**facts), 1e9, 0.3, SETTINGS), "auto").engine

    assert chosen(gemm_ns=0.01) == "exact"  # a GPU, or a small lake
    assert chosen() == "routed"
    assert chosen(margin=3.0) == "sketch"  # every cell would have to be visited


def test_a_gpu_is_used_where_it_is_cheaper_for_all_the_cores_that_it_keeps_busy() -> None:
    def chosen(gpu_ns: float | None) -> str:
        return match_plan.choose(match_plan.predict(survey(), 1e9, 0.3, SETTINGS, gpu_ns), "auto").engine

    assert (chosen(0.003 * 8), chosen(16.0), chosen(None)) == ("exact_gpu", "routed", "routed")
    joining = match_plan.join_settings("/t", match_plan.Choice("exact_gpu", 1.0), 0.3, SETTINGS, gpus_per_task=0.5)
    assert (joining.engine, joining.gpus_per_task) == ("exact_gpu", 0.5)


def test_faiss_is_used_when_asked_for_and_never_by_itself() -> None:
    choices = match_plan.predict(survey(), 1e9, 0.3, SETTINGS)
    assert match_plan.choose(choices, "faiss_ivf").n_probes == 8
    free = choices | {"faiss_ivf": replace(choices["faiss_ivf"], core_seconds=0.0)}
    assert match_plan.choose(free, "auto").engine != "faiss_ivf"


def test_the_floor_stays_within_reach_of_min_similarity() -> None:
    assert match_plan.lowest_floor(SETTINGS) == 0.15
    assert match_plan.lowest_floor(MatchSettings(min_similarity=0.1)) == 0.1
    assert match_plan.sketch_floor(SETTINGS) == 0.3
    assert match_plan.sketch_floor(MatchSettings(min_similarity=0.7)) == pytest.approx(0.55)
    assert match_plan.sketch_floor(MatchSettings(min_similarity=0.2)) == 0.15


def test_the_floor_rises_where_the_nearest_are_found_above_it_all_the_same() -> None:
    assert match_plan.raised_floor(SETTINGS, survey({0.31: 12_000}), 0.3) == 0.3
    assert match_plan.raised_floor(SETTINGS, survey({0.31: 12_000, 0.36: 12_000}), 0.3) == 0.32
    assert match_plan.raised_floor(SETTINGS, survey({0.31: 10**6, 0.44: 10**6}), 0.3) == 0.45


@pytest.mark.parametrize(
    ("found", "stops"), [({"near": {0.5: 39_000}}, False), ({"near": {0.5: 41_000}}, True), ({"exploded": True}, True)]
)
def test_a_flood_is_predicted_from_the_sample(found: dict[str, Any], stops: bool) -> None:
    near = found.pop("near", None)
    if not stops:
        match_plan.guard_against_explosion(survey(near, **found), 1000, SETTINGS)
        return
    with pytest.raises(GuardError, match=r"pairs expected among 1,000 distinct images.*match\.max_pairs_per_image"):
        match_plan.guard_against_explosion(survey(near, **found), 1000, SETTINGS)


# --- tasks -----------------------------------------------------------------------------------------------


def join_settings(root: Path, engine: str = "exact", **facts: Any) -> JoinSettings:
    values: dict[str, Any] = {
        "root": str(root), "engine": engine, "min_similarity": 0.45, "floor": 0.45, "neighbours": 0,
        "sketch_filter": choose_filter([(0.45, 0.999)]), "margin": 3.0, "n_probes": 1, "seed": 1,
        "max_pairs_per_image": 200,
    }  # fmt: skip
    return JoinSettings(**values | facts)


def run_items(rows: list[dict[str, Any]], which: list[tuple[int, int]], settings: JoinSettings) -> pa.Table:
    items = [
        {"item": n, "a_path": rows[a]["path"], "a_sha256": rows[a]["sha256"], "b_path": rows[b]["path"],
         "b_sha256": rows[b]["sha256"]}
        for n, (a, b) in enumerate(which)
    ]  # fmt: skip
    batches = list(match_tasks.join_items([pa.RecordBatch.from_pylist(items)], settings))
    return pa.Table.from_batches(batches, schema=match_tasks.JOINED.arrow)


def test_an_item_of_equal_vectors_is_cut_off_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match_tasks, "_MIN_ITEM_PAIRS", 1000)
    monkeypatch.setattr(base, "_PORTION_PAIRS", 3000)
    one = directions(1, np.random.default_rng(1))
    rows = write_shards(tmp_path, list(range(3000)), np.repeat(one, 3000, 0), [3000])
    for engine in ("exact", "sketch", "routed", "faiss_ivf"):
        found = run_items(rows, [(0, 0)], join_settings(tmp_path, engine, max_pairs_per_image=1))
        assert found["overflow"].to_pylist()[-1] is True
        assert found.num_rows <= 6000 + 1  # one for each row of either side, of 4,498,500 pairs


def test_orthogonal_vectors_make_no_pair(tmp_path: Path) -> None:
    rows = write_shards(tmp_path, list(range(512)), np.eye(512), [300, 212])
    for engine in ("exact", "sketch", "routed", "faiss_ivf"):
        found = run_items(rows, [(0, 0), (0, 1), (1, 1)], join_settings(tmp_path, engine))
        assert found["item"].to_pylist() == [0, 1, 2]
        assert found["overflow"].to_pylist() == [False] * 3


# --- the survey ------------------------------------------------------------------------------------------


def test_the_survey_counts_neighbours_and_lists_those_above_the_floor(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = families([4] * 30 + [1] * 80, 0.7, rng)[rng.permutation(200)]
    ids, sample = random_ids(200, rng), rng.choice(200, 50, replace=False)
    rows = write_shards(tmp_path, ids, vectors, [120, 80])
    settings = match_survey.SurveySettings(str(tmp_path), 0.45, 0.3, 2, 1)
    batches = [
        batch
        for row in rows
        for batch in match_survey.survey_shard(
            (str(tmp_path), row["path"], row["sha256"]),
            np.array(ids)[sample], vectors[sample].astype(np.float16), settings, calibrates=row["shard"] == 0,
        )
    ]  # fmt: skip
    found = pa.Table.from_batches(batches).to_pylist()
    cosines = exact_cosines(vectors)
    expected = {(ids[i], ids[j]) for i in sample for j in range(200) if i != j and cosines[i, j] >= 0.45}
    assert {(r["query_id"], r["neighbour_id"]) for r in found if r["query_id"] is not None} == expected
    counts = [dict(r["histograms"]) for r in found if r["query_id"] is None]
    assert sum(sum(c["near"]) for c in counts) == len(expected) + 50  # each met itself
    assert sum(sum(c["gaps"]) for c in counts) == 50 * 200


def test_of_an_explosion_the_survey_keeps_the_counts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match_survey, "_MAX_SHARD_PAIRS", 5_000)
    one = directions(1, np.random.default_rng(1))
    rows = write_shards(tmp_path, list(range(2000)), np.repeat(one, 2000, 0), [2000])
    settings = match_survey.SurveySettings(str(tmp_path), 0.45, 0.3, 2, 1)
    file = (str(tmp_path), rows[0]["path"], rows[0]["sha256"])
    (said,) = match_survey.survey_shard(
        file, np.arange(20), np.repeat(one, 20, 0).astype("f2"), settings, calibrates=False
    )
    row = said.to_pylist()[0]
    assert dict(row["measured"])["exploded"] == 1
    assert sum(dict(row["histograms"])["near"]) == 20 * 2000


def test_the_sample_is_the_same_whatever_is_kept_for_it_and_in_whatever_order(spark: SparkSession) -> None:
    ids = random_ids(1000, np.random.default_rng(5))
    made = [(i, to_bytes(np.full(4, i % 97))) for i in ids]
    rows = local_relation(spark, made, "image_id bigint, embedding binary")
    some = rows.where(match_survey.may_be_drawn(1000, 50, seed=3))
    assert 50 < some.count() < 200
    drawn, vectors = match_survey.draw(some.repartition(3), 50, seed=3)
    assert drawn.tolist() == sorted(set(drawn.tolist())) == match_survey.draw(rows, 50, seed=3)[0].tolist()
    assert vectors[:, 0].tolist() == [i % 97 for i in drawn]
    assert match_survey.draw(rows, 50, seed=4)[0].tolist() != drawn.tolist()
    assert rows.where(match_survey.may_be_drawn(0, 0, seed=3)).isEmpty()
    assert rows.where(match_survey.may_be_drawn(1000, 1000, seed=3)).count() == 1000


@pytest.mark.parametrize(
    ("n", "wanted", "size"), [(0, 1000, 0), (50, 1000, 50), (5_000, 1000, 200), (10**8, 1000, 1000)]
)
def test_the_sample_costs_one_percent_at_most_but_small_lakes_are_seen(n: int, wanted: int, size: int) -> None:
    assert match_survey.sample_size(n, wanted) == size
