"""The reader and writer of Delta, by path and in a catalog schema; what is written is read back by another library."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from fabricated import fill, frame, listed, readable, rejected
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError, LeaseError, TableError
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store import delta_sql, lease
from dedup_spark.store import tables as tables_module
from dedup_spark.store.schema import ALL, CENTROIDS, CLUSTERS, FEATURES, IMAGES, PAIRS, RUNS, SHARDS, Table
from dedup_spark.store.table_format import Format, write_format
from dedup_spark.store.tables import Tables, parts_of_name, quoted_name
from dedup_spark.store.view_definitions import VIEWS
from dedup_spark.store.views import create_views, open_views
from dedup_spark.vocabulary import StepName

Row = dict[str, Any]


def pair(a: int, b: int, **facts: Any) -> Row:
    return {"image_id_a": a, "image_id_b": b, "method": "embedding", "engine": "sketch",
            "similarity": 0.5, "hamming_bits": 9} | facts  # fmt: skip


def pairs(tables: Tables, *made: Row) -> DataFrame:
    return frame(tables.spark, PAIRS.schema, made)


def stored(tables: Tables) -> set[tuple]:
    return {tuple(r) for r in tables.read(PAIRS).collect()}


def as_tuples(*made: Row) -> set[tuple]:
    return {tuple(row.values()) for row in made}


# --- by path and in a catalog alike ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    """Tables in a schema of the session's default catalog; in a session of its own, as USE would reach into others."""
    own = spark.newSession()
    own.sql("CREATE SCHEMA tables_test")
    made = Tables(own, str(tmp_path_factory.mktemp("catalog")), "tables_test")
    made.create_missing()
    yield made
    own.sql("DROP SCHEMA tables_test CASCADE")


