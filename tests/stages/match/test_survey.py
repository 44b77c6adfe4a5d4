"""The survey of match: who is in the sample, and what one shard says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fabricated import directions, exact_cosines, families, random_ids, to_bytes, write_shards
from pyspark.sql import SparkSession

from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match import sample, survey_task
from dedup_spark.stages.match.survey_task import SurveySettings, survey_shard
from dedup_spark.store.shards import ShardFiles, read_shard


def test_the_survey_counts_neighbours_and_lists_those_above_the_floor(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = families([4] * 30 + [1] * 80, 0.7, rng)[rng.permutation(200)]
    ids, drawn = random_ids(200, rng), rng.choice(200, 50, replace=False)
    rows = write_shards(tmp_path, ids, vectors, [120, 80])
    settings = SurveySettings(str(tmp_path), 0.45, 0.3, 2, 1)
    batches = [
        batch
        for row in rows
        for batch in survey_shard(
            read_shard(str(tmp_path), ShardFiles.of(row)),
            np.array(ids)[drawn], vectors[drawn].astype(np.float16), settings, times_sketches=row["shard"] == 0,
        )
    ]  # fmt: skip
    found = pa.Table.from_batches(batches).to_pylist()
    cosines = exact_cosines(vectors)
    expected = {(ids[i], ids[j]) for i in drawn for j in range(200) if i != j and cosines[i, j] >= 0.45}
    assert {(r["query_id"], r["neighbour_id"]) for r in found if r["query_id"] is not None} == expected
    counts = [dict(r["histograms"]) for r in found if r["query_id"] is None]
    assert sum(sum(c["near"]) for c in counts) == len(expected) + 50  # each met itself
    assert sum(sum(c["gaps"]) for c in counts) == 50 * 200


def test_of_an_explosion_the_survey_keeps_the_counts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_task, "_MAX_SHARD_PAIRS", 5_000)
    one = directions(1, np.random.default_rng(1))
    rows = write_shards(tmp_path, list(range(2000)), np.repeat(one, 2000, 0), [2000])
    settings = SurveySettings(str(tmp_path), 0.45, 0.3, 2, 1)
    shard = read_shard(str(tmp_path), ShardFiles.of(rows[0]))
    (said,) = survey_shard(shard, np.arange(20), np.repeat(one, 20, 0).astype("f2"), settings)
    row = said.to_pylist()[0]
    assert dict(row["measured"])["exploded"] == 1
    assert sum(dict(row["histograms"])["near"]) == 20 * 2000


def test_the_sample_is_the_same_whatever_is_kept_for_it_and_in_whatever_order(spark: SparkSession) -> None:
    ids = random_ids(1000, np.random.default_rng(5))
    made = [(i, to_bytes(np.full(4, i % 97))) for i in ids]
    rows = local_relation(spark, made, "image_id bigint, embedding binary")
    some = rows.where(sample.may_be_drawn(1000, 50, seed=3))
    assert 50 < some.count() < 200
    drawn, vectors = sample.draw(some.repartition(3), 50, seed=3)
    assert drawn.tolist() == sorted(set(drawn.tolist())) == sample.draw(rows, 50, seed=3)[0].tolist()
    assert vectors[:, 0].tolist() == [i % 97 for i in drawn]
    assert sample.draw(rows, 50, seed=4)[0].tolist() != drawn.tolist()
    assert rows.where(sample.may_be_drawn(0, 0, seed=3)).isEmpty()
    assert rows.where(sample.may_be_drawn(1000, 1000, seed=3)).count() == 1000


@pytest.mark.parametrize(
    ("n", "wanted", "size"), [(0, 1000, 0), (50, 1000, 50), (5_000, 1000, 200), (10**8, 1000, 1000)]
)
def test_the_sample_costs_one_percent_at_most_but_small_lakes_are_seen(n: int, wanted: int, size: int) -> None:
    assert sample.sample_size(n, wanted) == size
