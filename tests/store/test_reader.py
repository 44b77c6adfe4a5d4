"""The tables read without Spark: what is asked for is answered, what is not there is said."""

from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import FinishedRun
from deltalake import write_deltalake
from s3_server import s3_of_this_process
from table_contents import rows

import dedup_spark
from dedup_spark.errors import ConfigError, TableError
from dedup_spark.store.schema import ALL, GUARDED
from dedup_spark.store.table_format import FORMAT, Format, write_format

MADE = pa.table(
    {"image_id": [1, 2, 3], "guard": ["blank", "text", "blank"], "n_neighbours": [5, 6, 7]}, GUARDED.schema.arrow
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one table, made without Spark."""
    write_deltalake(str(tmp_path / "guarded"), MADE)
    return tmp_path


def test_a_table_is_read_by_its_name_with_the_columns_and_rows_asked_for(root: Path) -> None:
    assert dedup_spark.read_table("guarded", tables=root).sort_by("image_id").to_pydict() == MADE.to_pydict()
    asked = {"columns": ["n_neighbours", "image_id"], "where": pc.field("guard") == "blank"}
    found = dedup_spark.read_table("guarded", tables=str(root), **asked).sort_by("image_id")
    assert found.to_pydict() == {"n_neighbours": [5, 7], "image_id": [1, 3]}
    assert dedup_spark.open_table("guarded", tables=f"file://{root}").count_rows() == 3


def test_an_older_version_of_a_table_is_read_by_its_number(root: Path) -> None:
    write_deltalake(str(root / "guarded"), MADE, mode="append")
    assert [len(dedup_spark.read_table("guarded", tables=root, version=v)) for v in (0, 1)] == [3, 6]
    with pytest.raises(TableError, match="cannot be read"):
        dedup_spark.read_table("guarded", tables=root, version=9)


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("guared", None, "no table 'guared'; did you mean 'guarded'?"),
        ("xyz", None, "no table 'xyz': images, features"),
        ("duplicates", None, r"'duplicates' is a view, SQL that needs an engine: query it by dedup_spark\.sql"),
        ("guarded", ["image_id", "gard"], "table 'guarded' has no column gard; it has image_id, guard, n_neighbours"),
    ],
)
def test_what_there_is_not_is_said_with_what_there_is(
    name: str, columns: list[str] | None, said: str, root: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        dedup_spark.read_table(name, tables=root, columns=columns)


def test_a_table_that_is_not_there_names_the_step_to_run(root: Path) -> None:
    with pytest.raises(TableError, match=rf"table 'pairs' not found at {root}/pairs: run the earlier steps first"):
        dedup_spark.read_table("pairs", tables=root)


def test_tables_of_a_newer_version_are_not_read(root: Path) -> None:
    write_format(str(root), None, Format(FORMAT + 1, "other columns"))
    with pytest.raises(TableError, match="use the newer version that wrote them"):
        dedup_spark.read_table("guarded", tables=root)


def test_without_the_package_a_sentence_says_how_to_install_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("deltalake"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'dedup-spark\[reader\]'"):
        dedup_spark.read_table("guarded", tables=root)


def test_tables_in_s3_are_read_where_fsspec_finds_the_store(tmp_path: Path) -> None:
    with s3_of_this_process(tmp_path / "moto.log") as s3:
        s3.put("lake", {})
        options = {"AWS_ENDPOINT_URL": s3.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
        write_deltalake("s3://lake/dedup/guarded", MADE, storage_options=options)
        for root in ("s3://lake/dedup", "s3a://lake/dedup/", "s3n://lake/dedup"):
            assert len(dedup_spark.read_table("guarded", tables=root)) == 3
        with pytest.raises(TableError, match="not found at s3://lake/dedup/pairs"):
            dedup_spark.read_table("pairs", tables="s3://lake/dedup")


def test_to_read_a_table_loads_no_spark(root: Path) -> None:
    code = (
        f"import sys, dedup_spark\nassert dedup_spark.read_table('guarded', tables={str(root)!r}).num_rows == 3\n"
        "assert not {'pyspark', 'delta', 'py4j'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_table_of_a_finished_run_is_read_as_it_was_written(finished: FinishedRun) -> None:
    for table in ALL:
        found = dedup_spark.read_table(table.name, tables=finished.tables.root)
        assert found.column_names == table.column_names
        assert len(found) == len(rows(finished.tables.root, table.name))
