"""S3 Inventory reports as AWS writes them: three formats, versions, delete markers, escaped keys."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from listings import ODD_NAME, listed, passed_over
from pyspark.sql import SparkSession

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.sources.s3_inventory import S3InventorySource

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OBJECTS: list[dict[str, Any]] = [
    {"key": "photos/a.jpg", "is_latest": True, "is_delete_marker": False, "size": 10, "e_tag": "aa"},
    {"key": "photos/a.jpg", "is_latest": False, "is_delete_marker": False, "size": 9, "e_tag": "old"},
    {"key": "photos/gone.jpg", "is_latest": True, "is_delete_marker": True, "size": None, "e_tag": None},
    {"key": f"photos/{ODD_NAME}", "is_latest": True, "is_delete_marker": False, "size": 20, "e_tag": "bb"},
    {"key": "photos/", "is_latest": True, "is_delete_marker": False, "size": 0, "e_tag": "cc"},
    {"key": "photos/.hidden.jpg", "is_latest": True, "is_delete_marker": False, "size": 1, "e_tag": "dd"},
]
SUFFIX = {"CSV": "csv.gz", "Parquet": "parquet", "ORC": "orc"}
CURRENT = [("s3://lake/photos/" + ODD_NAME, 20, "bb"), ("s3://lake/photos/a.jpg", 10, "aa")]


def write_report(folder: Path, file_format: str, objects: list[dict[str, Any]] = OBJECTS, data: str = "") -> Path:
    """A report in `folder`, its data files below `<folder>/<data>`; the second half in a file of its own."""
    files = []
    for part in (objects[: len(objects) // 2], objects[len(objects) // 2 :]):
        key = f"inventories/lake/all/data/{len(files)}.{SUFFIX[file_format]}"
        file = folder / data / (key if data != "beside" else Path(key).name)
        file = file if data != "beside" else folder / Path(key).name
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"bucket": "lake", "last_modified_date": NOON, "storage_class": "STANDARD", **o} for o in part]
        if file_format == "CSV":
            file.write_bytes(gzip.compress("".join(map(csv_line, rows)).encode()))
        else:
            table = pa.Table.from_pylist(rows).cast(arrow_schema(rows, "UTC" if file_format == "Parquet" else None))
            pq.write_table(table, file) if file_format == "Parquet" else orc.write_table(table, file)
        content = file.read_bytes()
        files.append({"key": key, "size": len(content), "MD5checksum": hashlib.md5(content).hexdigest()})
    manifest = {
        "sourceBucket": "lake",
        "destinationBucket": "arn:aws:s3:::reports",
        "version": "2016-11-30",
        "fileFormat": file_format,
        "fileSchema": "Bucket, Key, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass",
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "manifest.json"


def csv_line(row: dict[str, Any]) -> str:
    values = [
        row["bucket"], quote_plus(row["key"], safe="/"),
        str(row["is_latest"]).lower(), str(row["is_delete_marker"]).lower(),
        row["size"], "2026-11-23T12:00:00.000Z", row["e_tag"], row["storage_class"],
    ]  # fmt: skip
    return ",".join(f'"{"" if v is None else v}"' for v in values) + "\n"


def arrow_schema(rows: list[dict[str, Any]], zone: str | None) -> pa.Schema:
    kinds = {"size": pa.int64(), "is_latest": pa.bool_(), "is_delete_marker": pa.bool_()}
    kinds["last_modified_date"] = pa.timestamp("ms", zone)
    return pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])


def facts(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["uri"], row["size_bytes"], row["etag"]) for row in rows]


@pytest.mark.parametrize("file_format", ["CSV", "Parquet", "ORC"])
def test_the_latest_version_of_each_object_is_listed(file_format: str, spark: SparkSession, tmp_path: Path) -> None:
    rows = listed(S3InventorySource(str(write_report(tmp_path, file_format))), spark)
    assert facts(rows) == CURRENT
    assert {row["modified_at"].astimezone(UTC) for row in rows} == {NOON}
    assert {row["attributes"]["storage_class"] for row in rows} == {"STANDARD"}


KEYS = [
    "a//b.jpg",
    "a/b.jpg",
    "a b.jpg",
    "a+b.jpg",
    "a%20b.jpg",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "A/b.jpg",
    "./c.jpg",
]


@pytest.mark.parametrize("file_format", ["CSV", "Parquet"])
def test_keys_are_literal(file_format: str, spark: SparkSession, tmp_path: Path) -> None:
    objects = [{"key": key, "is_latest": True, "is_delete_marker": False, "size": 1, "e_tag": "aa"} for key in KEYS]
    source = S3InventorySource(str(write_report(tmp_path, file_format, objects)), skip_hidden=False)
    assert {row["uri"] for row in listed(source, spark)} == {f"s3://lake/{key}" for key in KEYS}


@pytest.mark.parametrize("damage", ["missing", "cut off", "other bytes"])
def test_a_report_that_is_not_whole_is_no_listing(damage: str, spark: SparkSession, tmp_path: Path) -> None:
    manifest = write_report(tmp_path, "CSV")
    file = tmp_path / "inventories/lake/all/data/1.csv.gz"
    content = file.read_bytes()
    file.write_bytes(content[:-9] if damage == "cut off" else content[:-1] + bytes([content[-1] ^ 1]))
    if damage == "missing":
        file.unlink()
    with pytest.raises(
        SourceError, match=r"1\.csv\.gz: this data file .* but its manifest\.json says .*nothing was changed"
    ):
        S3InventorySource(str(manifest)).list_images(spark)


def test_a_report_that_says_no_checksums_is_read(spark: SparkSession, tmp_path: Path) -> None:
    manifest = write_report(tmp_path, "CSV")
    report = json.loads(manifest.read_text())
    report["files"] = [{"key": file["key"]} for file in report["files"]]
    manifest.write_text(json.dumps(report))
    assert facts(listed(S3InventorySource(str(manifest)), spark)) == CURRENT


def test_hidden_names_and_folder_markers_are_passed_over(spark: SparkSession, tmp_path: Path) -> None:
    assert passed_over(S3InventorySource(str(write_report(tmp_path, "Parquet"))), spark) == {
        "folder marker": (1, "s3://lake/photos/"), "hidden file": (1, "s3://lake/photos/.hidden.jpg"),
    }  # fmt: skip


def test_hidden_names_are_listed_when_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    source = S3InventorySource(str(write_report(tmp_path, "CSV")), skip_hidden=False)
    assert ("s3://lake/photos/.hidden.jpg", 1, "dd") in facts(listed(source, spark))


@pytest.mark.parametrize("place", ["../..", "beside"])
def test_data_files_are_found_above_or_beside_the_report(place: str, spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "copy" / "2026-11-23T01-00Z"
    folder.mkdir(parents=True)
    assert facts(listed(S3InventorySource(str(write_report(folder, "CSV", data=place))), spark)) == CURRENT


def test_a_folder_of_reports_stands_for_the_newest_whole_one(spark: SparkSession, tmp_path: Path) -> None:
    for day, objects in (("22", OBJECTS[3:]), ("23", OBJECTS)):
        folder = tmp_path / f"2026-11-{day}T01-00Z"
        folder.mkdir()
        write_report(folder, "CSV", objects)
    (tmp_path / "2026-11-24T01-00Z").mkdir()  # being written: no manifest.json yet
    (tmp_path / "hive").mkdir()
    source = S3InventorySource(str(tmp_path))
    assert source.root == f"file://{tmp_path.resolve()}"
    assert facts(listed(source, spark)) == CURRENT


def test_what_is_no_report_is_said(spark: SparkSession, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    with pytest.raises(ConfigError, match="no such file"):
        _ = S3InventorySource(str(manifest)).root
    with pytest.raises(ConfigError, match="no report such as"):
        S3InventorySource(str(tmp_path)).list_images(spark)
    for text, message in (
        ("{", "cannot be read as the manifest"),
        ("[]", "cannot be read as the manifest"),
        ('{"name": "my web app"}', "not the manifest of an S3 inventory"),
    ):
        manifest.write_text(text)
        with pytest.raises(ConfigError, match=message):
            S3InventorySource(str(manifest)).list_images(spark)
    write_report(tmp_path, "CSV")
    (tmp_path / "inventories/lake/all/data/0.csv.gz").unlink()
    with pytest.raises(ConfigError, match=r"data/0.csv.gz is in none of the folders"):
        S3InventorySource(str(manifest)).list_images(spark)


def test_a_report_speaks_of_the_time_when_it_was_begun(tmp_path: Path) -> None:
    manifest = write_report(tmp_path, "CSV")
    assert S3InventorySource(str(manifest)).as_of() is None
    told = json.loads(manifest.read_text()) | {"creationTimestamp": "1795396400000"}
    manifest.write_text(json.dumps(told))
    assert S3InventorySource(str(manifest)).as_of() == datetime(2026, 11, 23, 1, 13, 20, tzinfo=UTC)
    manifest.write_text(json.dumps(told | {"creationTimestamp": "yesterday"}))
    with pytest.raises(ConfigError, match="creationTimestamp 'yesterday' is no time"):
        S3InventorySource(str(manifest)).as_of()


@pytest.mark.parametrize(
    "change",
    [{"files": 5}, {"files": [{}]}, {"files": ["a"]}, {"files": [{"key": "a", "size": "12"}]}, {"fileSchema": None},
     {"creationTimestamp": [1]}, {"creationTimestamp": "9" * 20}],
    ids=str,
)  # fmt: skip
def test_a_report_with_values_of_another_kind_is_refused_in_a_sentence(change: dict[str, Any], tmp_path: Path) -> None:
    path = write_report(tmp_path, "CSV")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=r"manifest\.json: (not the manifest of an S3 inventory|creationTimestamp)"):
        S3InventorySource(str(path)).as_of()
