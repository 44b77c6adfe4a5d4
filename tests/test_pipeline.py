"""The whole job on the tiny lake: what must be true of the tables of every complete run."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from conftest import FinishedRun, run_everything
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from table_contents import cluster_pairs, contents, rows, true_pairs
from tiny_lake import build_tiny_lake

from dedup_spark import pipeline
from dedup_spark.config import Config, load_config
from dedup_spark.errors import LeaseError
from dedup_spark.store import schema as definitions
from dedup_spark.store.tables import Tables


def by_path(done: FinishedRun, table: str) -> dict[str, dict[str, object]]:
    """Rows of a table with an image_id, by path relative to the lake."""
    prefix = f"file://{done.lake.folder.resolve()}/"
    uri = {row["image_id"]: row["uri"].removeprefix(prefix) for row in rows(done.tables.root, "images")}
    return {uri[row["image_id"]]: row for row in rows(done.tables.root, table)}


def test_every_file_is_one_image_and_one_row_of_features(finished: FinishedRun) -> None:
    assert set(by_path(finished, "images")) == {*finished.lake.truth, *finished.lake.rejects}
    assert len(rows(finished.tables.root, "images")) == len(rows(finished.tables.root, "features"))
    assert set(by_path(finished, "features")) == set(by_path(finished, "images"))


def test_the_run_was_made_on_a_session_as_users_have_it(finished: FinishedRun) -> None:
    """Not on that of the tests, which goes without statistics, code generation and adaptive execution: see conftest."""
    for table in (definitions.IMAGES, definitions.FEATURES, definitions.PAIRS, definitions.CLUSTERS):
        files = pa.table(DeltaTable(f"{finished.tables.root}/{table.name}").get_add_actions(flatten=True))
        assert files.num_rows
        assert not any(files[f"max.{key}"].null_count for key in table.key), table.name


def test_broken_files_are_rejected_for_the_right_reason_and_nothing_else_is(finished: FinishedRun) -> None:
    features = by_path(finished, "features")
    assert {p: r["reject_reason"] for p, r in features.items() if r["status"] == "rejected"} == finished.lake.rejects


def test_clusters_are_the_true_groups(finished: FinishedRun) -> None:
    found, true = cluster_pairs(finished.tables.root, finished.lake.folder), true_pairs(finished.lake.truth)
    assert found - true == set()
    assert len(found & true) >= 0.95 * len(true), sorted(true - found)


def test_identical_files_are_named_as_such(finished: FinishedRun) -> None:
    features, clusters = by_path(finished, "features"), by_path(finished, "clusters")
    for group in finished.lake.same_bytes:
        assert len({features[p]["content_hash"] for p in group}) == 1
        assert len({clusters[p]["cluster_id"] for p in group}) == 1
    for group in finished.lake.same_pixels:
        assert len({features[p]["pixel_hash"] for p in group}) == 1
        assert len({features[p]["content_hash"] for p in group}) == len(group)


def test_a_cluster_keeps_its_promises(finished: FinishedRun) -> None:
    members = rows(finished.tables.root, "clusters")
    images = {row["image_id"]: row for row in rows(finished.tables.root, "features")}
    for cluster_id in {m["cluster_id"] for m in members}:
        cluster = [m for m in members if m["cluster_id"] == cluster_id]
        keeper = next(m for m in cluster if m["is_keeper"])
        assert cluster_id == min(m["image_id"] for m in cluster)
        assert [m["cluster_size"] for m in cluster] == [len(cluster)] * len(cluster)
        assert {m["keeper_image_id"] for m in cluster} == {keeper["image_id"]}
        assert sum(m["is_keeper"] for m in cluster) == 1
        areas = [images[m["image_id"]]["width_px"] * images[m["image_id"]]["height_px"] for m in cluster]
        assert images[keeper["image_id"]]["width_px"] * images[keeper["image_id"]]["height_px"] == max(areas)
        for m in cluster:
            same_bytes = images[m["image_id"]]["content_hash"] == images[keeper["image_id"]]["content_hash"]
            same_pixels = images[m["image_id"]]["pixel_hash"] == images[keeper["image_id"]]["pixel_hash"]
            if m["is_keeper"]:
                assert m["relation"] is None
            else:
                assert (m["relation"] == "same_bytes") == same_bytes
                assert (m["relation"] in ("same_bytes", "same_pixels")) == same_pixels
            assert m["reason"]
            assert m["similarity"] == pytest.approx(1) if same_pixels else m["similarity"] <= 1


def test_pairs_are_ordered_unique_and_scored(finished: FinishedRun) -> None:
    pairs = rows(finished.tables.root, "pairs")
    assert all(p["image_id_a"] < p["image_id_b"] for p in pairs)
    assert len({(p["image_id_a"], p["image_id_b"]) for p in pairs}) == len(pairs)
    assert {p["method"] for p in pairs} == {"same_bytes", "same_pixels", "phash", "embedding"}
    assert all(p["similarity"] >= load_config().match.floor_similarity - 1e-6 for p in pairs)


def test_tables_open_without_a_jvm_and_carry_a_comment_for_every_column(finished: FinishedRun) -> None:
    for table in definitions.ALL:
        fields = DeltaTable(f"{finished.tables.root}/{table.name}").schema().fields
        assert [f.name for f in fields] == table.column_names
        assert all(f.metadata.get("comment") for f in fields)


def test_the_log_of_a_run_ends_with_its_completion(finished: FinishedRun) -> None:
    log = sorted(rows(finished.tables.root, "runs"), key=lambda r: r["at"])
    assert [(r["step"], r["status"]) for r in (log[0], log[-1])] == [("run", "started"), ("run", "complete")]
    done = {r["step"]: dict(r["counts"]) for r in log if r["status"] == "complete"}
    assert done["inventory"]["listed"] == done["extract"]["read"] == len(rows(finished.tables.root, "images"))
    assert done["extract"]["rejected"] == len(finished.lake.rejects)


def test_no_intermediate_rows_are_left_behind(finished: FinishedRun) -> None:
    assert not Path(finished.tables.root, "_staging").exists()


def test_a_second_run_does_nothing_and_changes_nothing(finished: FinishedRun, tmp_path: Path) -> None:
    root = tmp_path / "tables"
    shutil.copytree(finished.tables.root, root)
    tables = Tables(finished.tables.spark, str(root))
    before = {t.name: tables.version(t) for t in definitions.ALL if t.name != "runs"}
    run = run_everything(tables, finished.lake.folder, load_config())
    assert run.run_id not in {row["run_id"] for row in rows(finished.tables.root, "runs")}
    assert {t.name: tables.version(t) for t in definitions.ALL if t.name != "runs"} == before
    marks = {
        r["step"]: r["status"] for r in rows(root, "runs") if r["run_id"] == run.run_id and r["status"] != "started"
    }
    assert (marks["index"], marks["match"], marks["cluster"]) == ("unchanged", "unchanged", "unchanged")


@pytest.mark.slow
def test_new_changed_and_vanished_files_are_noticed(spark: SparkSession, tmp_path: Path) -> None:
    lake = build_tiny_lake(tmp_path / "lake")
    config = load_config(None, ["extract.embedding=off", "extract.max_reject_share=1"])
    tables = Tables(spark, str(tmp_path / "tables"))
    tables.create_missing()
    run_everything(tables, lake.folder, config)
    first = {r["uri"]: r["image_id"] for r in rows(tables.root, "images")}

    a, b, c = sorted(p for p in lake.truth if p not in {x for group in lake.same_bytes for x in group})[:3]
    (lake.folder / a).unlink()
    shutil.copy(lake.folder / c, lake.folder / b)
    shutil.copy(lake.folder / c, lake.folder / "new.bin")
    os.utime(lake.folder / b, (1, 1))
    run_everything(tables, lake.folder, config)

    prefix = f"file://{lake.folder.resolve()}/"
    second = {r["uri"]: r["image_id"] for r in rows(tables.root, "images")}
    assert set(second) == set(first) - {prefix + a} | {prefix + "new.bin"}
    assert all(second[uri] == first[uri] for uri in set(first) & set(second))
    features = {r["image_id"]: r for r in rows(tables.root, "features")}
    assert set(features) == set(second.values())
    hashes = {features[second[prefix + p]]["content_hash"] for p in (b, c, "new.bin")}
    assert len(hashes) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "variation", [["extract.slice_images=7", "extract.task_images=3"], ["extract.fetch_threads=1"]]
)
def test_slices_tasks_and_threads_change_no_row(finished: FinishedRun, tmp_path: Path, variation: list[str]) -> None:
    tables = Tables(finished.tables.spark, str(tmp_path / "tables"))
    tables.create_missing()
    run_everything(tables, finished.lake.folder, load_config(None, variation))
    found, expected = contents(tables.root), contents(finished.tables.root)
    for table in expected:
        assert found[table] == expected[table], table


@pytest.mark.parametrize(
    ("listed_hours_ago", "match_goes_on", "done"),
    [(1, False, True), (9, False, False), (9, True, True), (None, True, False)],
)
def test_a_match_that_goes_on_is_finished_before_the_lake_is_listed_again(
    listed_hours_ago: float | None, *, match_goes_on: bool, done: bool
) -> None:
    def is_complete(step: str, within_hours: float = math.inf) -> bool:
        return step == "inventory" and listed_hours_ago is not None and listed_hours_ago <= within_hours

    tables = SimpleNamespace(progress_names=lambda step: ["a match"] if match_goes_on else [])
    run = SimpleNamespace(is_complete=is_complete, tables=tables)
    assert pipeline._is_done(Config(), run, pipeline.find_step("inventory")) == done  # type: ignore[arg-type]


def test_a_run_whose_logs_cannot_be_put_together_is_complete_and_one_that_lost_its_lease_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(error: Exception) -> Callable[..., bool]:
        def compact(*_: object) -> bool:
            raise error

        return compact

    monkeypatch.setattr(pipeline, "compact", fails(OSError("the store is slow")))
    pipeline._compact_logs(SimpleNamespace())  # type: ignore[arg-type]
    assert "runs: its small files stay until the next run: the store is slow" in caplog.text
    monkeypatch.setattr(pipeline, "compact", fails(LeaseError("taken over")))
    with pytest.raises(LeaseError):
        pipeline._compact_logs(SimpleNamespace())  # type: ignore[arg-type]
