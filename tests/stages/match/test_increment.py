"""What makes an image be matched again, and how it is: against everything."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fabricated import exact_cosines, families, random_ids, to_bytes, write_shards
from pyspark.sql import SparkSession

from dedup_spark.config import IndexSettings, MatchSettings
from dedup_spark.kernels.faiss_index import DEFAULT
from dedup_spark.results_version import RESULTS_VERSION
from dedup_spark.stages.match import increment
from dedup_spark.stages.match import task as match_tasks
from dedup_spark.stages.match.comparisons import n_query_files
from dedup_spark.stages.match.task import JoinSettings
from dedup_spark.stages.match.work_items import FILES
from dedup_spark.store.shards import ShardFiles
from dedup_spark.vocabulary import Engine

CHANGED = {
    "min_similarity": 0.5, "neighbours": 5, "floor_similarity": 0.35, "floor_recall": 0.5, "engine": "exact",
    "min_recall": 0.9, "seed": 1, "faiss_probes": 16,
}  # fmt: skip
FREE = {
    "audit_queries": 7, "max_hamming_bits": 1, "max_phash_bucket": 9, "max_pairs_per_image": 3, "gpus_per_task": 0.5,
    "cpus_per_gpu_task": 3, "faiss_k": 64, "faiss_without_gpu": "stop",
}  # fmt: skip


def test_every_setting_is_known_to_decide_or_not() -> None:
    assert {f.name for f in fields(MatchSettings)} == {*CHANGED, *FREE}


@pytest.mark.parametrize("name", [*CHANGED, *FREE])
def test_only_settings_that_decide_change_the_fingerprint(name: str) -> None:
    other = replace(MatchSettings(), **{name: (CHANGED | FREE)[name]})
    same = increment.fingerprint("m", MatchSettings()) == increment.fingerprint("m", other)
    assert same == (name in FREE)


def test_another_model_changes_the_fingerprint() -> None:
    assert increment.fingerprint("m", MatchSettings()) != increment.fingerprint("n", MatchSettings())


@pytest.mark.parametrize("engine", ["auto", *Engine])
def test_another_type_of_index_changes_the_fingerprint_where_faiss_may_search_it(engine: str) -> None:
    settings = replace(MatchSettings(), engine=engine)
    found = [increment.fingerprint("m", settings, kind) for kind in ("IVF,PQ16", "IVF,SQ8", DEFAULT)]
    assert len(set(found)) == (3 if engine in ("auto", "faiss_ivf") else 1)
    assert found[2] == increment.fingerprint("m", settings)  # that of matches before there was another type


@pytest.mark.parametrize("engine", ["auto", *Engine])
@pytest.mark.parametrize("faiss_probes", [0, 8])
def test_another_number_of_cells_changes_the_fingerprint_where_faiss_may_probe_a_fixed_number_of_them(
    engine: str, faiss_probes: int
) -> None:
    """Of 1,000 cells 8 hold a tenth of the images that 8 of 100 hold: pairs of the one index lack some of the other."""
    settings = replace(MatchSettings(), engine=engine, faiss_probes=faiss_probes)
    found = {increment.fingerprint("m", settings, n_cells=n) for n in (0, 100, 1000)}
    assert len(found) == (3 if engine in ("auto", "faiss_ivf") and faiss_probes else 1)


def test_another_version_of_results_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = increment.fingerprint("m", MatchSettings())
    monkeypatch.setattr(increment, "RESULTS_VERSION", RESULTS_VERSION + 1)
    assert increment.fingerprint("m", MatchSettings()) != before


@pytest.mark.parametrize(
    ("n_queries", "vector_bytes", "n_files"),
    [(0, None, 1), (65_536, None, 1), (65_537, 1024, 2), (65_536, 128, 1), (65_536, 16_384, 16), (65_537, 16_384, 17)],
)
def test_files_of_queries_hold_as_many_bytes_as_a_shard_may(
    n_queries: int, vector_bytes: int | None, n_files: int
) -> None:
    """16,384 bytes are 8,192 float16 numbers: sixteen times those that the bound on rows is measured for."""
    assert n_query_files(n_queries, IndexSettings().max_shard_rows, vector_bytes) == n_files


@pytest.mark.parametrize(
    ("neighbours", "min_similarity", "enough"),
    [(32, 0.45, 16), (32, 0.3, 16), (32, 0.5, 32), (10, 0.45, 10), (0, 0.45, 0)],
)
def test_enough_neighbours_are_those_that_density_reads(neighbours: int, min_similarity: float, enough: int) -> None:
    settings = replace(MatchSettings(), neighbours=neighbours, min_similarity=min_similarity)
    assert increment.enough_neighbours(settings) == enough


@pytest.mark.slow
@pytest.mark.parametrize(("share_gone", "most_asked"), [(0.015, 0.0), (0.3, 0.02)])
def test_a_lake_that_lost_some_images_is_not_asked_again(
    spark: SparkSession, share_gone: float, most_asked: float
) -> None:
    """50,000 images with 32 neighbours each. With one lost neighbour for a reason, 38 % would be asked at 1.5 %."""
    n, k = 50_000, 32
    rng = np.random.default_rng(21)
    around = (np.arange(n)[:, None] + np.arange(1, k // 2 + 1)) % n  # each is near the k around it on a ring
    similarity = rng.uniform(0.2, 0.4, around.shape).astype(np.float32)
    place = rng.permutation(n)
    a, b = place[np.repeat(np.arange(n), k // 2)], place[around.ravel()]
    pairs = pa.table({"image_id_a": np.minimum(a, b), "image_id_b": np.maximum(a, b), "similarity": similarity.ravel()})
    gone = np.zeros(n, bool)
    gone[rng.choice(n, round(share_gone * n), replace=False)] = True
    ids = np.flatnonzero(~gone)
    embedded = spark.createDataFrame(pa.table({"image_id": ids, "vector_hash": ids}))
    matched = pa.table({"image_id": ids, "complete_above": np.full(len(ids), 0.2, np.float32),
                        "n_complete": np.full(len(ids), k, np.int32)})  # fmt: skip
    old_pairs, held = spark.createDataFrame(pairs), spark.createDataFrame(matched)
    remembered = spark.range(n).toDF("image_id")
    n_asked = [increment.images_to_compare(embedded, held, remembered, old_pairs, enough).count() for enough in (16, k)]
    assert n_asked[0] <= most_asked * n
    lost_one = np.zeros(n, bool)
    lost_one[np.concatenate([a[gone[b]], b[gone[a]]])] = True
    assert n_asked[1] == (lost_one & ~gone).sum() > 0.3 * n


@pytest.mark.parametrize(("gone_is_remembered", "asked"), [(True, [0]), (False, [])])
def test_images_that_came_in_a_match_cut_off_between_its_commits_took_nobodys_place(
    spark: SparkSession, *, gone_is_remembered: bool, asked: list[int]
) -> None:
    """Image 0 had two neighbours; 8 and 9 are nearer, have pairs with it and no list, or had one and are gone."""
    old_pairs = spark.createDataFrame([(0, 1, 0.5), (0, 2, 0.5), (0, 8, 0.9), (0, 9, 0.9)],
                                      "image_id_a bigint, image_id_b bigint, similarity float")  # fmt: skip
    matched = spark.createDataFrame([(i, 0.4, 2) for i in (0, 1, 2)],
                                    "image_id bigint, complete_above float, n_complete int")  # fmt: skip
    known = [0, 1, 2, *([8, 9] if gone_is_remembered else [])]
    remembered = spark.createDataFrame([(i,) for i in known], "image_id bigint")
    embedded = matched.select("image_id")
    found = increment.images_to_compare(embedded, matched, remembered, old_pairs, 2)
    assert [row["image_id"] for row in found.collect()] == asked


def test_files_of_queries_meet_every_shard_and_not_themselves(tmp_path: Path) -> None:
    """The new images of two parts against old and new, by the same tasks as everything else."""
    rng = np.random.default_rng(5)
    vectors = families([5] * 12, 0.8, rng)[rng.permutation(60)]
    ids, new = random_ids(60, rng), list(range(20))
    listed = write_shards(tmp_path, ids, vectors, [35, 25])
    rows = [{"part": i % 2, "image_id": ids[i], "embedding": bytes(to_bytes(vectors[i]))} for i in new]
    settings = increment.FileSettings(str(tmp_path), "queries", ShardFiles.of(listed[0]).cells, sketch_seed=1)
    batches = [pa.RecordBatch.from_pylist(rows[:7]), pa.RecordBatch.from_pylist(rows[7:])]
    files = pa.Table.from_batches(list(increment._write_batches(batches, settings))).to_pylist()
    assert sum(f["n_images"] for f in files) == 20
    items = [
        {"item": n} | {f"a_{c}": q[c] for c in FILES} | {f"b_{c}": s[c] for c in FILES}
        for n, (q, s) in enumerate((q, s) for q in files for s in listed)
    ]
    task = JoinSettings(str(tmp_path), "exact", 0.5, 0.5, 0, None, 0.0, 0, 1, 200)
    found = [r for b in match_tasks.join_items([pa.RecordBatch.from_pylist(items)], task) for r in b.to_pylist()]
    pairs = {(r["image_id_a"], r["image_id_b"]) for r in found if r["item"] is None}
    cosines = exact_cosines(vectors)
    expected = {
        (min(ids[i], ids[j]), max(ids[i], ids[j])) for i in new for j in range(60) if i != j and cosines[i, j] >= 0.5
    }
    assert pairs == expected
    assert list(increment._write_batches([], settings)) == []
