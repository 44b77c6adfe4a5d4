"""`dedup-spark sql`: every name opens, answers are readable, a wrong query is explained."""

from __future__ import annotations

import csv
import io
import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import FinishedRun
from known_tables import known_rows
from made_tables import write_tables

from dedup_spark.cli import main
from dedup_spark.commands.sql import as_text, describe_answer, format_of, write_answer
from dedup_spark.commands.sql_shell import Shell, _stopping_queries, completions
from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.schema import ALL, IMAGES
from dedup_spark.store.spark_sql import SparkTables
from dedup_spark.store.view_definitions import VIEWS, ViewSettings


def answer(done: FinishedRun, query: str, max_rows: int = 50, prefix_depth: int = 2) -> list[str]:
    """What is said, as lines; by DuckDB."""
    found = DuckTables(done.tables.root, ViewSettings(prefix_depth)).answer(query, max_rows + 1)
    return describe_answer(found, max_rows).splitlines()


def spark_answer(done: FinishedRun, query: str) -> pa.Table:
    return SparkTables(done.tables, ViewSettings(2)).answer(query)


def test_every_table_and_view_opens_by_its_bare_name(finished: FinishedRun) -> None:
    names = [t.name for t in (*ALL, *VIEWS)]
    counts = (f"SELECT '{name}' AS name, count(*) AS n FROM {name}" for name in names)
    header, rule, *counted = answer(finished, " UNION ALL ".join(counts))
    assert (header.split(), set(rule)) == (["name", "n"], {"-", " "})
    found = {name: int(n) for name, n in (line.split() for line in counted)}
    assert set(found) == set(names)
    assert {name for name, n in found.items() if not n} == {"leakage", "tombstones"}  # no reference set, nothing gone


def test_an_answer_is_that_of_the_tables(finished: FinishedRun) -> None:
    lines = answer(finished, "SELECT reject_reason, count(*) AS n FROM quarantine GROUP BY 1 ORDER BY 1")
    expected: dict[str, int] = {}
    for reason in sorted(finished.lake.rejects.values()):
        expected[reason] = expected.get(reason, 0) + 1
    assert [line.split() for line in lines[2:]] == [[reason, str(n)] for reason, n in expected.items()]


def test_more_rows_than_asked_for_are_cut_and_the_cut_is_said(finished: FinishedRun) -> None:
    query = "SELECT range AS n FROM range(10) ORDER BY n"
    *first, said = answer(finished, query, max_rows=9)[2:]
    assert [line.strip() for line in first] == [str(i) for i in range(9)]
    assert said == "... there are more than 9 rows; --rows N shows more"
    assert [line.strip() for line in answer(finished, query, max_rows=10)[2:]] == [str(i) for i in range(10)]


def test_folders_are_summed_to_the_depth_of_the_setting(finished: FinishedRun) -> None:
    query = "SELECT max(length(prefix) - length(replace(prefix, '/', ''))) FROM reclaimable_by_prefix"
    assert [answer(finished, query, prefix_depth=depth)[2].strip() for depth in (0, 1, 3)] == ["0", "1", "3"]


def test_an_answer_is_arrow_with_the_types_of_the_tables(finished: FinishedRun) -> None:
    query = "SELECT image_id, attributes, modified_at FROM images LIMIT 3"
    found = DuckTables(finished.tables.root).answer(query)
    assert found.schema.types == spark_answer(finished, query).schema.types
    images = IMAGES.schema.arrow
    assert [found.schema.field(name).type for name in found.column_names] == [
        images.field(name).type for name in ("image_id", "attributes", "modified_at")
    ]


def test_times_are_shown_in_utc_without_their_zone_and_maps_as_such() -> None:
    at = datetime(2026, 11, 23, 18, 15, tzinfo=UTC)
    found = pa.table({"at": pa.array([at], pa.timestamp("us", "UTC")),
                      "counts": pa.array([[("read", 5)]], pa.map_(pa.string(), pa.int64()))})  # fmt: skip
    assert describe_answer(found, 5).splitlines()[2] == "2026-11-23 18:15:00  {'read': 5}"


def test_a_query_that_fails_as_it_runs_is_told_in_one_sentence(finished: FinishedRun) -> None:
    with pytest.raises(DedupError, match=r"\[USER_RAISED_EXCEPTION\] no such luck") as e:
        spark_answer(finished, "SELECT raise_error('no such luck') FROM images")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELEC 1", "Syntax error at or near 'SELEC'"),
        ("SELECT * FROM imagez", "`imagez` cannot be found"),
        ("SELECT no_such FROM images", "`no_such` cannot be resolved"),
        ("", "Syntax error"),
        ("SELECT 1; SELECT 2", "Syntax error"),
    ],
)
def test_a_query_that_is_not_valid_is_explained_without_a_java_trace(
    finished: FinishedRun, query: str, says: str
) -> None:
    with pytest.raises(ConfigError) as e:
        spark_answer(finished, query)
    assert str(e.value).startswith("the query is not valid: [")
    assert says in str(e.value)
    assert "at org.apache" not in str(e.value)
    assert "JVM stacktrace" not in str(e.value)


# --- files, the command and the shell, without Spark ------------------------------------------------------

