"""A table without its past: rows that were deleted are in no file of its folder, and it can be read and written on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable
from fabricated import fill, frame, listed
from image_traces import Traces, found_in
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.errors import TableError
from dedup_spark.store import delta_log, erasure
from dedup_spark.store.erasure import erase_past
from dedup_spark.store.schema import CLUSTERS, IMAGES
from dedup_spark.store.tables import Tables

GONE = 7_777_777_777_777
TRACES = Traces({GONE}, {"gone.jpg"}, set())


@pytest.fixture(autouse=True)
def statistics(spark: SparkSession) -> Iterator[None]:
    """Delta writes the least and greatest ids of a file into its log, as it does for users; other tests do without."""
    name = "spark.databricks.delta.stats.collect"
    before = spark.conf.get(name)
    spark.conf.set(name, "true")
    yield
    spark.conf.set(name, before)


def with_a_past(tables: Tables) -> Path:
    """Images of which one was deleted, and change data of a cluster in which it was."""
    fill(tables, [listed(1), listed(GONE, uri="file:///lake/gone.jpg"), listed(2)])
    members = [{"image_id": n, "cluster_id": GONE, "uri": "file:///lake/gone.jpg"} for n in (1, GONE)]
    tables.append(CLUSTERS, frame(tables.spark, CLUSTERS.schema, members))
    tables.upsert(CLUSTERS, frame(tables.spark, CLUSTERS.schema, [{"image_id": 1, "cluster_id": 1, "uri": "a"}]))
    gone = frame(tables.spark, "image_id bigint", [{"image_id": GONE}])
    for table in (IMAGES, CLUSTERS):
        tables.delete(table, gone)
    return Path(tables.root)


def properties(tables: Tables, name: str) -> dict[str, str]:
    return {row["key"]: row["value"] for row in tables.spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}


def ids(root: Path) -> list[int]:
    """By another implementation."""
    return sorted(DeltaTable(root / "images").to_pyarrow_table()["image_id"].to_pylist())


def test_nothing_of_a_deleted_row_is_left_in_data_change_data_and_log(tables: Tables) -> None:
    root = with_a_past(tables)
    places = {Path(name).parts[0] for name in found_in(root, TRACES)}
    assert places == {"images", "clusters"}
    assert any("_change_data" in name for name in found_in(root, TRACES))
    for table in (IMAGES, CLUSTERS):
        before = properties(tables, tables.sql_source(table)), tables.version(table)
        assert erase_past(tables, tables.sql_source(table)) > 0
        assert properties(tables, tables.sql_source(table)) == before[0]
        assert tables.version(table) > before[1]
    assert found_in(root, TRACES) == {}
    assert ids(root) == [1, 2]
    fill(tables, [listed(3)])
    assert ids(root) == [1, 2, 3]
    assert sorted(row["image_id"] for row in tables.read(IMAGES).collect()) == [1, 2, 3]


@pytest.mark.slow
def test_the_properties_of_a_table_survive_a_kill(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_past(tables)
    name = tables.sql_source(IMAGES)
    tables.spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 3 days')")
    before = properties(tables, name)

    def killed(path: str, version: int) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure.delta_log, "drop_before", killed)
        with pytest.raises(KeyboardInterrupt), erasure.under_way(tables):
            erase_past(tables, name)
    assert properties(tables, name) != before
    with erasure.under_way(tables):
        erase_past(tables, name)
    assert properties(tables, name) == before
    assert ids(Path(tables.root)) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["_delete_unnamed", "_shorten_log"])
def test_whoever_writes_next_gives_a_table_its_own_properties_back(
    part: str, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_past(tables)
    name = tables.sql_source(IMAGES)
    before = properties(tables, name)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure, part, killed)
        with pytest.raises(KeyboardInterrupt), erasure.under_way(tables):
            erase_past(tables, name)
    assert properties(tables, name)["delta.deletedFileRetentionDuration"] == "interval 0 hours"
    erasure.end_killed(tables)
    assert properties(tables, name) == before
    erasure.end_killed(tables)  # nothing is to be done
    assert not (Path(tables.root) / "_forgotten/erasing").exists()


@pytest.mark.slow
def test_a_commit_that_was_begun_before_fails_and_leaves_nothing(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The properties change before the files go: a commit that read the version before conflicts with that."""
    with_a_past(tables)
    order: list[str] = []
    sql = type(tables.spark).sql

    def noted(spark: SparkSession, query: str) -> DataFrame:
        order.append(query.split()[0])
        return sql(spark, query)

    monkeypatch.setattr(type(tables.spark), "sql", noted)
    erase_past(tables, tables.sql_source(IMAGES))
    assert order.index("ALTER") < order.index("VACUUM")


@pytest.mark.slow
def test_files_that_look_newer_than_now_go_as_soon_as_the_clock_has_come_so_far(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = with_a_past(tables)
    named = {Path(uri).name for uri in tables.read(IMAGES).inputFiles()}
    [old, *_] = [path for path in (root / "images").glob("*.parquet") if path.name not in named]
    os.utime(old, (time.time() + 600, time.time() + 600))
    monkeypatch.setattr(erasure, "_SECONDS_AHEAD", 0.0)
    with pytest.raises(TableError, match="clock of the store is ahead"):
        erase_past(tables, tables.sql_source(IMAGES))
    os.utime(old, (time.time() + 5, time.time() + 5))
    monkeypatch.setattr(erasure, "_SECONDS_AHEAD", 120.0)
    erase_past(tables, tables.sql_source(IMAGES))
    assert not old.exists()
    assert found_in(root / "images", TRACES) == {}


@pytest.mark.slow
def test_a_checkpoint_that_was_not_written_is_told_and_nothing_of_the_log_goes(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = with_a_past(tables)
    monkeypatch.setattr(delta_log, "newest_checkpoint", lambda names: None)
    with pytest.raises(TableError, match="checkpoint was not written"):
        erase_past(tables, tables.sql_source(IMAGES))
    assert ids(root) == [1, 2]
    assert f"{0:020}.json" in {path.name for path in (root / "images/_delta_log").iterdir()}


def test_a_log_that_a_catalog_keeps_stays_and_the_files_of_older_versions_go(tables: Tables) -> None:
    root = with_a_past(tables)
    (root / "images/_delta_log/_staged_commits").mkdir(exist_ok=True)
    (root / "images/_delta_log/_staged_commits/x.json").touch()
    before = properties(tables, tables.sql_source(IMAGES))
    assert erase_past(tables, tables.sql_source(IMAGES)) is None
    assert {Path(name).parts[0] for name in found_in(root / "images", TRACES)} == {"_delta_log"}
    assert properties(tables, tables.sql_source(IMAGES)) == before
    assert f"{0:020}.json" in {path.name for path in (root / "images/_delta_log").iterdir()}


@pytest.mark.slow
def test_a_table_with_checkpoints_of_the_newer_kind_gets_a_classic_one_for_the_time(tables: Tables) -> None:
    root = with_a_past(tables)
    name = tables.sql_source(IMAGES)
    tables.spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.checkpointPolicy' = 'v2')")
    before = properties(tables, name)
    assert not delta_log.has_sidecars(str(root / "images"))
    assert erase_past(tables, name)
    assert properties(tables, name) == before
    assert found_in(root / "images", TRACES) == {}
    assert sorted(row["image_id"] for row in tables.read(IMAGES).collect()) == [1, 2]
