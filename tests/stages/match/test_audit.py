"""The audit of a real match by an engine made worse on purpose, drawn anew a hundred times."""

from __future__ import annotations

import numpy as np
import pytest
from fabricated import directions, families, fill, near_pairs, random_ids, readable, to_bytes, write_shards

from dedup_spark.config import load_config
from dedup_spark.kernels.joins import sketches
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match import audit, engine_choice
from dedup_spark.stages.match import step as match
from dedup_spark.stages.match.sample import draw
from dedup_spark.stages.match.survey import compare_with_shards
from dedup_spark.stages.match.survey_task import SurveySettings
from dedup_spark.stages.match.work_items import one_task_per_shard
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import PAIRS, SHARDS
from dedup_spark.store.tables import Tables

N_QUERIES, N_SHARDS = 300, 3


@pytest.mark.slow
@pytest.mark.parametrize(("radius", "low", "high"), [(72, 0.55, 0.75), (82, 0.8, 0.95)])
def test_93_of_100_samples_give_an_interval_with_the_true_recall(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, radius: int, low: float, high: float
) -> None:
    """Pairs around cosine 0.55 and 0.7 by sketches of 256 bits, with a radius that loses a third or a tenth of them."""
    rng = np.random.default_rng(21)
    near, far = families([2] * 150 + [3] * 60 + [5] * 20 + [25], 0.7, rng), families([2] * 150 + [4] * 30, 0.55, rng)
    vectors = np.concatenate([near, far, directions(1500 - len(near) - len(far), rng)])[rng.permutation(1500)]
    ids = random_ids(len(vectors), rng)
    fill(
        tables,
        feature_rows=[readable(i, v, phash=h) for i, v, h in zip(ids, vectors, random_ids(1500, rng), strict=True)],
        shard_rows=write_shards(tables.root, ids, vectors, [500] * N_SHARDS),
    )
    bad = sketches.SketchFilter(256, 0, radius, radius)
    monkeypatch.setattr(engine_choice, "choose_filter", lambda *_: bad)
    config = load_config(None, ("match.engine=sketch", "match.neighbours=0"))
    match.run(tables.spark, config, Run(tables, config, "file:///lake", "r1"))

    true = near_pairs(ids, vectors, config.match.min_similarity)
    pairs = tables.read(PAIRS).select("image_id_a", "image_id_b").cache()
    found = {(r["image_id_a"], r["image_id_b"]) for r in pairs.collect()}
    assert found <= true
    truth = len(found) / len(true)
    assert low < truth < high

    floor, k, settings = config.match.min_similarity, 0, config.match
    drawable = local_relation(
        tables.spark, [(i, to_bytes(v)) for i, v in zip(ids, vectors, strict=True)], "image_id bigint, embedding binary"
    )
    files = one_task_per_shard(tables.read(SHARDS), N_SHARDS)
    held, widths = 0, []
    for seed in range(100):
        sample = draw(drawable, N_QUERIES, seed)
        task = SurveySettings(tables.root, settings.min_similarity, floor, k, seed)
        surveyed = compare_with_shards(files, sample, task)
        rows = audit.measure(audit.compare(surveyed, pairs, floor, settings), N_QUERIES, len(ids), floor, settings)
        said = next(r for r in rows if r["metric"] == "recall")
        held += said["low"] <= truth <= said["high"]
        widths.append(said["high"] - said["low"])
    assert held >= 93
    assert np.mean(widths) < 0.35  # they say something
