"""The reader and writer of Delta, by path and in a catalog schema; what is written is read back by another library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from fabricated import fill, frame, listed, readable, rejected
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.errors import TableError
from dedup_spark.local_relation import local_relation
from dedup_spark.tables import ALL, CLUSTERS, FEATURES, IMAGES, PAIRS, RUNS, SHARDS, Table, Tables
from dedup_spark.view_definitions import VIEWS
from dedup_spark.views import create_views, open_views

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
        assert columns == [(name, kind.simpleString(), comment) for name, kind, comment in table.columns], table.name
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


def test_staged_rows_are_computed_once_and_stay_as_they_were(tables: Tables) -> None:
    source = [readable(1), rejected(2)]
    draws = frame(tables.spark, FEATURES.schema, source).selectExpr("*", "rand() AS draw")
    staged = tables.stage("draws", draws)
    assert staged.schema.simpleString() == draws.schema.simpleString()
    first, again = ([r["draw"] for r in staged.orderBy("image_id").collect()] for _ in range(2))
    assert first == again
    assert staged.count() == 2


def test_staging_no_rows_keeps_their_columns(tables: Tables) -> None:
    nothing = frame(tables.spark, SHARDS.schema, [])
    staged = tables.stage("nothing", nothing)
    assert (staged.count(), staged.columns) == (0, nothing.columns)


def test_staging_under_a_name_again_replaces_the_rows(tables: Tables) -> None:
    tables.stage("x", tables.spark.range(5)).count()
    assert [r["id"] for r in tables.stage("x", tables.spark.range(7, 8)).collect()] == [7]


def test_dropping_what_was_staged_leaves_the_tables(tables: Tables) -> None:
    tables.append(PAIRS, pairs(tables, pair(1, 2)))
    tables.stage("x", tables.spark.range(5))
    tables.stage("y", tables.spark.range(5))
    for _ in range(2):
        tables.drop_staged()
        assert set(os.listdir(tables.root)) == {t.name for t in ALL}
    assert stored(tables) == as_tuples(pair(1, 2))


@pytest.mark.parametrize("name", ["with space, 100%25 #1", "café 写真 a::b", "it's `quoted` [1] {a,b}"])
def test_tables_may_live_under_any_name(spark: SparkSession, tmp_path: Path, name: str) -> None:
    tables = Tables(spark, str(tmp_path / name))
    tables.append(PAIRS, pairs(tables, pair(1, 2)))
    tables.upsert(PAIRS, pairs(tables, pair(1, 2), pair(3, 4)))
    assert stored(tables) == as_tuples(pair(1, 2), pair(3, 4))
    assert spark.sql(f"SELECT count(*) AS n FROM {tables.sql_source(PAIRS)}").collect()[0]["n"] == 2
    assert tables.stage("x", tables.spark.range(5)).count() == 5
    tables.drop_staged()
    assert os.listdir(tmp_path / name) == ["pairs"]


# --- in a catalog ----------------------------------------------------------------------------------------


def test_in_a_catalog_tables_have_names_and_files_that_are_no_tables_have_the_root(catalog: Tables) -> None:
    assert catalog.place(IMAGES) == catalog.sql_source(IMAGES) == "tables_test.images"
    names = {r["tableName"] for r in catalog.spark.sql("SHOW TABLES IN tables_test").collect()}
    assert {t.name for t in ALL} <= names
    catalog.stage("x", catalog.spark.range(3))
    assert os.listdir(catalog.root) == ["_staging"]
    catalog.drop_staged()
    assert os.listdir(catalog.root) == []


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
