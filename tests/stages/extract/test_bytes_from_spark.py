"""Extract from the bytes that Spark reads: a lake that nothing but Spark can open gives the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import FinishedRun
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from table_contents import TIMELESS, counts_of, rows

from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.sources import spark_bytes
from dedup_spark.sources.registry import open_source
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables

BY_SPARK = ["inventory.source=binary_file", "extract.embedding=off", "extract.max_reject_share=1"]
VALUES = [name for name in TIMELESS["features"] if name not in ("image_id", "object_version", "model_id", "embedding")]


def mounted_for_spark_alone(spark: SparkSession, folder: Path, name: str) -> str:
    """The address of a folder in a file system of Hadoop's that Python has no package for."""
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()  # type: ignore[union-attr]
    hadoop.set(f"fs.viewfs.mounttable.{name}.link./lake", f"file://{folder}")
    hadoop.set("fs.viewfs.impl.disable.cache", "true")
    return f"viewfs://{name}/lake"


def run_steps(tables: Tables, lake: str, *overrides: str, steps: tuple[str, ...] = ("inventory", "extract")) -> Run:
    config = load_config(None, [*BY_SPARK, *overrides])
    run = Run(tables, config, open_source(lake, config.inventory).root, f"run-{len(overrides)}-{len(steps)}")
    with run.step("outer"):
        for step in steps:
            run_step(tables.spark, config, run, find_step(step))
    return run


def by_name(root: str, lake: str) -> dict[str, dict[str, Any]]:
    names = {row["image_id"]: row["uri"].partition(f"{lake}/")[2] for row in rows(root, "images")}
    return {names[row["image_id"]]: row for row in rows(root, "features")}


def test_a_lake_that_python_cannot_open_gives_the_rows_of_the_present_way(
    tables: Tables, finished: FinishedRun
) -> None:
    lake = mounted_for_spark_alone(tables.spark, finished.lake.folder, "same")
    with pytest.raises(ValueError, match="Protocol not known: viewfs"):
        fsspec.open(f"{lake}/edits/original.jpg").open()
    with_slices = ("extract.slice_images=25", "extract.task_images=10", "extract.inflight_bytes=1_048_576")
    run_steps(tables, lake, *with_slices)
    found, known = by_name(tables.root, lake), by_name(str(finished.tables.root), str(finished.lake.folder))
    del known["broken/zero bytes.jpg"]  # Spark lists no empty file
    assert set(found) == set(known)
    for name, row in found.items():
        assert {value: row[value] for value in VALUES} == {value: known[name][value] for value in VALUES}, name
        assert row["read_bytes"] == known[name]["read_bytes"]
    assert counts_of(tables.root, "extract")["read"] == len(known)


@pytest.mark.slow
def test_what_changed_since_the_listing_is_a_row_with_its_reason(tables: Tables, tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    for name in ("gone", "grown", "huge", "large", "sound", "folder"):
        (folder / f"{name}.jpg").write_bytes(name.encode())
    (folder / "large.jpg").write_bytes(bytes(3000))
    lake = mounted_for_spark_alone(tables.spark, folder, "changing")
    run_steps(tables, lake, steps=("inventory",))
    (folder / "gone.jpg").unlink()
    (folder / "grown.jpg").write_bytes(b"longer than it was")
    (folder / "huge.jpg").write_bytes(bytes(5000))
    (folder / "folder.jpg").unlink()
    (folder / "folder.jpg").mkdir()
    run_steps(tables, lake, "extract.max_object_bytes=2000", steps=("extract",))
    reasons = {name: row["reject_reason"] for name, row in by_name(tables.root, lake).items()}
    assert reasons == {
        "gone.jpg": "missing", "grown.jpg": "changed_since_listing", "huge.jpg": "too_large", "large.jpg": "too_large",
        "sound.jpg": "not_an_image", "folder.jpg": "missing",
    }  # fmt: skip
    (folder / "gone.jpg").write_bytes(b"gone")  # it is back: every later run asks for what is missing
    run_steps(tables, lake, "extract.max_object_bytes=2000", "extract.fetch_threads=2", steps=("extract",))
    assert by_name(tables.root, lake)["gone.jpg"]["reject_reason"] == "not_an_image"


@pytest.mark.slow
def test_what_failed_once_is_read_again_in_the_same_slice(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    for name in ("gone", "late", "sound"):
        (folder / f"{name}.jpg").write_bytes(name.encode())
    lake = mounted_for_spark_alone(tables.spark, folder, "stumbling")
    run_steps(tables, lake, steps=("inventory",))
    (folder / "gone.jpg").unlink()
    asked, read = list[int](), spark_bytes.with_content

    def stumbling(images: DataFrame, root: str, max_bytes: int) -> DataFrame:
        """Spark passes over a file that fails while it is read, as it does over one that is gone."""
        found = read(images, root, max_bytes)
        asked.append(images.count())
        return found.where(~F.col("uri").endswith("late.jpg")) if len(asked) == 1 else found

    monkeypatch.setattr(spark_bytes, "with_content", stumbling)
    run_steps(tables, lake, steps=("extract",))
    reasons = {name: row["reject_reason"] for name, row in by_name(tables.root, lake).items()}
    assert reasons == {"gone.jpg": "missing", "late.jpg": "not_an_image", "sound.jpg": "not_an_image"}
    assert asked == [3, 1]

    (folder / "gone.jpg").write_bytes(bytes(5000))  # asked for again, and Spark does not give it for another reason
    run_steps(tables, lake, "extract.max_object_bytes=2000", "extract.fetch_threads=2", steps=("extract",))
    assert by_name(tables.root, lake)["gone.jpg"]["reject_reason"] == "too_large"


def test_spark_reads_only_what_spark_has_listed() -> None:
    with pytest.raises(ConfigError, match=r"extract\.bytes_from=spark needs inventory\.source=binary_file"):
        load_config(None, ["extract.bytes_from=spark"])
    assert load_config(None, ["extract.bytes_from=spark", "inventory.source=binary_file"])


@pytest.mark.slow
def test_fsspec_can_still_be_asked_for(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.jpg").write_bytes(b"a")
    lake = mounted_for_spark_alone(tables.spark, tmp_path / "lake", "by-fsspec")
    with pytest.raises(ConfigError, match=r"extract\.bytes_from=fsspec: Protocol not known: viewfs"):
        run_steps(tables, lake, "extract.bytes_from=fsspec")
    assert tables.read(FEATURES).count() == 0
