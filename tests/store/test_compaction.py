"""Files of tables stay few, at the cost of what was added, and what look-ups read stays."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from fabricated import fill, frame, readable
from pyspark.sql import functions as F
from table_contents import rows

from dedup_spark.commands import maintain as maintaining
from dedup_spark.commands.maintain import hours_to_keep, maintain, remembered_hours, versions_of_lookups
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError
from dedup_spark.spark.session import setting_of
from dedup_spark.store import compaction
from dedup_spark.store.compaction import Files, compact, compacting, files_of
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import ALL, FEATURES, IMAGES, LOGS, PAIRS, RUNS
from dedup_spark.store.tables import Tables

_MIB = 1 << 20


@pytest.mark.parametrize(
    ("n_files", "n_bytes", "too_many"),
    [(8, 0, False), (9, 0, True), (9, 1024 * _MIB, True), (9, 1025 * _MIB, False), (700_000, 10**12, True)],
)
def test_one_file_for_each_128_mb_is_not_too_many(n_files: int, n_bytes: int, *, too_many: bool) -> None:
    assert Files(n_files, n_bytes).are_too_many == too_many


def append(tables: Tables, ids: range, n_files: int) -> None:
    made = frame(tables.spark, FEATURES.schema, [readable(i, reading_key=i, thumbnail=b"x" * 500) for i in ids])
    tables.append(FEATURES, made.repartition(n_files, "image_id"))


def test_small_files_are_put_together_and_no_row_changes(tables: Tables) -> None:
    append(tables, range(20), 2)
    assert not compact(tables, FEATURES)
    append(tables, range(20, 200), 12)
    before = rows(tables.root, "features")
    block = setting_of(tables.spark, "parquet.block.size")
    assert compact(tables, FEATURES)
    assert files_of(tables, FEATURES).n_files == 1
    assert sorted(rows(tables.root, "features"), key=str) == sorted(before, key=str)
    assert setting_of(tables.spark, "parquet.block.size") == block
    version = tables.version(FEATURES)
    assert not compact(tables, FEATURES)
    assert tables.version(FEATURES) == version


@pytest.mark.slow
def test_what_was_put_together_is_not_written_again(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten nights: each writes what it added, and no more than one file of the nights before."""
    small = 40_000
    monkeypatch.setattr(compaction, "SMALL_BYTES", small)
    monkeypatch.setitem(compaction._SETTINGS, "spark.databricks.delta.optimize.minFileSize", str(small))
    monkeypatch.setitem(compaction._SETTINGS, "spark.databricks.delta.optimize.maxFileSize", str(2 * small))
    for night in range(10):
        old = set(DeltaTable(f"{tables.root}/features").file_uris())
        append(tables, range(1000 * night, 1000 * night + 100), 10)
        compact(tables, FEATURES)
        gone = old - set(DeltaTable(f"{tables.root}/features").file_uris())
        assert sum(Path(uri).stat().st_size >= small for uri in gone) == 0
    found = files_of(tables, FEATURES)
    assert found.n_files <= max(8, -(-found.n_bytes // small))
    assert len(rows(tables.root, "features")) == 1000


def test_appends_go_on_while_files_are_put_together(tables: Tables) -> None:
    with compacting(tables, FEATURES) as appended:
        for part in range(4):
            append(tables, range(100 * part, 100 * part + 100), 10)
            appended()
    assert files_of(tables, FEATURES).n_files <= 8
    assert {r["image_id"] for r in rows(tables.root, "features")} == set(range(400))


def test_the_log_of_runs_which_commands_without_the_lease_write_too_stays_small(tables: Tables) -> None:
    for n in range(12):
        end_of_cluster(tables, f'{{"clusters": {n}}}')
    before = rows(tables.root, "runs")
    assert compact(tables, RUNS)
    assert files_of(tables, RUNS).n_files == 1
    assert sorted(rows(tables.root, "runs"), key=str) == sorted(before, key=str)
    assert RUNS in LOGS


def test_row_groups_are_small_so_that_one_thumbnail_is_read_without_thousands(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(compaction._SETTINGS, "parquet.block.size", "100000")
    made = frame(tables.spark, FEATURES.schema, [readable(i) for i in range(2000)])
    noise = F.unhex(F.concat(*[F.sha2(F.concat(F.col("image_id"), F.lit(i)), 512) for i in range(16)]))
    tables.append(FEATURES, made.withColumn("thumbnail", noise).repartition(10, "image_id"))
    compact(tables, FEATURES)
    [uri] = DeltaTable(f"{tables.root}/features").file_uris()
    assert pq.ParquetFile(uri).num_row_groups > 5


def test_maintain_says_and_does_the_same_for_every_table(tables: Tables) -> None:
    append(tables, range(50), 12)
    said = {one.table: one for one in maintain(tables, dry_run=True)}
    version = tables.version(FEATURES)
    assert (said["features"].n_files, said["features"].n_files_left) == (12, None)
    assert tables.version(FEATURES) == version
    done = {one.table: one for one in maintain(tables)}
    assert list(done) == [table.name for table in ALL]
    assert (done["features"].n_files, done["features"].n_files_left) == (12, 1)
    assert {one.kept_hours for one in done.values()} == {None}
    with pytest.raises(ConfigError, match=r"--keep-days 0: at least 1"):
        maintain(tables, with_vacuum=True, keep_days=0)


@pytest.mark.slow
def test_the_next_run_takes_what_was_put_together_for_unchanged(tables: Tables) -> None:
    append(tables, range(50), 12)
    run = Run(tables, Config(), "/lake", "night")

    def fingerprint() -> str:
        return Run(tables, Config(), "/lake", "next").fingerprint(run.versions(FEATURES, PAIRS), sections=("index",))

    before, version = fingerprint(), tables.version(FEATURES)
    maintain(tables, with_vacuum=True)
    assert tables.version(FEATURES) == version + 1  # a VACUUM makes no commit
    assert fingerprint() == before
    append(tables, range(50, 62), 12)
    changed = fingerprint()
    assert changed != before
    maintain(tables)
    maintain(tables)
    assert fingerprint() == changed


def test_versions_are_kept_as_long_as_delta_remembers_their_files(tables: Tables) -> None:
    assert remembered_hours(tables, FEATURES) == 168
    with pytest.raises(ConfigError, match=r"--keep-days 30: at most 7, as Delta remembers .*deletedFileRetention"):
        maintain(tables, with_vacuum=True, keep_days=30, dry_run=True)
    for table in ALL:
        source, name = tables.sql_source(table), "delta.deletedFileRetentionDuration"
        tables.spark.sql(f"ALTER TABLE {source} SET TBLPROPERTIES ('{name}' = 'interval 4 weeks')")
    assert remembered_hours(tables, FEATURES) == 28 * 24
    done = maintain(tables, with_vacuum=True, keep_days=28, dry_run=True)
    assert {one.kept_hours for one in done} == {28 * 24}


def end_of_cluster(tables: Tables, versions: str) -> None:
    row = {"run_id": "r", "step": "cluster", "status": "complete", "notes": f'{{"table_versions": {versions}}}'}
    marks = frame(tables.spark, RUNS.schema, [row]).withColumn("at", F.current_timestamp())
    tables.append(RUNS, marks)


class _InTenDays(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=10)


@pytest.mark.slow
def test_a_vacuum_keeps_what_look_ups_read_however_old_it_is(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is ten days ahead the version was replaced ten days ago, and its files would go."""
    fill(tables, feature_rows=[readable(1)])
    read = tables.version(FEATURES)
    end_of_cluster(tables, f'{{"features": {read}, "clusters": 0, "images": {tables.version(IMAGES)}}}')
    tables.overwrite(FEATURES, tables.read(FEATURES).withColumn("format", F.lit("PNG")))
    assert versions_of_lookups(tables)["features"] == read
    assert hours_to_keep(tables, IMAGES, tables.version(IMAGES), 7) == hours_to_keep(tables, PAIRS, None, 7) == 168
    assert hours_to_keep(tables, FEATURES, read, 1) == 24  # replaced a moment ago
    monkeypatch.setattr(maintaining, "datetime", _InTenDays)
    assert 240 < hours_to_keep(tables, FEATURES, read, 7) < 242
    done = {one.table: one.kept_hours for one in maintain(tables, with_vacuum=True, keep_days=1)}
    assert (done["features"], done["pairs"]) == (None, 24)  # Delta has forgotten, as it is taken for ten days old
    assert DeltaTable(f"{tables.root}/features", version=read).to_pyarrow_table().num_rows == 1
