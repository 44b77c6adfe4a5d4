"""Spark's binaryFile as a lister: the same rows as the folder source, no content read, and a cap."""

from __future__ import annotations

from pathlib import Path

import pytest
from listings import ODD_NAME, fetched, listed, passed_over, plan_of
from pyspark.sql import SparkSession

from dedup_spark.errors import ConfigError, GuardError
from dedup_spark.sources.binary_file import BinaryFileSource
from dedup_spark.sources.folder import FolderSource


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake [x]{y} 100%25 #1"
    for name in ("a.jpg", f"sub/{ODD_NAME}", "sub/deeper/b c.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_the_rows_are_those_of_the_folder_source(lake: Path, spark: SparkSession) -> None:
    source = BinaryFileSource(str(lake))
    rows, wanted = listed(source, spark), listed(FolderSource(str(lake)), spark)
    assert source.root == FolderSource(str(lake)).root
    for row, other in zip(rows, wanted, strict=True):
        assert abs(row.pop("modified_at") - other.pop("modified_at")).total_seconds() < 0.001  # Hadoop has milliseconds
        assert row == other
    assert [f"{source.root}/{data.decode()}" for data in fetched(source, rows)] == [row["uri"] for row in rows]


def test_the_content_is_not_read_by_the_listing(lake: Path, spark: SparkSession) -> None:
    plan = plan_of(BinaryFileSource(str(lake)).list_images(spark))
    assert "ReadSchema: struct<path:string" in plan
    assert "content" not in plan.partition("ReadSchema")[2]


def test_a_lake_over_the_cap_is_refused_before_spark_lists_it(lake: Path, spark: SparkSession) -> None:
    assert len(listed(BinaryFileSource(str(lake), max_files=3), spark)) == 3
    with pytest.raises(GuardError, match=r"more than 2 files \(inventory.max_binary_files\)"):
        BinaryFileSource(str(lake), max_files=2).list_images(spark)


def test_files_that_spark_does_not_see_are_counted(
    lake: Path, spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("_a.jpg", ".b.jpg"):
        (lake / name).write_bytes(b"1")
    with caplog.at_level("WARNING", "dedup_spark"):
        assert len(listed(BinaryFileSource(str(lake)), spark)) == 3
    assert "Spark does not see 2 files" in caplog.text


def test_what_spark_finds_through_links_is_passed_over(lake: Path, spark: SparkSession) -> None:
    (lake / "link.jpg").symlink_to("a.jpg")
    (lake / "linked").symlink_to("sub")
    rows = listed(BinaryFileSource(str(lake)), spark)
    wanted = sorted(("a.jpg", f"sub/{ODD_NAME}", "sub/deeper/b c.jpg"))
    assert [row["uri"] for row in rows] == [f"file://{lake}/{name}" for name in wanted]
    counts = passed_over(BinaryFileSource(str(lake)), spark)
    assert {reason: n for reason, (n, _) in counts.items()} == {
        "link to a file": 1, "file behind a link to a folder": 2,
    }  # fmt: skip


def test_no_such_lake_is_said(tmp_path: Path, spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        _ = BinaryFileSource(str(tmp_path / "none")).root
    with pytest.raises(ConfigError, match="Hadoop cannot list it"):
        BinaryFileSource("nosuchscheme://a/b").list_images(spark)
