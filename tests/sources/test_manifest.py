"""Manifests: what a row may say, and that no row is lost whatever it says."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from listings import ODD_NAME, address_of, fetched, listed
from pyspark.sql import SparkSession

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import spark_reader, spelling
from dedup_spark.sources.base import LISTING
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.manifest import ManifestSource

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def write_csv(path: Path, header: list[str], *rows: list[Any]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def uris(rows: list[dict[str, Any]]) -> list[str]:
    return [row["uri"] for row in rows]


def test_addresses_get_the_form_that_a_listed_folder_has(spark: SparkSession, tmp_path: Path) -> None:
    for name in (ODD_NAME, "sub/b.jpg", 'quo"te, comma.jpg'):
        (tmp_path / "lake" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lake" / name).write_bytes(name.encode())
    folder = tmp_path / "lake"
    relative = [[f"lake/{ODD_NAME}"], ["./lake/sub/b.jpg"], ['lake/quo"te, comma.jpg']]
    absolute = [[f"{folder}/{ODD_NAME}"], [f"file:{folder}/sub/b.jpg"], [f'file://{folder}/quo"te, comma.jpg']]
    wanted = uris(listed(FolderSource(str(folder)), spark))
    for number, rows in enumerate((relative, absolute)):
        source = ManifestSource(str(write_csv(tmp_path / f"manifest{number}.csv", ["uri"], *rows)))
        found = listed(source, spark)
        assert uris(found) == wanted
        assert [f"file://{folder}/{data.decode()}" for data in fetched(source, found)] == wanted


def test_one_file_spelled_in_many_ways_has_one_address_and_says_what_file_it_is(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "img").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "img" / name).write_bytes(b"1")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "img/b.jpg")
    (tmp_path / "link.jpg").symlink_to("img/a.jpg")
    (tmp_path / "linked").symlink_to("img")
    spelled = ["img/a.jpg", "./img/a.jpg", "img/../img/a.jpg", "img//a.jpg", f"{tmp_path}/img/a.jpg", "link.jpg",
               f"file://{tmp_path}/img/a.jpg", f"file:{tmp_path}/img/a.jpg", "linked/a.jpg"]  # fmt: skip
    path = write_csv(tmp_path / "m.csv", ["uri"], *[[s] for s in [*spelled, "img/b.jpg", "hard.jpg", "gone.jpg"]])
    rows = listed(ManifestSource(str(path)), spark)
    assert uris(rows).count(f"file://{tmp_path}/img/a.jpg") == 9
    found = {Path(row["uri"]).name: row for row in rows}
    assert len(found) == 4
    assert found["b.jpg"]["file_id"] == found["hard.jpg"]["file_id"] != found["a.jpg"]["file_id"]
    assert [found[name]["n_links"] for name in ("a.jpg", "b.jpg", "gone.jpg")] == [1, 2, None]
    assert found["gone.jpg"]["file_id"] is None
    assert found["a.jpg"]["size_bytes"] is None  # what the manifest does not say stays unknown


def test_every_scheme_of_a_store_is_one_and_keys_are_literal(spark: SparkSession, tmp_path: Path) -> None:
    keys = ["a//b.jpg", "a/b.jpg", "a/./b.jpg", "a b.jpg", "a+b.jpg", "a%20b.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg"]
    rows = [[f"{scheme}://bucket/{key}"] for scheme in ("s3", "s3a", "s3n", "S3") for key in keys]
    rows += [
        ["gcs://b/a"],
        ["gs://b/a"],
        ["wasbs://c@x.blob.core.windows.net/a"],
        ["abfs://c@x.dfs.core.windows.net/a"],
    ]
    found = uris(listed(ManifestSource(str(write_csv(tmp_path / "m.csv", ["uri"], *rows))), spark))
    wanted = [f"s3://bucket/{key}" for key in keys for _ in range(4)]
    wanted += ["gs://b/a"] * 2 + ["abfss://c@x.dfs.core.windows.net/a"] * 2
    assert sorted(found) == sorted(wanted)


def test_images_inside_one_file_are_not_taken_for_one_file(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "pack.bin").write_bytes(b"onetwo")
    path = write_csv(tmp_path / "m.csv", ["uri", "position", "size_bytes"], ["pack.bin", 0, 3], ["pack.bin", 3, 3])
    found = listed(ManifestSource(str(path)), spark)
    assert {row["file_id"] for row in found} == {None}
    assert {row["member"] for row in found} == {"@0", "@3"}


def test_a_manifest_speaks_of_the_time_when_it_was_written(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["uri"], ["a.jpg"])
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert ManifestSource(str(path)).as_of() == datetime.fromtimestamp(1_700_000_000, UTC)


def test_a_batch_of_canonical_addresses_is_handed_on_as_it_came() -> None:
    rows = [{"uri": uri} for uri in ("s3://b/a//b.jpg", "gs://b/c.jpg")]
    batch = pa.RecordBatch.from_pylist(rows, schema=LISTING.arrow)
    assert next(spelling._spell(iter([batch]), "file:///x")) is batch


def test_a_manifest_that_is_cut_off_is_no_listing(spark: SparkSession, tmp_path: Path) -> None:
    names = [[f"s3://bucket/{random.Random(n).randbytes(16).hex()}.jpg"] for n in range(50_000)]
    path = write_csv(tmp_path / "m.csv.gz", ["uri"], *names)
    path.write_bytes(path.read_bytes()[:-2000])
    said = r"m.csv.gz: cut off or damaged, .*nothing was changed"
    with pytest.raises(SourceError, match=said), spark_reader.listing_errors("lake"):
        ManifestSource(str(path)).list_images(spark).collect()


def test_known_columns_become_facts_and_all_others_attributes(spark: SparkSession, tmp_path: Path) -> None:
    header = ["URI", "size_bytes", "modified_at", "etag", "member", "licence", "a.b", "quality `x`"]
    path = write_csv(
        tmp_path / "m.csv.gz",
        header,
        ["s3://b/1.jpg", 12, "2026-11-23T12:00:00Z", '"abc"', "page 1", "CC-BY", "x", "0.5"],
        ["s3a://b/2.jpg", "12.0", "2026-11-23 12:00:00", "abc", "", "", "", ""],
        ["hdfs://h/3.jpg", "big", "yesterday", "", "", "", "y", ""],
    )
    third, first, second = listed(ManifestSource(str(path)), spark)
    assert (first["uri"], first["size_bytes"], first["etag"], first["member"]) == ("s3://b/1.jpg", 12, "abc", "page 1")
    assert first["modified_at"].astimezone(UTC) == second["modified_at"].astimezone(UTC) == NOON
    assert first["attributes"] == {"licence": "CC-BY", "a.b": "x", "quality `x`": "0.5"}
    assert (second["uri"], second["size_bytes"], second["attributes"]) == ("s3://b/2.jpg", 12, None)
    assert (third["size_bytes"], third["modified_at"], third["etag"]) == (None, None, None)
    assert third["attributes"] == {"a.b": "y"}


@pytest.mark.parametrize("kind", ["file.parquet", "folder.parquet", "delta"])
def test_parquet_and_delta(kind: str, spark: SparkSession, tmp_path: Path) -> None:
    unit = "us" if kind == "delta" else "ns"
    rows = pa.table(
        {
            "uri": ["a.jpg", "/b.jpg", None],
            "size_bytes": pa.array([1, 2, 3], pa.int32()),
            "modified_at": pa.array([NOON] * 3, pa.timestamp(unit, "UTC")),
            "score": [0.5, None, 1.0],
            "tags": [["x", "y"], [], None],
        }
    )
    path = tmp_path / kind
    if kind == "delta":
        write_deltalake(path, rows)
    elif kind == "folder.parquet":
        path.mkdir()
        pq.write_table(rows.slice(0, 1), path / "1.parquet")
        pq.write_table(rows.slice(1), path / "2.parquet")
    else:
        pq.write_table(rows, path)
    b, a, blank = listed(ManifestSource(str(path)), spark)
    assert (a["uri"], a["size_bytes"]) == (f"file://{tmp_path.resolve()}/a.jpg", 1)
    assert a["modified_at"].astimezone(UTC) == NOON
    assert a["attributes"] == {"score": "0.5", "tags": '["x","y"]'}
    assert (b["uri"], b["attributes"]) == ("file:///b.jpg", {"tags": "[]"})
    assert (blank["uri"], blank["size_bytes"]) == (f"file://{path.resolve()}", 3)


def test_a_row_without_a_uri_is_an_image_that_is_rejected(spark: SparkSession, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["uri", "note"], ["a.jpg", "x"], ["", "first"], ["   ", "second"])
    source = ManifestSource(str(path))
    _, *blank = listed(source, spark)
    assert {row["attributes"]["note"] for row in blank} == {"first", "second"}
    assert len({(row["uri"], row["member"]) for row in blank}) == 2
    for row in blank:
        with pytest.raises(ImageRejected, match="missing: this row of the manifest gives no uri"):
            source.fetch(address_of(row))


def test_a_line_that_does_not_fit_the_header_is_an_image_that_is_rejected(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('\ufeffuri,note\na.jpg,x\nb,unquoted comma.jpg,y\nshort.jpg\n"line\nbreak.jpg",z\n')
    source = ManifestSource(str(path))
    rows = listed(source, spark)
    broken = {row["attributes"]["line"]: row for row in rows if "line" in (row["attributes"] or {})}
    assert set(broken) == {"b,unquoted comma.jpg,y", "short.jpg"}
    folder = f"file://{tmp_path.resolve()}"
    assert sorted(set(uris(rows)) - {source.root}) == [f"{folder}/a.jpg", f"{folder}/line\nbreak.jpg"]
    assert len(rows) == 4
    with pytest.raises(ImageRejected, match="missing: in the manifest a line with 1 value where the header"):
        source.fetch(address_of(broken["short.jpg"]))


@pytest.mark.parametrize(
    "text",
    [
        b'uri,caption\ni0.jpg,"two\nlines"\ni1.jpg,one\ni2.jpg,"say ""hi"""\n',
        "uri;licence\r\ni0.jpg;own\r\ni1.jpg;x\r\ni2.jpg;y\r\n".encode("utf-16"),
        b"uri\ri0.jpg\ri1.jpg\ri2.jpg\r",
    ],
    ids=["line break in a value", "UTF-16 with semicolons", "old line ends"],
)
def test_manifests_of_spreadsheet_programs_are_read(text: bytes, spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(text)
    found = listed(ManifestSource(str(tmp_path / "m.csv")), spark)
    assert uris(found) == [f"file://{tmp_path.resolve()}/i{n}.jpg" for n in range(3)]


def test_a_large_manifest_is_read_in_parts(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup_spark.sources.csv_files._BLOCK_BYTES", 500)
    path = write_csv(tmp_path / "m.csv", ["uri", "note"], *[[f"s3://b/{n}.jpg", "x"] for n in range(100)])
    assert uris(listed(ManifestSource(str(path)), spark)) == sorted(f"s3://b/{n}.jpg" for n in range(100))
    path = write_csv(tmp_path / "n.csv", ["uri", "note"], *[[f"s3://b/{n}.jpg", "two\nlines"] for n in range(100)])
    assert uris(listed(ManifestSource(str(path)), spark)) == sorted(f"s3://b/{n}.jpg" for n in range(100))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("uri,uri", r"columns 1 \('uri'\) and 2 \('uri'\) of the header are both 'uri'.*rename or drop one"),
        ("uri,a,URI", r"columns 1 \('uri'\) and 3 \('URI'\) of the header are both 'uri', in any case"),
        ("uri;etag;ETag", r"columns 2 \('etag'\) and 3 \('ETag'\) of the header are both 'etag'"),
        ("url;caption", "no column 'uri'; the columns are: url, caption. Give that name to the column that holds"),
        ("URL\tTEXT", "no column 'uri'; the columns are: URL, TEXT"),
        ("", "empty, there is no line in it"),
        ("\0\1\2\3", "this is no text"),
    ],
)
def test_a_header_that_cannot_be_read_is_said_with_its_cause(header: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(header)
    with pytest.raises(ConfigError, match=said):
        ManifestSource(str(tmp_path / "m.csv"))._read(None)  # type: ignore[arg-type]  # it fails before Spark is asked


def test_two_members_of_one_name_are_two_images(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "pack.bin").write_bytes(b"onetwo")
    rows = [["pack.bin", "x", 0, 3], ["pack.bin", "x", 3, 3], ["pack.bin", "x", 3, 3]]
    source = ManifestSource(str(write_csv(tmp_path / "m.csv", ["uri", "member", "position", "size_bytes"], *rows)))
    found = listed(source, spark)
    assert [row["member"] for row in found] == ["x", "x#2", "x#2"]
    assert fetched(source, found) == [b"one", b"two", b"two"]


def test_an_image_inside_an_object_is_read_by_its_place(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "pack.bin").write_bytes(b"....image one|image two")
    path = write_csv(
        tmp_path / "m.csv",
        ["uri", "member", "position", "size_bytes"],
        ["pack.bin", "one", 4, 9],
        ["pack.bin", "two", 14, 9],
    )
    source = ManifestSource(str(path))
    assert fetched(source, listed(source, spark)) == [b"image one", b"image two"]


def test_what_is_no_manifest_is_said_with_the_columns_that_are_there(spark: SparkSession, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["url", "size"], ["a.jpg", 1])
    with pytest.raises(ConfigError, match="no column 'uri'; the columns are: url, size"):
        ManifestSource(str(path)).list_images(spark)
    with pytest.raises(ConfigError, match="no such file or table"):
        _ = ManifestSource(str(tmp_path / "none.csv")).root
    (tmp_path / "text.parquet").write_text("this is not Parquet, whatever its name says")
    with pytest.raises(ConfigError, match=r"text.parquet: cannot be read as parquet: .*not a Parquet file"):
        ManifestSource(str(tmp_path / "text.parquet")).list_images(spark)
