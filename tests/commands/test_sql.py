"""`dedup-spark sql`: every name opens, answers are readable, a wrong query is explained."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from conftest import FinishedRun

from dedup_spark.commands.sql import describe_answer, run_query
from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.store.schema import ALL, IMAGES
from dedup_spark.store.view_definitions import VIEWS
from dedup_spark.store.views import ViewSettings


def answer(done: FinishedRun, query: str, max_rows: int = 50, prefix_depth: int = 2) -> list[str]:
    """What is said, as lines."""
    found = run_query(done.tables, query, ViewSettings(prefix_depth), max_rows + 1)
    return describe_answer(found, max_rows).splitlines()


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
    query = "SELECT id FROM range(10) ORDER BY id"
    assert answer(finished, query, max_rows=9)[2:] == [
        *(f"{i:>2}" for i in range(9)),
        "... there are more than 9 rows; --rows N shows more",
    ]
    assert answer(finished, query, max_rows=10)[2:] == [f"{i:>2}" for i in range(10)]


def test_folders_are_summed_to_the_depth_of_the_setting(finished: FinishedRun) -> None:
    query = "SELECT max(length(prefix) - length(replace(prefix, '/', ''))) FROM reclaimable_by_prefix"
    assert [answer(finished, query, prefix_depth=depth)[2].strip() for depth in (0, 1, 3)] == ["0", "1", "3"]


def test_an_answer_is_arrow_with_the_types_of_the_tables(finished: FinishedRun) -> None:
    found = run_query(finished.tables, "SELECT image_id, attributes, modified_at FROM images LIMIT 3", ViewSettings())
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
        answer(finished, "SELECT raise_error('no such luck') FROM images")
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
        answer(finished, query)
    assert str(e.value).startswith("the query is not valid: [")
    assert says in str(e.value)
    assert "at org.apache" not in str(e.value)
    assert "JVM stacktrace" not in str(e.value)
