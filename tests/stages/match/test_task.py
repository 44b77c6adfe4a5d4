"""Tasks of match, without Spark: an item is cut off in time, and each shard file is read once, whatever the engine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fabricated import directions, families, random_ids, write_shards

from dedup_spark.kernels.joins import base as joins
from dedup_spark.kernels.joins import sketches
from dedup_spark.kernels.joins.faiss_ivf import SearchLimits
from dedup_spark.stages.match import task as match_tasks
from dedup_spark.stages.match.faiss_task import FaissSettings
from dedup_spark.stages.match.survey_task import SurveySettings, survey_shard
from dedup_spark.stages.match.task import JoinSettings
from dedup_spark.stages.match.work_items import FILES
from dedup_spark.store import shards

ENGINES = ("exact", "sketch", "routed", "faiss_ivf")


def join_settings(root: Path, engine: str = "exact", **facts: Any) -> JoinSettings:
    chosen = sketches.choose_filter([(0.45, 0.999)])
    values: dict[str, Any] = {
        "root": str(root), "engine": engine, "min_similarity": 0.45, "floor": 0.45, "neighbours": 0,
        "sketch_filter": chosen,
        "margin": 3.0, "faiss": FaissSettings(SearchLimits(1, 0, 0.45, 0.45)), "seed": 1, "max_pairs_per_image": 200,
    }  # fmt: skip
    return JoinSettings(**values | facts)


def run_items(rows: list[dict[str, Any]], pairs: list[tuple[int, int]], settings: JoinSettings) -> pa.Table:
    items = [
        {"item": n} | {f"{side}_{c}": rows[which][c] for side, which in (("a", a), ("b", b)) for c in FILES}
        for n, (a, b) in enumerate(pairs)
    ]
    batches = list(match_tasks.join_items([pa.RecordBatch.from_pylist(items)], settings))
    return pa.Table.from_batches(batches, schema=match_tasks.JOINED.arrow)


def test_an_item_of_equal_vectors_is_cut_off_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match_tasks, "_MIN_ITEM_PAIRS", 1000)
    monkeypatch.setattr(joins, "_PORTION_PAIRS", 3000)
    one = directions(1, np.random.default_rng(1))
    rows = write_shards(tmp_path, list(range(3000)), np.repeat(one, 3000, 0), [3000])
    for engine in ENGINES:
        found = run_items(rows, [(0, 0)], join_settings(tmp_path, engine, max_pairs_per_image=1))
        assert found["overflow"].to_pylist()[-1] is True
        assert found.num_rows <= 6000 + 1  # one for each row of either side, of 4,498,500 pairs


def test_orthogonal_vectors_make_no_pair(tmp_path: Path) -> None:
    rows = write_shards(tmp_path, list(range(512)), np.eye(512), [300, 212])
    for engine in ENGINES:
        found = run_items(rows, [(0, 0), (0, 1), (1, 1)], join_settings(tmp_path, engine))
        assert found["item"].to_pylist() == [0, 1, 2]
        assert found["overflow"].to_pylist() == [False] * 3


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was opened since; nothing is in memory before."""
    counted, opened = Counter[str](), shards.local_file
    monkeypatch.setattr(shards, "local_file", lambda *asked: (counted.update([Path(asked[0]).name]), opened(*asked))[1])
    shards._kept.clear()
    return counted


@pytest.mark.parametrize("engine", ENGINES)
def test_each_shard_is_read_once_for_all_items_that_it_is_in(tmp_path: Path, reads: Counter[str], engine: str) -> None:
    rng = np.random.default_rng(8)
    rows = write_shards(tmp_path, random_ids(90, rng), families([3] * 30, 0.8, rng), [50, 40])
    found = run_items(rows, [(0, 0), (0, 1), (1, 1)], join_settings(tmp_path, engine))
    assert found.num_rows > 3
    each = [f"shard-0000{n}.{what}.npy" for n in range(2) for what in ("rows", "vectors")]
    assert reads == {"centroids.npy": 2} | dict.fromkeys(each, 1)


def test_the_survey_reads_a_shard_once(tmp_path: Path, reads: Counter[str]) -> None:
    rng = np.random.default_rng(9)
    vectors = families([3] * 20, 0.8, rng)
    (row,) = write_shards(tmp_path, list(range(60)), vectors, [60])
    shard = shards.read_shard(str(tmp_path), shards.ShardFiles.of(row))
    settings = SurveySettings(str(tmp_path), 0.45, 0.3, 2, 1)
    assert list(survey_shard(shard, np.arange(20), vectors[:20].astype(np.float16), settings, times_sketches=True))
    assert reads == {"centroids.npy": 1, "shard-00000.rows.npy": 1, "shard-00000.vectors.npy": 1}
