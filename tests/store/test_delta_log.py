"""The log of a Delta table without its past: what goes, and that another implementation reads the table as before."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dedup_spark.store import delta_log
from dedup_spark.store.delta_sql import is_table, newest_commit

COMMIT = "{:020}.json"


def written(path: Path, n_commits: int = 3) -> DeltaTable:
    """A table whose first commit adds 77777, which the second takes away, with a checkpoint at the last one."""
    write_deltalake(path, pa.table({"image_id": [77777, 1]}))
    write_deltalake(path, pa.table({"image_id": [1, 2]}), mode="overwrite")
    for n in range(n_commits - 2):
        write_deltalake(path, pa.table({"image_id": [10 + n]}), mode="append")
    table = DeltaTable(path)
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    table = DeltaTable(path)
    table.create_checkpoint()
    return table


def names(path: Path) -> list[str]:
    return sorted(p.name for p in (path / "_delta_log").iterdir())


def test_what_is_before_the_checkpoint_goes_and_the_table_is_read_as_before(tmp_path: Path) -> None:
    table = written(tmp_path / "t")
    before, version = sorted(table.to_pyarrow_table()["image_id"].to_pylist()), table.version()
    log = tmp_path / "t" / "_delta_log"
    assert any(b"77777" in path.read_bytes() for path in log.iterdir())  # in statistics of a file that is gone
    assert delta_log.drop_before(str(tmp_path / "t"), version) == version
    assert not any(b"77777" in path.read_bytes() for path in log.iterdir())
    again = DeltaTable(tmp_path / "t")
    assert (sorted(again.to_pyarrow_table()["image_id"].to_pylist()), again.version()) == (before, version)
    assert is_table(str(tmp_path / "t"))
    assert newest_commit(str(tmp_path / "t")) == version


def test_the_table_can_be_written_afterwards_and_its_versions_go_on(tmp_path: Path) -> None:
    version = written(tmp_path / "t").version()
    delta_log.drop_before(str(tmp_path / "t"), version)
    write_deltalake(tmp_path / "t", pa.table({"image_id": [99]}), mode="append")
    assert DeltaTable(tmp_path / "t").version() == version + 1
    assert 99 in DeltaTable(tmp_path / "t").to_pyarrow_table()["image_id"].to_pylist()


@pytest.mark.parametrize("n_deleted", range(1, 6))
def test_a_deletion_that_is_killed_leaves_a_readable_table_and_a_second_one_ends_it(
    n_deleted: int, tmp_path: Path
) -> None:
    table = written(tmp_path / "t", 5)
    before, version = table.to_pyarrow_table().num_rows, table.version()
    older = delta_log.older_than(names(tmp_path / "t"), version)
    for name in older[:n_deleted]:
        (tmp_path / "t" / "_delta_log" / name).unlink()
    assert DeltaTable(tmp_path / "t").to_pyarrow_table().num_rows == before
    delta_log.drop_before(str(tmp_path / "t"), version)
    assert delta_log.older_than(names(tmp_path / "t"), version) == []
    assert DeltaTable(tmp_path / "t").to_pyarrow_table().num_rows == before


def test_all_kinds_of_files_of_a_version_are_older_and_none_of_the_version_itself() -> None:
    kinds = [
        ".json", ".crc", ".checkpoint.parquet", ".checkpoint.0000000001.0000000002.parquet",
        ".checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json", f".{9:020}.compacted.json",
    ]  # fmt: skip
    hidden = [f".{4:020}.json.crc", f".{4:020}.json.8d7a.tmp"]
    old, new = ([f"{version:020}{kind}" for kind in kinds] for version in (4, 5))
    others = ["_last_checkpoint", "._last_checkpoint.crc", "_sidecars", "_commits", f".{5:020}.json.8d7a.tmp"]
    assert set(delta_log.older_than([*old, *new, *hidden, *others], 5)) == {*old, *hidden}


@pytest.mark.parametrize(
    ("held", "version"),
    [
        ([], None),
        ([COMMIT.format(3), f"{3:020}.crc"], None),
        ([f"{3:020}.checkpoint.parquet", f"{12:020}.checkpoint.parquet"], 12),
        ([f"{3:020}.checkpoint.parquet", f"{12:020}.checkpoint.0000000001.0000000002.parquet"], 3),
        ([f"{12:020}.checkpoint.000000000{n}.0000000002.parquet" for n in (1, 2)], 12),
        ([f"{12:020}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet", f"{3:020}.checkpoint.parquet"], 3),
    ],
)
def test_the_newest_checkpoint_is_the_last_of_which_all_parts_are_there(held: list[str], version: int | None) -> None:
    assert delta_log.newest_checkpoint(held) == version


def test_parts_of_checkpoints_that_name_no_version_are_found_and_deleted(tmp_path: Path) -> None:
    table = tmp_path / "t"
    written(table)
    assert not delta_log.has_sidecars(str(table))
    (table / "_delta_log" / "_sidecars").mkdir()
    (table / "_delta_log" / "_sidecars" / "016ae953.parquet").write_bytes(b"77777")
    assert delta_log.has_sidecars(str(table))
    delta_log.drop_sidecars(str(table))
    assert not delta_log.has_sidecars(str(table))


def test_files_of_data_that_the_newest_version_does_not_name_are_found(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"image_id": [77777, 1]}))
    [old] = [path.name for path in (tmp_path / "t").glob("*.parquet")]
    write_deltalake(tmp_path / "t", pa.table({"image_id": [1, 2]}), mode="overwrite")
    held = [path.name for path in (tmp_path / "t").iterdir()]
    named = {uri.rpartition("/")[2] for uri in DeltaTable(tmp_path / "t").file_uris()}
    assert delta_log.unnamed([*held, "cdc-0.c000.snappy.parquet", "deletion_vector_1.bin"], named) == sorted(
        [old, "cdc-0.c000.snappy.parquet", "deletion_vector_1.bin"]
    )
    others = ["_delta_log", "_change_data", f".{old}.crc", "_made_by_hand.parquet", "note.txt"]
    assert delta_log.unnamed(others, named) == []