@pytest.fixture(params=["path", pytest.param("database", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, spark: SparkSession) -> Tables:
    """Tables whose `pairs` are empty. `spark`: the fixtures asked for by name start it, which pytest cannot know."""
    if request.param == "path":
        return request.getfixturevalue("tables")
    shared: Tables = request.getfixturevalue("catalog")
    shared.overwrite(PAIRS, pairs(shared))
    return shared


def test_appended_rows_are_added_and_overwritten_ones_replaced(place: Tables) -> None:
    place.append(PAIRS, pairs(place, pair(1, 2)))
    place.append(PAIRS, pairs(place, pair(3, 4), pair(-5, 6, similarity=None)))
    assert stored(place) == as_tuples(pair(1, 2), pair(3, 4), pair(-5, 6, similarity=None))
    place.overwrite(PAIRS, pairs(place, pair(7, 8)))
    assert stored(place) == as_tuples(pair(7, 8))
    place.overwrite(PAIRS, place.read(PAIRS).where("false"))
    assert stored(place) == set()


def test_rows_of_one_value_are_replaced_and_the_others_stay(place: Tables) -> None:
    odd = "it's a \\ name"
    place.append(PAIRS, pairs(place, pair(1, 2, method=odd), pair(1, 3, method=odd), pair(4, 5)))
    place.replace(PAIRS, pairs(place, pair(1, 2, method=odd, hamming_bits=3)), method=odd)
    assert stored(place) == as_tuples(pair(1, 2, method=odd, hamming_bits=3), pair(4, 5))
    place.replace(PAIRS, pairs(place), image_id_a=4)
    assert stored(place) == as_tuples(pair(1, 2, method=odd, hamming_bits=3))


def test_a_table_may_be_replaced_by_what_is_computed_from_it(place: Tables) -> None:
    place.append(PAIRS, pairs(place, pair(1, 2), pair(3, 4)))
    place.overwrite(PAIRS, place.read(PAIRS).where("image_id_a = 3"))
    assert stored(place) == as_tuples(pair(3, 4))


def test_an_upsert_replaces_rows_with_the_same_key_and_inserts_the_others(place: Tables) -> None:
    place.append(PAIRS, pairs(place, pair(1, 2), pair(1, 3), pair(4, 5)))
    for _ in range(2):  # a repetition changes nothing
        place.upsert(PAIRS, pairs(place, pair(1, 3, method="phash", similarity=None), pair(1, 4)))
    assert stored(place) == as_tuples(pair(1, 2), pair(1, 3, method="phash", similarity=None), pair(1, 4), pair(4, 5))


def test_an_update_sets_the_columns_given_in_rows_that_are_there_and_inserts_none(place: Tables) -> None:
    place.append(PAIRS, pairs(place, pair(1, 2), pair(1, 3)))
    new = "image_id_a bigint, image_id_b bigint, method string, hamming_bits int"
    place.update(PAIRS, local_relation(place.spark, [(1, 3, "phash", 2), (7, 8, "phash", 3)], new))
    assert stored(place) == as_tuples(pair(1, 2), pair(1, 3, method="phash", hamming_bits=2))


def test_an_update_of_some_rows_leaves_the_others_with_their_keys(place: Tables) -> None:
    place.append(PAIRS, pairs(place, pair(1, 2), pair(1, 3)))
    new = local_relation(place.spark, [(1, 2, 5), (1, 3, 6)], "image_id_a bigint, image_id_b bigint, hamming_bits int")
    place.update(PAIRS, F.broadcast(new), where="old.image_id_b > 2")
    assert stored(place) == as_tuples(pair(1, 2), pair(1, 3, hamming_bits=6))


@pytest.fixture
def broadcasts_if_told(spark: SparkSession) -> Iterator[None]:
    """Spark broadcasts what a hint says and nothing else, however small it is."""
    name = "spark.sql.autoBroadcastJoinThreshold"
    before = spark.conf.get(name)
    spark.conf.set(name, "-1")
    yield
    spark.conf.set(name, before)


def joins_of(spark: SparkSession, write: Callable[[], object], column: str) -> set[str]:
    """The kinds of join in the physical plans that ran while `write` did and that name `column`."""
    jvm_context, store = spark.sparkContext._jsc.sc(), spark._jsparkSession.sharedState().statusStore()

    def executions() -> dict[int, str]:
        jvm_context.listenerBus().waitUntilEmpty()
        listed = store.executionsList()
        found = (listed.apply(i) for i in range(listed.size()))
        return {execution.executionId(): execution.physicalPlanDescription() for execution in found}

    before = executions()
    write()
    plans = [plan for number, plan in executions().items() if number not in before and column in plan]
    return {kind for plan in plans for kind in re.findall(r"\b\w+Join\b", plan)}


@pytest.mark.slow
@pytest.mark.usefixtures("broadcasts_if_told")
@pytest.mark.parametrize("is_told", [True, False])
def test_an_update_shuffles_no_row_of_the_table_where_its_rows_are_broadcast(tables: Tables, is_told: bool) -> None:
    """Delta joins twice, to find the files and to write them anew, and must keep the hint in both."""
    tables.append(PAIRS, pairs(tables, pair(1, 2), pair(1, 3)))
    new = local_relation(tables.spark, [(1, 3, 6)], "image_id_a bigint, image_id_b bigint, hamming_bits int")
    given = F.broadcast(new) if is_told else new
    found = joins_of(tables.spark, lambda: tables.update(PAIRS, given), "image_id_a")
    assert found == {"BroadcastHashJoin" if is_told else "SortMergeJoin"}
    assert stored(tables) == as_tuples(pair(1, 2), pair(1, 3, hamming_bits=6))


@pytest.mark.slow
@pytest.mark.usefixtures("broadcasts_if_told")
def test_deleting_progress_shuffles_no_row_of_it(tables: Tables) -> None:
    rows_of_work = local_relation(tables.spark, [(i, i * i) for i in range(20)], "item int, n_found int")
    tables.add_progress(StepName.EMBED, "work", rows_of_work)
    done = local_relation(tables.spark, [(3,), (4,)], "item int")
    found = joins_of(tables.spark, lambda: tables.delete_progress(StepName.EMBED, "work", done), "item")
    assert found == {"BroadcastHashJoin"}
    left = tables.read_progress(StepName.EMBED, "work")
    assert left is not None
    assert left.count() == 18


def test_a_delete_takes_the_rows_of_its_keys_and_no_others(place: Tables) -> None:
    place.append(PAIRS, pairs(place, pair(1, 2), pair(1, 3), pair(2, 3), pair(9, 10)))
    place.delete(PAIRS, local_relation(place.spark, [(1, 3), (7, 8)], "image_id_a bigint, image_id_b bigint"))
    assert stored(place) == as_tuples(pair(1, 2), pair(2, 3), pair(9, 10))
    place.delete(PAIRS, local_relation(place.spark, [(2,), (9,)], "image_id_a bigint"))
    assert stored(place) == as_tuples(pair(1, 2))


def test_columns_may_come_in_any_order(place: Tables) -> None:
    made = pairs(place, pair(1, 2))
    place.append(PAIRS, made.select(sorted(made.columns)))
    assert stored(place) == as_tuples(pair(1, 2))


def test_rows_that_do_not_fit_are_refused_and_change_nothing(tables: Tables) -> None:
    fitting = pairs(tables, pair(3, 4))
    misfits = {
        "missing method string, similarity float; unexpected none": fitting.drop("method", "similarity"),
        "missing method string; unexpected how string": fitting.withColumnRenamed("method", "how"),
        "missing none; unexpected more int": fitting.selectExpr("*", "1 AS more"),
        "missing similarity float; unexpected similarity double": fitting.withColumn(
            "similarity", fitting["similarity"].cast("double")
        ),
    }
    for says, rows in misfits.items():
        for write in (tables.append, tables.overwrite, tables.upsert):
            with pytest.raises(TableError, match=f"rows for 'pairs' do not fit it: {says}"):
                write(PAIRS, rows)
    assert tables.version(PAIRS) == 0


def test_the_version_changes_with_each_commit_and_not_with_a_look(place: Tables) -> None:
    versions = [place.version(PAIRS)]
    place.append(PAIRS, pairs(place, pair(1, 2)))
    versions.append(place.version(PAIRS))
    stored(place)
    place.create_missing()
    assert place.version(PAIRS) == versions[1]
    place.overwrite(PAIRS, pairs(place, pair(1, 2)))
    versions.append(place.version(PAIRS))
    place.upsert(PAIRS, pairs(place, pair(1, 2, method="phash")))
    versions.append(place.version(PAIRS))
    place.delete(PAIRS, local_relation(place.spark, [(1,)], "image_id_a bigint"))
    versions.append(place.version(PAIRS))
    assert versions == sorted(set(versions))


def test_the_version_is_that_of_another_reader_whatever_else_lies_in_the_log(tables: Tables) -> None:
    for n in range(3):
        tables.append(PAIRS, pairs(tables, pair(1, 2 + n)))
    assert tables.version(PAIRS) == DeltaTable(f"{tables.root}/pairs").version() == 3
    log, number = Path(tables.root, "pairs", "_delta_log"), f"{7:020d}"
    staged = log / "_staged_commits" / f"{4:020d}.0b1e.json"  # while one is there Delta is asked
    staged.parent.mkdir(exist_ok=True)
    staged.touch()
    assert tables.version(PAIRS) == 3
    staged.unlink()
    for end in ("crc", "checkpoint.parquet", f"{number}.compacted.json", "0b1e.json", "checkpoint.0b1e.json"):
        (log / f"{number}.{end}").touch()
    for name in (f".{number}.json.crc", "7.json", "_last_checkpoint"):
        (log / name).touch()
    assert tables.version(PAIRS) == 3


def test_the_comments_are_the_data_dictionary_also_after_rows_were_replaced(place: Tables) -> None:
    for table in (PAIRS, CLUSTERS):  # without and with properties of its own
        place.overwrite(table, place.read(table))
    for table in ALL:
        described = place.spark.sql(f"DESCRIBE TABLE {place.sql_source(table)}").collect()
        columns = [(r["col_name"], r["data_type"], r["comment"]) for r in described if r["data_type"]]
        assert columns == [(n, k.replace(", ", ","), c) for n, k, c in table.columns], table.name
        detail = place.spark.sql(f"DESCRIBE DETAIL {place.sql_source(table)}").first()
        assert detail is not None
        assert detail["description"] == table.comment
        assert table.properties.items() <= detail["properties"].items()
        assert detail["properties"]["delta.dataSkippingStatsColumns"] == ",".join(table.statistics or table.key)


def test_creating_again_changes_nothing(place: Tables) -> None:
    place.append(PAIRS, pairs(place, pair(1, 2)))
    before = {t.name: place.version(t) for t in ALL}
    place.create_missing()
    assert {t.name: place.version(t) for t in ALL} == before
    assert stored(place) == as_tuples(pair(1, 2))


def test_creating_adds_only_what_is_missing(spark: SparkSession, tmp_path: Path) -> None:
    some = Tables(spark, str(tmp_path))
    some.append(PAIRS, pairs(some, pair(1, 2)))
    some.create_missing()
    assert stored(some) == as_tuples(pair(1, 2))
    assert {t.name for t in ALL} <= set(os.listdir(tmp_path))


# --- where there are no tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("folders", ["images/_delta_log", "images/_delta_log/_staged_commits"])
def test_a_table_of_which_a_killed_run_made_only_the_folders_is_made(
    folders: str, tables: Tables, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "tables/images")
    (tmp_path / "tables" / folders).mkdir(parents=True)
    again = Tables(tables.spark, tables.root)
    again.create_missing()
    assert again.read(IMAGES).isEmpty()


@pytest.mark.parametrize("n", [0, 7])
def test_what_a_commit_is_in_is_never_taken_for_a_lost_beginning(n: int, tmp_path: Path) -> None:
    log = tmp_path / "images/_delta_log"
    (log / "_staged_commits").mkdir(parents=True)
    commit, lost = log / f"{n:020d}.json", log / f".{n + 1:020d}.json.88a703b3-6633-40c9.tmp"
    commit.write_text("{}")
    lost.write_text("{}")
    assert not delta_sql.remove_lost_beginning(str(tmp_path / "images"))
    assert sorted(path.name for path in log.iterdir()) == [commit.name]


def test_a_store_that_gives_no_answer_loses_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/answers/images/_delta_log/00000000000000000000.json", b"{}")

    def lost(*_: object, **__: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "ls", lost)
        with pytest.raises(ConnectionResetError):
            delta_sql.remove_lost_beginning("memory://answers/images")
    assert delta_sql.is_table("memory://answers/images")
    store.rm("/answers", recursive=True)


def test_a_table_is_untouched_until_its_first_row_and_only_for_who_created_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    tables = Tables(spark, str(tmp_path / "tables"))
    tables.create_missing()
    assert tables.is_untouched(IMAGES)
    assert tables.rows_now(IMAGES).schema.names == tables.read(IMAGES).schema.names
    assert tables.rows_now(IMAGES).count() == 0
    assert not Tables(spark, tables.root).is_untouched(IMAGES)
    kept = tables.rows_now(FEATURES)
    tables.upsert(IMAGES, frame(spark, IMAGES.schema, [{"image_id": 1, "uri": "a"}]))
    assert not tables.is_untouched(IMAGES)
    assert [row["uri"] for row in tables.rows_now(IMAGES).collect()] == ["a"]
    tables.upsert(IMAGES, frame(spark, IMAGES.schema, [{"image_id": 1, "uri": "b"}, {"image_id": 2, "uri": "c"}]))
    assert sorted(row["uri"] for row in tables.rows_now(IMAGES).collect()) == ["b", "c"]
    assert kept.count() == 0


@pytest.mark.parametrize("table", [IMAGES, RUNS], ids=lambda t: t.name)
def test_reading_before_creation_is_an_error_that_says_where_and_what_to_do(
    spark: SparkSession, tmp_path: Path, table: Table
) -> None:
    for absent, place in (
        (Tables(spark, f"{tmp_path}/"), f"{tmp_path}/{table.name}"),
        (Tables(spark, str(tmp_path), "no_such_schema"), f"no_such_schema.{table.name}"),
    ):
        with pytest.raises(TableError, match=f"table '{table.name}' not found at {place}: run the earlier steps first"):
            absent.read(table)


def test_a_folder_of_other_files_is_not_taken_for_a_table(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(3).write.parquet(str(tmp_path / "images"))
    with pytest.raises(TableError, match="table 'images' not found"):
        Tables(spark, str(tmp_path)).read(IMAGES)


def test_a_place_that_cannot_be_written_is_a_table_error(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(TableError):
        Tables(spark, str(tmp_path / "file" / "tables")).create_missing()


# --- intermediate rows -----------------------------------------------------------------------------------


@pytest.fixture(params=["parquet", "delta"])
def staging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on a disk, and as in an object store: there by Delta, as a rename copies."""
    monkeypatch.setattr(tables_module, "_RENAME_BY_COPYING", ("/",) if request.param == "delta" else ())
    return str(request.param)


@pytest.mark.usefixtures("staging")
def test_staged_rows_are_computed_once_and_stay_as_they_were(tables: Tables) -> None:
    source = [readable(1), rejected(2)]
    draws = frame(tables.spark, FEATURES.schema, source).selectExpr("*", "rand() AS draw")
    staged = tables.stage("draws", draws)
    assert staged.schema.simpleString() == draws.schema.simpleString()
    first, again = ([r["draw"] for r in staged.orderBy("image_id").collect()] for _ in range(2))
    assert first == again
    assert staged.count() == 2


@pytest.mark.usefixtures("staging")
def test_staging_no_rows_keeps_their_columns(tables: Tables) -> None:
    nothing = frame(tables.spark, SHARDS.schema, [])
    staged = tables.stage("nothing", nothing)
    assert (staged.count(), staged.columns) == (0, nothing.columns)


@pytest.mark.usefixtures("staging")
def test_staging_under_a_name_again_replaces_the_rows(tables: Tables) -> None:
    tables.stage("x", tables.spark.range(5)).count()
    assert [r["id"] for r in tables.stage("x", tables.spark.range(7, 8)).collect()] == [7]
    assert len(os.listdir(Path(tables.root, tables.staging))) == 1


@pytest.mark.parametrize(
    ("root", "copies"), [("s3a://b/t", True), ("gs://b/t", True), ("abfss://c@a/t", False), ("/t", False)]
)
def test_staged_files_are_not_renamed_where_a_rename_copies(root: str, *, copies: bool) -> None:
    assert root.startswith(tables_module._RENAME_BY_COPYING) == copies


@pytest.mark.usefixtures("staging")
def test_dropping_what_was_staged_leaves_the_tables(tables: Tables) -> None:
    tables.append(PAIRS, pairs(tables, pair(1, 2)))
    tables.stage("x", tables.spark.range(5))
    tables.stage("y", tables.spark.range(5))
    for _ in range(2):
        tables.drop_staged()
        assert set(os.listdir(tables.root)) == {t.name for t in ALL} | {"_format.json"}
    assert stored(tables) == as_tuples(pair(1, 2))


@pytest.mark.usefixtures("staging")
def test_two_that_stage_the_same_name_do_not_meet(tables: Tables) -> None:
    other = Tables(tables.spark, tables.root)
    mine = tables.stage("x", tables.spark.range(5))
    other.stage("x", tables.spark.range(7))
    other.drop_staged()
    assert mine.count() == 5


def test_what_killed_runs_staged_is_swept_and_what_a_live_plan_staged_is_not(tables: Tables) -> None:
    mine, plan, killed = (Tables(tables.spark, tables.root) for _ in range(3))
    killed.staging = killed.staging.replace("guest-", "run-")
    for each in (mine, plan, killed):
        each.stage("x", tables.spark.range(5))
    old_plan = Path(tables.root, "_staging", "guest-20250101-000000-abcd")
    of_version_0_1_0 = Path(tables.root, "_staging", "vectors")
    for folder in (old_plan, of_version_0_1_0):
        folder.mkdir()
    mine.sweep_staged()
    left = {f"_staging/{name}" for name in os.listdir(Path(tables.root, "_staging"))}
    assert left == {mine.staging, plan.staging}


def test_progress_outlives_what_others_drop_and_sweep(tables: Tables) -> None:
    assert tables.read_progress(StepName.EMBED, "model") is None
    tables.add_progress(StepName.EMBED, "model", tables.spark.range(3))
    tables.add_progress(StepName.EMBED, "model", tables.spark.range(3, 5))
    tables.add_progress(StepName.EMBED, "another", tables.spark.range(9))
    tables.drop_staged()
    tables.sweep_staged()
    tables.drop_progress(StepName.EMBED, keep="model")
    found = tables.read_progress(StepName.EMBED, "model")
    assert found is not None
    assert found.count() == 5
    assert tables.read_progress(StepName.EMBED, "another") is None
    tables.drop_progress(StepName.EMBED)
    assert not Path(tables.root, "_embed").exists()


# --- one that writes -------------------------------------------------------------------------------------


def held_by(tables: Tables, run_id: str, *, break_lock: bool = False) -> Tables:
    taken = lease.take(tables.root, run_id, "dedup-spark run", break_lock=break_lock)
    return Tables(tables.spark, tables.root, lease=taken)


def test_nothing_is_committed_by_a_run_whose_lease_was_taken(tables: Tables) -> None:
    first = held_by(tables, "night")
    first.append(PAIRS, pairs(tables, pair(1, 2)))
    second = held_by(tables, "impatient", break_lock=True)
    before = {table.name: tables.version(table) for table in ALL}
    rows = pairs(tables, pair(1, 2), pair(3, 4))
    writes: list[Callable[[], object]] = [
        lambda: first.append(PAIRS, rows),
        lambda: first.overwrite(PAIRS, rows),
        lambda: first.upsert(PAIRS, rows),
        lambda: first.delete(PAIRS, rows.select("image_id_a", "image_id_b")),
        lambda: first.replace(PAIRS, rows.where("image_id_a = 1"), image_id_a=1),
        lambda: first.stage("x", rows),
    ]
    for write in writes:
        with pytest.raises(LeaseError, match="taken over by run impatient"):
            write()
    assert {table.name: tables.version(table) for table in ALL} == before
    second.append(PAIRS, pairs(tables, pair(5, 6)))
    assert stored(tables) == as_tuples(pair(1, 2), pair(5, 6))
    assert second.lease
    second.lease.release()


def test_an_append_that_was_under_way_when_the_lease_was_taken_fails(tables: Tables) -> None:
    """It began before, and would end after the run that took over has looked what is there."""
    first = held_by(tables, "asleep")
    begun, may_end = Path(tables.root, "begun"), Path(tables.root, "may-end")

    def slowly(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        begun.touch()
        while not may_end.exists():
            time.sleep(0.02)
        yield from batches

    schema = PAIRS.schema.ddl
    rows = pairs(tables, pair(1, 2)).mapInArrow(slowly, schema)
    with ThreadPoolExecutor(1) as pool:
        append = pool.submit(first.append, PAIRS, rows)
        while not begun.exists():
            time.sleep(0.02)
        second = held_by(tables, "awake", break_lock=True)
        second.fence(PAIRS)
        may_end.touch()
        with pytest.raises(LeaseError, match="taken over by run awake"):
            append.result()
    assert stored(tables) == set()
    second.append(PAIRS, pairs(tables, pair(3, 4)))
    assert stored(tables) == as_tuples(pair(3, 4))
    assert second.lease
    second.lease.release()


def test_the_rows_of_a_key_are_replaced_however_many_there_are(tables: Tables) -> None:
    rows = [listed(1), listed(1), listed(2), listed(3), listed(3), listed(3)]
    tables.append(IMAGES, frame(tables.spark, IMAGES.schema, rows))
    tables.replace_rows(IMAGES, frame(tables.spark, IMAGES.schema, [listed(1), listed(3)]))
    assert sorted(r["image_id"] for r in tables.read(IMAGES).collect()) == [1, 2, 3]


# --- older and newer versions ----------------------------------------------------------------------------


def test_a_table_without_a_new_column_gets_it(tables: Tables, caplog: pytest.LogCaptureFixture) -> None:
    fewer = replace(SHARDS, columns=SHARDS.columns[:-2])
    shutil.rmtree(Path(tables.root, "shards"))
    tables._create(fewer)
    Path(tables.root, "_format.json").unlink()
    with caplog.at_level("INFO"):
        tables.create_missing()
    added = ", ".join(name for name, _, _ in SHARDS.columns[-2:])
    assert f"table shards: new columns {added}" in caplog.text
    rows = tables.spark.sql(f"DESCRIBE TABLE {tables.sql_source(SHARDS)}").collect()
    assert {(r["col_name"], r["comment"]) for r in rows} >= {(n, c) for n, _, c in SHARDS.columns}
    caplog.clear()
    tables.create_missing()
    assert "new columns" not in caplog.text


def test_a_new_column_that_prunes_gets_its_statistics(tables: Tables) -> None:
    def named() -> str:
        detail = tables.spark.sql(f"DESCRIBE DETAIL {tables.sql_source(FEATURES)}").first()
        assert detail is not None
        return str(detail["properties"]["delta.dataSkippingStatsColumns"])

    without = [column for column in FEATURES.columns if column[0] != "reading_key"]
    shutil.rmtree(Path(tables.root, "features"))
    tables._create(replace(FEATURES, columns=tuple(without), statistics=FEATURES.statistics[:-1]))
    assert "reading_key" not in named()
    Path(tables.root, "_format.json").unlink()
    tables.create_missing()
    assert named() == ",".join(FEATURES.statistics)


def test_tables_of_a_newer_version_are_refused(tables: Tables) -> None:
    write_format(tables.root, None, Format(99, "of the future"))
    with pytest.raises(TableError, match="have format 99, this version of dedup-spark knows up to"):
        tables.create_missing()


@pytest.mark.parametrize("name", ["with space, 100%25 #1", "café 写真 a::b", "it's `quoted` [1] {a,b}"])
def test_tables_may_live_under_any_name(spark: SparkSession, tmp_path: Path, name: str) -> None:
    tables = Tables(spark, str(tmp_path / name))
    tables._create(PAIRS)
    tables.append(PAIRS, pairs(tables, pair(1, 2)))
    tables.upsert(PAIRS, pairs(tables, pair(1, 2), pair(3, 4)))
    assert stored(tables) == as_tuples(pair(1, 2), pair(3, 4))
    assert spark.sql(f"SELECT count(*) AS n FROM {tables.sql_source(PAIRS)}").collect()[0]["n"] == 2
    assert tables.stage("x", tables.spark.range(5)).count() == 5
    tables.drop_staged()
    assert os.listdir(tmp_path / name) == ["pairs"]


# --- in a catalog ----------------------------------------------------------------------------------------


def test_in_a_catalog_tables_have_names_and_files_that_are_no_tables_have_the_root(catalog: Tables) -> None:
    assert (catalog.place(IMAGES), catalog.sql_source(IMAGES)) == ("tables_test.images", "`tables_test`.images")
    names = {r["tableName"] for r in catalog.spark.sql("SHOW TABLES IN tables_test").collect()}
    assert {t.name for t in ALL} <= names
    catalog.stage("x", catalog.spark.range(3))
    assert set(os.listdir(catalog.root)) == {"_format-tables_test.json", "_staging"}
    catalog.drop_staged()
    assert os.listdir(catalog.root) == ["_format-tables_test.json"]


def test_tables_in_a_catalog_open_without_a_jvm_too(catalog: Tables) -> None:
    catalog.overwrite(PAIRS, pairs(catalog, pair(1, 2)))
    detail = catalog.spark.sql("DESCRIBE DETAIL tables_test.pairs").first()
    assert detail is not None
    found = DeltaTable(detail["location"].removeprefix("file:")).to_pyarrow_table().to_pylist()
    assert found == [pair(1, 2)]


@pytest.mark.slow
def test_views_of_a_catalog_show_the_same_as_those_over_paths(catalog: Tables, tables: Tables) -> None:
    keeper = {"image_id": 1, "cluster_id": 1, "cluster_size": 2, "keeper_image_id": 1, "is_keeper": True, "uri": "k"}
    copy = keeper | {"image_id": 2, "is_keeper": False, "relation": "same_bytes", "uri": "c", "size_bytes": 100}
    for each in (catalog, tables):
        fill(each, [listed(1), listed(2), listed(3)], [readable(1), readable(2), rejected(3)])
        each.append(CLUSTERS, frame(each.spark, CLUSTERS.schema, [keeper, copy]))
    create_views(catalog)
    open_views(tables)
    for view in VIEWS:
        in_catalog = catalog.spark.table(f"tables_test.{view.name}").collect()
        assert sorted(map(str, in_catalog)) == sorted(map(str, tables.spark.table(view.name).collect()))
    assert catalog.spark.table("tables_test.duplicates").count() == 1
    assert catalog.spark.table("tables_test.quarantine").count() == 1


@pytest.mark.parametrize(
    ("name", "parts", "quoted"),
    [
        ("dedup", ["dedup"], "`dedup`"), ("main.dedup", ["main", "dedup"], "`main`.`dedup`"),
        ("`a.b`.`c``d`", ["a.b", "c`d"], "`a.b`.`c``d`"),
        ("my-db; DROP TABLE x", ["my-db; DROP TABLE x"], "`my-db; DROP TABLE x`"),
    ],
)  # fmt: skip
def test_the_name_of_a_database_is_quoted_whatever_it_holds(name: str, parts: list[str], quoted: str) -> None:
    assert parts_of_name(name) == parts
    assert quoted_name(parts) == quoted


@pytest.mark.parametrize("name", ["", ".", "a.b.c", "a..b", "a`b", "`a", "a."])
def test_what_is_no_name_of_a_database_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected SCHEMA or"):
        parts_of_name(name)


@pytest.mark.slow
def test_a_database_may_be_named_with_its_catalog(spark: SparkSession, tmp_path: Path) -> None:
    """As in `--database main.dedup`."""
    own = spark.newSession()
    own.sql("CREATE SCHEMA with_catalog")
    try:
        tables = Tables(own, str(tmp_path), "spark_catalog.with_catalog")
        tables.create_missing()
        tables.append(PAIRS, pairs(tables, pair(1, 2)))
        assert stored(tables) == as_tuples(pair(1, 2))
    finally:
        own.sql("DROP SCHEMA with_catalog CASCADE")


def test_rows_change_and_go_in_one_commit_and_none_is_inserted(tables: Tables) -> None:
    cells = [{"cell": n, "n_images": 1} for n in range(4)]
    tables.append(CENTROIDS, frame(tables.spark, CENTROIDS.schema, cells))
    version = tables.version(CENTROIDS)
    changed = frame(tables.spark, CENTROIDS.schema, [{"cell": 1, "n_images": 7}, {"cell": 9, "n_images": 9}])
    tables.change(CENTROIDS, changed, frame(tables.spark, "cell int", [{"cell": 2}]))
    assert tables.version(CENTROIDS) == version + 1
    assert {row["cell"]: row["n_images"] for row in tables.read(CENTROIDS).collect()} == {0: 1, 1: 7, 3: 1}
