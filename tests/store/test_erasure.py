"""A table without its past: rows that were deleted are in no file of its folder, and it can be read and written on."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable
from fabricated import fill, frame, listed
from image_traces import Traces, found_in

from dedup_spark.errors import TableError
from dedup_spark.store import delta_log, erasure
from dedup_spark.store.erasure import erase_past
from dedup_spark.store.schema import CLUSTERS, IMAGES
from dedup_spark.store.tables import Tables

GONE = 7_777_777_777_777
TRACES = Traces({GONE}, {"gone.jpg"}, set())


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


def test_the_properties_of_a_table_survive_a_kill(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_past(tables)
    name = tables.sql_source(IMAGES)
    tables.spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 3 days')")
    before = properties(tables, name)

    def killed(path: str, version: int) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure.delta_log, "drop_before", killed)
        with pytest.raises(KeyboardInterrupt):
            erase_past(tables, name)
    assert properties(tables, name) != before
    erase_past(tables, name)
    assert properties(tables, name) == before
    assert ids(Path(tables.root)) == [1, 2]


def test_a_checkpoint_that_was_not_written_is_told_and_nothing_of_the_log_goes(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = with_a_past(tables)
    monkeypatch.setattr(delta_log, "newest_checkpoint", lambda names: None)
    with pytest.raises(TableError, match="checkpoint was not written"):
        erase_past(tables, tables.sql_source(IMAGES))
    assert ids(root) == [1, 2]
    assert f"{0:020}.json" in {path.name for path in (root / "images/_delta_log").iterdir()}


def test_a_log_that_a_catalog_keeps_is_not_touched(tables: Tables) -> None:
    root = with_a_past(tables)
    (root / "images/_delta_log/_staged_commits").mkdir()
    (root / "images/_delta_log/_staged_commits/x.json").touch()
    with pytest.raises(TableError, match="kept by its catalog"):
        erase_past(tables, tables.sql_source(IMAGES))
