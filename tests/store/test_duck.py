"""The tables and views by DuckDB: what it answers without Spark, and all that it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from known_tables import LAKE, MODIFIED_AT, known_rows
from made_tables import write_tables
from s3_server import s3_of_this_process

from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.store.duck import NAMES, DuckTables
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.sql_tables import Given
from dedup_spark.store.table_format import FORMAT, Format, write_format
from dedup_spark.store.view_definitions import ViewSettings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tables(tmp_path_factory.mktemp("known") / "it's a root", known_rows())


@pytest.fixture(scope="module")
def known(root: str) -> DuckTables:
    return DuckTables(root)


def test_every_table_and_view_has_the_columns_of_its_definition(known: DuckTables) -> None:
    for name, columns in NAMES.items():
        assert tuple(known.answer(f"SELECT * FROM {name} LIMIT 0").column_names) == columns


def test_views_show_what_is_true_of_the_known_images(known: DuckTables) -> None:
    copies = known.answer("SELECT image_id FROM duplicates ORDER BY image_id")
    assert copies["image_id"].to_pylist() == [2, 3, 4, 5, 7, 11, 12]
    assert known.answer("SELECT image_id FROM doubtful_first")["image_id"].to_pylist() == [12, 4, 7]
    assert known.answer("SELECT count(*) AS n FROM leakage")["n"].to_pylist() == [4]
    rejected = known.answer("SELECT image_id, modified_at FROM quarantine ORDER BY image_id").to_pylist()
    assert rejected == [{"image_id": i, "modified_at": MODIFIED_AT} for i in (9, 10)]


@pytest.mark.parametrize(("depth", "n_folders"), [(0, 3), (1, 5), (2, 6)])
def test_the_settings_of_views_count(root: str, depth: int, n_folders: int) -> None:
    assert len(DuckTables(root, ViewSettings(depth)).answer("FROM reclaimable_by_prefix")) == n_folders


def test_sums_of_integers_are_integers(known: DuckTables) -> None:
    found = known.answer("SELECT sum(size_bytes) AS n, sum(width_px) AS w FROM images JOIN features USING (image_id)")
    assert [str(kind) for kind in found.schema.types] == ["int64", "int64"]
    with pytest.raises(DedupError, match="more than 64 bits"):
        known.answer("SELECT sum(n) AS n FROM (SELECT 9223372036854775807 AS n FROM images)")


def test_a_time_may_be_called_at(known: DuckTables) -> None:
    query = "SELECT at, max(at) OVER () AS at, 'at' AS \"at\" /* at */ FROM runs WHERE at > '2000-01-01' ORDER BY at"
    assert len(known.answer(query)) == 3
    assert len(known.answer("SELECT 'é', at AT TIME ZONE 'UTC' AS utc FROM runs")) == 3


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM clusters WHERE true", "DROP VIEW duplicates", "DROP TABLE clusters", "UPDATE runs SET lake = ''",
        "INSERT INTO runs SELECT * FROM runs", "CREATE TABLE x AS SELECT 1", "COPY clusters TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'", "PRAGMA database_list", "INSTALL httpfs", "LOAD httpfs", "CALL pragma_version()",
        "SET threads = 1", "EXPORT DATABASE '/tmp/x'", "IMPORT DATABASE '/tmp/x'", "BEGIN", "CHECKPOINT", "VACUUM",
        "SELECT 1; SELECT 2", "SELECT 1; DELETE FROM clusters", "EXPLAIN ANALYZE CREATE TABLE x (a INT)",
        "EXPLAIN DELETE FROM clusters", "", "-- nothing", "PREPARE a AS SELECT 1", "USE x", "ALTER TABLE x ADD a INT",
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused_in_one_sentence(known: DuckTables, query: str) -> None:
    with pytest.raises(ConfigError) as e:
        known.answer(query)
    assert "\n" not in str(e.value)
    assert known.answer("SELECT count(*) AS n FROM clusters")["n"].to_pylist() == [9]


@pytest.mark.parametrize(
    "source",
    [
        "read_csv('{}')", "read_text('{}')", "read_blob('{}')", "read_parquet('{}')", "read_json('{}')", "glob('{}*')",
        "'{}'", "parquet_metadata('{}')", "sniff_csv('{}')", "read_parquet('http://127.0.0.1:1/x.parquet')",
        "query('SELECT * FROM read_text(''{}'')')", "duckdb_secrets()", "known",
    ],
)  # fmt: skip
def test_no_file_and_nothing_of_this_process_is_read(known: DuckTables, tmp_path: Path, source: str) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=r"the query was refused|the query is not valid") as e:
        known.answer(f"SELECT * FROM {source.format(tmp_path / 'secret.csv')}")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT imageid FROM images", "there is no column 'imageid'; did you mean 'image_id'"),
        ("SELECT i.uriz FROM images AS i", "there is no column 'uriz'; did you mean 'uri'"),
        ("SELECT * FROM imagez", "there is no table or view 'imagez'; did you mean 'images'"),
        ("SELECT * FROM xyz", "there is no table or view 'xyz'; there are images, "),
        ("SELECT foo FROM images", "there is no column 'foo'; DESCRIBE and the name of a table or view lists its"),
        ("SELECT clustr_size FROM clusters", "there is no column 'clustr_size'; did you mean 'cluster_size'?"),
        ("SELECT cluster_size FROM images", "there is no column 'cluster_size' in what the query reads; "),
        ("SELEC 1", "syntax error at or near"),
        ("SELECT nosuch(1) FROM images", "nosuch does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_with_near_names(known: DuckTables, query: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        known.answer(query)
    assert str(e.value).startswith(
        f"the query is not valid: {said}" if said.startswith("there") else "the query is not"
    )
    assert said in str(e.value)
    assert "\n" not in str(e.value)


def test_a_query_that_fails_as_it_runs_is_told_in_one_sentence(known: DuckTables) -> None:
    with pytest.raises(DedupError, match=r"^the query failed: no such luck$"):
        known.answer("SELECT error('no such luck') FROM images")
    with pytest.raises(DedupError, match=r"to_id"):
        known.stream("SELECT * FROM images WHERE image_id = '85bbc2cb075981a8'").read_all()


@pytest.mark.parametrize(
    "query", ["SELECT cast('a' AS INT)", "SELECT ?", "SELECT * FROM images WHERE image_id = '85bbc2cb075981a8'"]
)
def test_a_query_whose_values_do_not_fit_is_a_mistake_of_the_query(known: DuckTables, query: str) -> None:
    with pytest.raises(ConfigError, match=r"^the query failed: "):
        known.answer(query)


def test_rows_of_wide_columns_are_found_by_their_ids(known: DuckTables) -> None:
    found = known.rows(FEATURES, [3, 7, 99], ["embedding", "image_id"]).sort_by("image_id")
    assert found.to_pydict() == {"embedding": [bytes([3] * 4), bytes([7] * 4)], "image_id": [3, 7]}
    assert known.rows(IMAGES, []).column_names == IMAGES.column_names


def test_a_query_of_ours_takes_values_and_rows(known: DuckTables) -> None:
    query = "SELECT i.image_id FROM $images AS i JOIN $given AS g ON g.image_id = i.image_id WHERE i.uri <> :uri"
    found = known.ask(query, {"uri": f"{LAKE}/edited.jpg"}, Given.ids([3, 4, 99]))
    assert found["image_id"].to_pylist() == [3]
    assert not len(known.ask(query, {"uri": "it's"}, Given.ids([])))


def test_a_query_of_ours_names_views_and_comes_batch_by_batch_too(known: DuckTables) -> None:
    query = "SELECT image_id FROM $duplicates WHERE cluster_id = :cluster_id ORDER BY image_id"
    asked = known.ask(query, {"cluster_id": 6})
    assert asked["image_id"].to_pylist() == [7, 11, 12]
    assert known.scan(query, {"cluster_id": 6}).read_all() == asked
    assert known.scan("SELECT count(*) AS n FROM $images").read_all()["n"].to_pylist() == [12]


def test_where_there_are_no_tables_or_older_ones_a_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--tables .*: there are no dedup-spark tables; `dedup-spark run` makes them"
    ):
        DuckTables(str(tmp_path / "nothing"))
    write_tables(tmp_path, {})
    write_format(str(tmp_path), None, Format(FORMAT, "other columns"))
    with pytest.raises(ConfigError, match="`dedup-spark upgrade` with the same --tables"):
        DuckTables(str(tmp_path))


def test_tables_in_s3_are_asked_where_fsspec_finds_the_store(tmp_path: Path) -> None:
    with s3_of_this_process(tmp_path / "moto.log") as s3:
        s3.put("lake", {})
        options = {"AWS_ENDPOINT_URL": s3.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
        write_tables("s3://lake/dedup", known_rows(), options)
        found = DuckTables("s3a://lake/dedup/").answer("SELECT count(*) AS n FROM duplicates")
        assert found["n"].to_pylist() == [7]


@pytest.mark.parametrize(
    "words",
    [
        ["sql", "SELECT * FROM duplicates"],
        ["trace", "--uri", "edited.jpg"],
        ["explain", "--uri", "edited.jpg", "--uri", "a/x/kept.jpg"],
        ["dendrogram", "--image", "edited.jpg"],
    ],
    ids=lambda words: words[0],
)
def test_a_question_loads_no_spark(root: str, words: list[str]) -> None:
    code = (
        f"import sys\nfrom dedup_spark.cli import main\nassert main({[*words, '--tables', root]!r}) in (0, 2)\n"
        "assert not {'pyspark', 'delta', 'py4j'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