LONG = "x" * 300
ODD = pa.table({
    "image_id": pa.array([-2, None], pa.int64()), "phash": pa.array([5, 6], pa.int64()), "uri": [LONG, 'a,"b"\nc'],
    "raw": pa.array([b"\x00\xff", None], pa.binary()), "share": [0.5, float("nan")], "ok": [True, None],
    "at": pa.array([datetime(2026, 11, 23, 18, 15, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    "counts": pa.array([[("read", 5)], None], pa.map_(pa.string(), pa.int64())),
})  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tables(tmp_path_factory.mktemp("known"), known_rows())


def test_json_holds_all_values_uncut(tmp_path: Path) -> None:
    assert write_answer(ODD.to_reader(), "json", str(tmp_path / "a.json")) == 2
    first, second = json.loads((tmp_path / "a.json").read_text())
    assert first == {"image_id": -2, "phash": 5, "uri": LONG, "raw": "AP8=", "share": 0.5, "ok": True,
                     "at": "2026-11-23T18:15:00Z", "counts": {"read": 5}}  # fmt: skip
    assert second == dict.fromkeys(ODD.column_names) | {"phash": 6, "uri": 'a,"b"\nc'}
    assert json.loads("\n".join(as_text(ODD.slice(0, 0).to_reader(), "json"))) == []


def test_csv_holds_all_values_uncut() -> None:
    names, first, second = csv.reader(io.StringIO("\n".join(as_text(ODD.to_reader(), "csv"))))
    assert names == ODD.column_names
    assert first == ["-2", "5", LONG, "AP8=", "0.5", "true", "2026-11-23T18:15:00Z", '{"read": 5}']
    assert second == ["", "6", 'a,"b"\nc', "", "", "", "", ""]


def test_parquet_is_the_answer_itself_and_a_failed_one_leaves_no_file(tmp_path: Path) -> None:
    assert write_answer(ODD.to_reader(), "parquet", str(tmp_path / "a.parquet")) == 2
    assert pq.read_table(tmp_path / "a.parquet").schema.equals(ODD.schema)

    def fails() -> Any:
        yield from ODD.to_batches()
        raise DedupError("no such luck")

    with pytest.raises(DedupError):
        write_answer(pa.RecordBatchReader.from_batches(ODD.schema, fails()), "csv", str(tmp_path / "b.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_ids_are_hex_and_cells_are_cut_on_a_terminal_only() -> None:
    for width in (80, None):
        lines = describe_answer(ODD.select(["image_id", "phash", "uri"]), 5, width=width).splitlines()
        assert "fffffffffffffffe" in lines[2]
        assert "0000000000000005" in lines[2]
        assert (len(lines[2]) <= 80) == bool(width)
        assert (LONG in lines[2]) == (not width)


def test_a_line_a_value_shows_long_ones_whole() -> None:
    lines = describe_answer(ODD, 5, width=80, vertical=True).splitlines()
    assert lines[:2] == ["-- row 1", "image_id  fffffffffffffffe"]
    assert f"uri       {LONG}" in lines
    assert "raw       <2 bytes>" in lines


@pytest.mark.parametrize(
    ("asked", "out", "said"),
    [(None, "a.txt", "ends with .csv"), ("parquet", None, "give --out"), ("csv", "no/such/a.csv", "can be written to")],
)
def test_a_file_that_cannot_be_written_is_told_before_the_query_runs(asked: Any, out: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        format_of(asked, out)


def test_the_command_reads_a_file_or_standard_input_and_writes_a_file(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q.sql").write_text("SELECT image_id FROM duplicates -- copies\nORDER BY image_id;\n")
    assert main(["sql", "--tables", root, "-f", str(tmp_path / "q.sql"), "--out", str(tmp_path / "a.json")]) == 0
    assert [row["image_id"] for row in json.loads((tmp_path / "a.json").read_text())] == [2, 3, 4, 5, 7, 11, 12]
    assert "7 rows were written to" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT count(*) AS n FROM images"))
    assert main(["sql", "--tables", root, "--csv"]) == 0
    assert capsys.readouterr().out == "n\n12\n"
    assert main(["sql", "--tables", root, "DELETE FROM clusters WHERE true"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "dedup-spark: sql answers one query (SELECT) and changes nothing: found DELETE; "
        "only `dedup-spark` writes tables"
    ]


def test_the_shell_answers_queries_of_several_lines_and_outlives_mistakes(root: str) -> None:
    said: list[str] = []
    shell = Shell(DuckTables(root), 5, said.append, lambda: 80)
    for line in (
        "SELECT count(*) AS n",
        "FROM images;",
        "SELECT nosuch FROM images;",
        "\\d guarded",
        "\\d",
        "\\x",
        "\\?",
    ):
        assert shell.take(line)
    assert said[0].splitlines()[2].strip() == "12"
    assert said[1].startswith("the query is not valid: there is no column 'nosuch'")
    assert "n_neighbours" in said[2]
    assert "doubtful_first" in said[3]
    assert shell.vertical
    assert not shell.take("\\q")
    assert {"images", "duplicates", "keeper_uri", "SELECT"} <= set(completions())


def test_ctrl_c_is_for_queries_while_the_shell_is_open() -> None:
    def ends_the_command(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGINT, ends_the_command)
    try:
        with _stopping_queries(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is ends_the_command
    finally:
        signal.signal(signal.SIGINT, before)
