"""Lakes in S3: a server on loopback that refuses, forgets, breaks off and dawdles; nothing may be lost."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import NoCredentialsError
from clocks import set_clock
from listings import ODD_NAME, InThisProcess, address_of, listed
from PIL import Image
from pyspark.sql import SparkSession
from s3_server import Fault, S3Server, forget_filesystems, s3_of_this_process, s3_of_workers
from table_contents import rows as rows_of

from dedup_spark import pipeline
from dedup_spark.config import InventorySettings, load_config
from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import credentials, fetching, pacing, patience
from dedup_spark.sources.base import Address, Source
from dedup_spark.sources.fetching import fetch_patiently
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.passed_over import CLOSED_FOLDER
from dedup_spark.sources.registry import open_source
from dedup_spark.sources.tar import list_members
from dedup_spark.stages.inventory import step as inventory
from dedup_spark.store import delta_sql, files
from dedup_spark.store.runs import Run
from dedup_spark.store.tables import Tables

OBJECTS = {
    **{f"photos/{n // 10}/{n}.jpg": f"photo {n}".encode() for n in range(40)},
    f"photos/{ODD_NAME}": b"odd",
    "photos/a//b.jpg": b"a folder without a name",
    "photos//first.jpg": b"another",
    "photos/": b"",  # the folder's own marker, as consoles make it
}
PHOTOS = {f"s3://lake/{key}": data for key, data in OBJECTS.items() if data}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_of_this_process(tmp_path_factory.mktemp("s3") / "log") as s3:
        s3.put("lake", OBJECTS)
        yield s3


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server without faults; pauses between attempts are short."""
    server.faults.clear()
    server.requests.clear()
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(fetching, "_outages", {})
    monkeypatch.setattr(pacing, "_paces", {})
    return server


@pytest.fixture
def on_workers(spark: SparkSession, server: S3Server) -> Iterator[SparkSession]:
    """A session whose Python workers find the server."""
    with s3_of_workers(spark, server.environment):
        yield spark


@pytest.fixture
def give_up_at_once(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing has the retries of botocore and s3fs: half a minute of them."""
    once = {"endpoint_url": s3.endpoint, "config_kwargs": {"retries": {"total_max_attempts": 1}}}
    monkeypatch.setitem(fsspec.config.conf, "s3", once)
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)


def open_lake(lake: str, **settings: Any) -> Source:
    return open_source(lake, InventorySettings(**settings))


def read_all(source: Source, rows: list[dict[str, Any]], spark: SparkSession) -> list[tuple[bytes, int]]:
    """Bytes and failed attempts of each row, fetched by tasks."""
    of_rows = spark.sparkContext.parallelize([address_of(row) for row in rows], 4)
    return of_rows.map(lambda address: fetch_patiently(source, address, 60.0, 2**20)).collect()


@pytest.mark.slow
def test_executors_list_and_read_what_is_there_through_faults(s3: S3Server, on_workers: SparkSession) -> None:
    s3.faults += [
        Fault("list-type=2", status=503, times=2),
        Fault("list-type=2", status=500),
        Fault("list-type=2", cut=True),
    ]
    source = open_lake("s3://lake/photos/")
    rows = listed(source, on_workers)
    assert {row["uri"]: row["size_bytes"] for row in rows} == {uri: len(data) for uri, data in PHOTOS.items()}
    assert all(row["etag"] and row["modified_at"] for row in rows)
    s3.faults[:] = [
        Fault("/1/11.jpg", status=503, times=3),
        Fault("/1/12.jpg", status=500),
        Fault("/2/22.jpg", cut=True, times=2),
        Fault("/3/33.jpg", delay_seconds=1.0),
    ]
    answers = dict(zip((row["uri"] for row in rows), read_all(source, rows, on_workers), strict=True))
    assert {uri: data for uri, (data, _) in answers.items()} == PHOTOS
    n_failed = {uri.rpartition("/")[2]: n for uri, (_, n) in answers.items() if n}
    assert n_failed == {"11.jpg": 3, "12.jpg": 1, "22.jpg": 2}


@pytest.mark.slow
def test_a_bucket_by_three_schemes_is_one_lake(s3: S3Server, on_workers: SparkSession, tables: Tables) -> None:
    keys = ["a//b.jpg", "a/b.jpg", "a b.jpg", "a+b.jpg", "a%20b.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg", "A/b.jpg"]
    s3.put("spelled", {f"photos/{key}": key.encode() for key in keys})
    found = []
    for scheme in ("s3", "s3a", "s3n"):
        counts = run_inventory(tables, f"{scheme}://spelled/photos")
        assert counts["new_or_changed"] == (len(keys) if scheme == "s3" else 0)
        found.append({row["uri"]: row["image_id"] for row in rows_of(tables.root, "images")})
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == {f"s3://spelled/photos/{key}" for key in keys}
    assert {row["lake"] for row in rows_of(tables.root, "images")} == {"s3://spelled/photos"}


ODD_KEYS = [
    "\x01.jpg", "a .. .jpg", "\uf7e9.jpg", " lead.jpg", "trail.jpg ", "100%.jpg", "a+b#c?.jpg", "\U0001f600.jpg",
    "a\\b.jpg", "x" * 900 + ".jpg",
]  # fmt: skip


def test_one_folder_that_the_store_refuses_and_keys_of_any_kind_stop_no_listing(s3: S3Server) -> None:
    odd = {f"photos/odd/{key}": key.encode() for key in ODD_KEYS}
    s3.put("refusing", odd | {"photos/a.jpg": b"a", "photos/closed/b.jpg": b"b", "photos/closed/deep/c.jpg": b"c"})
    s3.faults[:] = [BY_FOLDERS, Fault("prefix=photos/closed/", status=403, code="AccessDenied", times=100)]
    source = open_lake("s3://refusing/photos")
    rows = [row.asDict() for row in source.list_images(InThisProcess()).collect()]  # type: ignore[arg-type]
    uris = {row["uri"] for row in rows if row["passed_over"] is None}
    assert uris == {"s3://refusing/photos/a.jpg", *(f"s3://refusing/{key}" for key in odd)}
    assert {source.fetch(Address(uri)) for uri in uris} == {b"a", *odd.values()}
    [unlisted] = [row for row in rows if row["passed_over"]]
    assert (unlisted["uri"], unlisted["passed_over"]) == ("s3://refusing/photos/closed", CLOSED_FOLDER)

    s3.faults[:] = [Fault("prefix=photos/&", status=403, code="AccessDenied", times=100)]
    with pytest.raises(SourceError, match=r"s3://refusing/photos: the store refuses to list it: .*nothing was changed"):
        source.list_images(InThisProcess())  # type: ignore[arg-type]


A_PAGE = "max-keys=1000"
"""Of a listing by ranges of keys; the look whether there is a folder asks for one key."""
BY_FOLDERS = Fault(A_PAGE, status=403, code="AccessDenied", times=1000)
"""A store that refuses to list all keys of the lake, so that it is listed folder by folder."""
NO_TOKEN = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>nightly</Name><Prefix>photos/</Prefix>
<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated></ListBucketResult>"""
NOTHING = NO_TOKEN.replace(b"true", b"false")


@pytest.mark.slow
def test_a_listing_cut_off_at_a_page_changes_nothing_and_a_partial_one_costs_no_reading(
    s3: S3Server, on_workers: SparkSession, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {f"photos/{n % 3}/{n}.png": picture(n) for n in range(30)}
    s3.put("nightly", pictures)
    config = load_config(None, ["extract.embedding=off"])
    run = Run(tables, config, "s3://nightly/photos", "r1")
    for step in ("inventory", "extract"):
        pipeline.run_step(on_workers, config, run, pipeline.find_step(step))
    images, read = rows_of(tables.root, "images"), rows_of(tables.root, "features")
    assert len(read) == 30

    monkeypatch.setattr(patience, "_LISTING_PATIENCE_SECONDS", 0.0)
    s3.faults[:] = [Fault(A_PAGE, body=NO_TOKEN, times=100)]
    with pytest.raises(SourceError, match=r"ended its listing in the middle.*nothing was changed"):
        pipeline.run_step(on_workers, config, run, pipeline.find_step("inventory"))
    s3.faults[:] = [Fault(A_PAGE, cut=True, times=100)]
    with pytest.raises(SourceError, match="nothing was changed"):
        pipeline.run_step(on_workers, config, run, pipeline.find_step("inventory"))
    assert rows_of(tables.root, "images") == images

    s3.faults[:] = [
        BY_FOLDERS,
        Fault("prefix=photos/1/", body=NOTHING, times=100),
    ]  # a key that cannot see this folder tonight
    for step in ("inventory", "extract"):
        pipeline.run_step(on_workers, config, run, pipeline.find_step(step))
    assert (len(rows_of(tables.root, "images")), len(rows_of(tables.root, "features"))) == (20, 20)
    s3.faults.clear()
    s3.requests.clear()
    for step in ("inventory", "extract"):
        pipeline.run_step(on_workers, config, run, pipeline.find_step(step))
    assert s3.n_requests("GET", ".png") == 0
    by_id = {row["image_id"]: row for row in read}
    assert {row["image_id"]: row for row in rows_of(tables.root, "features")} == by_id
    assert {row["uri"] for row in rows_of(tables.root, "images")} == {row["uri"] for row in images}
    assert rows_of(tables.root, "tombstones") == []


@pytest.mark.slow
def test_a_store_that_answers_503_to_six_of_ten_is_listed_whole(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_SECONDS", 0.05)
    source = FolderSource("s3://lake/photos")
    assert source.root
    rng = random.Random(1)
    monkeypatch.setattr(
        s3, "fault_for", lambda *_: Fault("", status=503) if rng.random() < 0.6 else None, raising=False
    )
    batch = pa.RecordBatch.from_pylist([{"path": source.root, "recursive": True}])
    found = [row["uri"] for made in source._list_places(iter([batch])) for row in made.to_pylist()]
    assert sorted(found) == sorted(PHOTOS)


def picture(seed: int) -> bytes:
    data = io.BytesIO()
    Image.effect_noise((64, 48), 10 + seed).save(data, "PNG")
    return data.getvalue()


def run_inventory(tables: Tables, lake: str) -> dict[str, int]:
    config = load_config()
    run = Run(tables, config, lake, "r1")
    inventory.run(tables.spark, config, run)
    return run._mark.counts


@pytest.mark.parametrize(
    ("status", "reason", "n_asked"),
    [(404, "missing: no such", 1), (403, "forbidden", 1), (503, "store_unavailable: 1 attempt failed", 1)],
)
def test_refusals_are_final_and_faults_are_not(status: int, reason: str, n_asked: int, s3: S3Server) -> None:
    s3.faults.append(Fault("/0/7.jpg", status=status, times=100))
    with pytest.raises(ImageRejected, match=reason):
        fetch_patiently(open_lake("s3://lake/photos"), Address("s3://lake/photos/0/7.jpg"), 0, 2**20)
    assert s3.n_requests("GET", "/0/7.jpg") == n_asked  # neither s3fs nor botocore tries again behind our back


def test_an_archived_object_is_asked_for_once_and_its_listing_says_the_class(
    s3: S3Server, on_workers: SparkSession
) -> None:
    s3.put("attic", {"old/1.jpg": b"1", "old/2.jpg": b"2"})
    s3.client.put_object(Bucket="attic", Key="old/2.jpg", Body=b"2", StorageClass="DEEP_ARCHIVE")
    source = open_lake("s3://attic/old")
    rows = {row["uri"]: row["attributes"] for row in listed(source, on_workers)}
    assert rows == {"s3://attic/old/1.jpg": None, "s3://attic/old/2.jpg": {"storage_class": "DEEP_ARCHIVE"}}
    with pytest.raises(ImageRejected, match=r"archived: .*DEEP_ARCHIVE"):
        fetch_patiently(source, Address("s3://attic/old/2.jpg"), 300, 2**20)
    assert s3.n_requests("GET", "/old/2.jpg") == 1


@pytest.fixture
def hand_out(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes another token into the file of credentials; the first one is there, and refused as expired from now on."""
    file = tmp_path / "credentials"

    def write(token: str) -> None:
        key = "aws_access_key_id = testing\naws_secret_access_key = testing\n"
        file.write_text(f"[default]\n{key}aws_session_token = {token}\n")
        monkeypatch.setattr(credentials, "_renewed_at", -1e9)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write("first")
    credentials.find_credentials_anew(0.0)
    write("first")
    yield write
    forget_filesystems()


EXPIRED = Fault("photos", status=400, code="ExpiredToken", token="first", times=1000)


def test_a_token_that_was_renewed_meanwhile_is_found(s3: S3Server, hand_out: Callable[[str], None]) -> None:
    source = open_lake("s3://lake/photos")
    assert fetch_patiently(source, Address("s3://lake/photos/0/1.jpg"), 60, 2**20) == (b"photo 1", 0)
    s3.faults.append(replace(EXPIRED))
    with pytest.raises(ImageRejected, match=r"expired_credentials: .*ExpiredToken"):
        fetch_patiently(source, Address("s3://lake/photos/0/2.jpg"), 60, 2**20)
    hand_out("second")
    assert fetch_patiently(source, Address("s3://lake/photos/0/2.jpg"), 60, 2**20) == (b"photo 2", 1)
    assert fetch_patiently(source, Address("s3://lake/photos/0/3.jpg"), 60, 2**20) == (b"photo 3", 0)


@pytest.mark.parametrize("by_folders", [False, True])
def test_a_listing_goes_on_with_a_token_that_was_renewed_meanwhile(
    by_folders: bool, s3: S3Server, hand_out: Callable[[str], None]
) -> None:
    source = open_lake("s3://lake/photos")
    assert source.root
    hand_out("second")
    s3.faults[:] = [replace(EXPIRED), *([replace(BY_FOLDERS)] if by_folders else [])]
    rows = [row.asDict() for row in source.list_images(InThisProcess()).collect()]  # type: ignore[arg-type]
    assert {row["uri"] for row in rows} == set(PHOTOS)


@pytest.mark.parametrize("by_folders", [False, True])
def test_a_token_that_expires_within_a_listing_ends_it_and_no_folder_is_taken_for_closed(
    by_folders: bool, s3: S3Server, hand_out: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_CREDENTIALS_PATIENCE_SECONDS", 0.5)
    source = FolderSource("s3://lake/photos")
    shared_out = (source._folders if by_folders else source._ranges)(InThisProcess(), 2)  # type: ignore[arg-type]
    s3.faults[:] = [replace(EXPIRED, text="prefix=photos/3/" if by_folders else "prefix=photos/")]
    place = f"{source.root}/3" if by_folders else source.root
    with pytest.raises(SourceError, match=f"{place}: the store takes no credentials .*ExpiredToken.*nothing was"):
        shared_out.mapInArrow(source._list_places, "")  # type: ignore[union-attr]


def test_a_tar_is_read_on_with_a_token_that_was_renewed_meanwhile(
    s3: S3Server, hand_out: Callable[[str], None]
) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for n in range(3):
            member = tarfile.TarInfo(f"{n}.jpg")
            member.size = 3 << 20  # so that no block read ahead holds two headers
            tar.addfile(member, io.BytesIO(bytes([n]) * member.size))
    s3.put("lake", {"tars/photos.tar": data.getvalue()})
    rows = list_members("s3://lake/tars/photos.tar", None, skip_hidden=True)
    first = next(rows)
    hand_out("second")
    s3.faults[:] = [replace(EXPIRED, text="photos.tar")]
    assert [row["member"] for row in (first, *rows)] == ["0.jpg", "1.jpg", "2.jpg"]


def test_none_who_hands_out_credentials_is_waited_for_as_long_as_for_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    set_clock(
        monkeypatch, patience, monotonic=lambda: clock[0], sleep=lambda seconds: clock.append(clock.pop() + seconds)
    )
    monkeypatch.setattr(patience, "find_credentials_anew", lambda began: None)

    def ask() -> str:
        if clock[0] < 100:
            raise NoCredentialsError
        return "an answer"

    assert patience.ask_patiently(ask, "s3://lake") == "an answer"


def test_markers_of_folders_are_no_table_and_no_name_in_themselves(s3: S3Server) -> None:
    s3.put(
        "begun",
        {f"t/{folder}/": b"" for folder in ("images", "images/_delta_log", "images/_delta_log/_staged_commits")},
    )
    assert files.list_names("s3://begun/t/images/_delta_log/_staged_commits") == []
    assert not delta_sql.is_table("s3://begun/t/images")
    assert delta_sql.remove_lost_beginning("s3://begun/t/images")
    assert files.list_names("s3://begun/t/images/_delta_log") == []
    commit = {"t/images/_delta_log/00000000000000000000.json": b"{}"}
    s3.put("begun", commit)
    assert delta_sql.is_table("s3://begun/t/images")
    assert not delta_sql.remove_lost_beginning("s3://begun/t/images")
    assert delta_sql.is_table("s3://begun/t/images")


def test_a_store_that_refuses_a_range_of_keys_ends_the_listing_in_one_sentence(s3: S3Server) -> None:
    source = FolderSource("s3://lake/photos")
    shared_out = source._ranges(InThisProcess(), 2)  # type: ignore[arg-type]
    s3.faults[:] = [replace(BY_FOLDERS)]
    with pytest.raises(SourceError, match="s3://lake/photos: the store refuses to list it") as e:
        shared_out.mapInArrow(source._list_places, "")  # type: ignore[union-attr]
    assert type(e.value) is SourceError, "which the driver reads out of the error of a task"


def test_an_answer_that_does_not_come_is_given_up_and_asked_for_again(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = {"endpoint_url": s3.endpoint, "config_kwargs": {"read_timeout": 0.3}}
    monkeypatch.setitem(fsspec.config.conf, "s3", impatient)
    forget_filesystems()
    s3.faults.append(Fault("/0/5.jpg", delay_seconds=1.5, times=2))
    source = open_lake("s3://lake/photos")
    assert fetch_patiently(source, Address("s3://lake/photos/0/5.jpg"), 60, 2**20) == (b"photo 5", 2)
    forget_filesystems()


def test_an_object_is_read_by_one_request(s3: S3Server) -> None:
    assert read_object("s3a://lake/photos/0/1.jpg") == b"photo 1"
    assert read_object("s3://lake/photos/0/1.jpg", 2, 3) == b"oto"
    assert read_object("s3://lake/photos/0/1.jpg", 5, 30) == b" 1"
    assert read_object("s3://lake/photos/0/1.jpg", 50, 3) == b""
    assert s3.requests == [("GET", "/lake/photos/0/1.jpg")] * 4


def test_a_lake_that_is_not_there_or_not_ours_is_said(s3: S3Server) -> None:
    for lake in ("s3://no-such-bucket/photos", "s3://lake/no-such-folder"):
        with pytest.raises(ConfigError, match="no such folder"):
            _ = open_lake(lake).root
    s3.faults += [Fault("secret", status=403, times=100, method=m) for m in ("GET", "HEAD")]
    with pytest.raises(ConfigError, match="s3://lake/secret: cannot be looked at: PermissionError"):
        _ = open_lake("s3://lake/secret").root


def test_the_images_of_a_tar_file_are_found_without_reading_them(s3: S3Server, on_workers: SparkSession) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for n in range(5):
            info = tarfile.TarInfo(f"{n}.jpg")
            info.size = 3 * 2**20
            tar.addfile(info, io.BytesIO(bytes([n]) * info.size))
    s3.put("shards", {"train/0.tar": data.getvalue()})
    s3.requests.clear()
    assert len(list(list_members("s3://shards/train/0.tar", None, True))) == 5
    assert s3.n_requests("GET", "0.tar") <= 7
    source = open_lake("s3://shards/train/*.tar")
    rows = listed(source, on_workers)
    assert [row["member"] for row in rows] == [f"{n}.jpg" for n in range(5)]
    assert source.fetch(address_of(rows[3])) == bytes([3]) * 3 * 2**20


@pytest.mark.slow
def test_a_fault_while_a_tar_file_is_listed_fails_the_task(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LISTING_PATIENCE_SECONDS", 0.0)
    s3.put("bad-shards", {"0.tar": b"\0" * 10_240})
    s3.faults.append(Fault("0.tar", status=503, times=30))
    with pytest.raises(SourceError, match="what is in it is unknown, so nothing was changed: run again"):
        list(list_members("s3://bad-shards/0.tar", None, True))


def test_rows_of_a_table_are_read_in_place(s3: S3Server, give_up_at_once: None) -> None:
    data = io.BytesIO()
    pq.write_table(pa.table({"image": [b"%03d" % n * 999 for n in range(100)]}), data, row_group_size=40)
    s3.put("tables", {"faces.parquet/0.parquet": data.getvalue()})
    source = open_lake("s3://tables/faces.parquet")  # its schema was looked at: a table, not a manifest
    uri = f"{source.root}/0.parquet"
    for n in (0, 55, 99):
        assert source.fetch(Address(source.root, f"0.parquet#{n}", uri, n)) == b"%03d" % n * 999
    s3.faults += [Fault("0.parquet", status=503, times=100, method=m) for m in ("GET", "HEAD")]
    with pytest.raises(OSError, match=r"\[Errno 16\]"):
        source.fetch(Address(source.root, "0.parquet#1", uri.replace("/0.", "//0."), 1))


HADOOP_SESSION = """
import json, sys
from pyspark.sql import SparkSession
from dedup_spark.config import InventorySettings
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.session import get_session
endpoint, *lakes = sys.argv[1:]
s3a = {
    "endpoint": endpoint, "path.style.access": "true", "connection.ssl.enabled": "false",
    "endpoint.region": "us-east-1", "access.key": "testing", "secret.key": "testing",
}
builder = SparkSession.builder.master("local[2,4]").config("spark.jars.packages", "org.apache.hadoop:hadoop-aws:3.4.2")
builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.ui.enabled", "false")
for name, value in s3a.items():
    builder = builder.config(f"spark.hadoop.fs.s3a.{name}", value)
builder.getOrCreate()
spark = get_session("s3a")
found = {}
for lake in lakes:
    kind, _, uri = lake.partition("=")
    source = open_source(uri, InventorySettings(source=kind))
    rows = source.list_images(spark).select("uri", "member", "location", "position", "size_bytes").collect()
    found[lake] = sorted([list(row) for row in rows], key=str)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_spark_itself_lists_and_reads_through_hadoop(s3: S3Server, tmp_path: Path) -> None:
    inventory = {
        "sourceBucket": "lake", "destinationBucket": "arn:aws:s3:::reports", "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size", "files": [{"key": "lake/all/data/1.csv"}],
    }  # fmt: skip
    table = io.BytesIO()
    pq.write_table(pa.table({"image": [b"one", b"two"]}), table)
    s3.put(
        "reports",
        {
            "lake/all/2026-11-23T01-00Z/manifest.json": json.dumps(inventory).encode(),
            "lake/all/data/1.csv": b'"lake","photos/0/1.jpg","7"\n',
            "list.csv": b"uri,size_bytes\ns3://lake/photos/0/1.jpg,7\nhere.jpg,3\n",
            "t.parquet": table.getvalue(),
        },
    )
    lakes = [
        "binary_file=s3a://lake/photos/0", "binary_file=s3://lake/photos/0", "manifest=s3://reports/list.csv",
        "s3_inventory=s3://reports/lake/all", "table=s3://reports/t.parquet",
    ]  # fmt: skip
    s3.faults += [Fault("photos/0", status=503, times=3), Fault("list.csv", status=503, times=2)]
    command = [sys.executable, "-c", HADOOP_SESSION, s3.endpoint, *lakes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for lake in lakes[:2]:
        assert {uri: size for uri, *_, size in found[lake]} == {
            f"s3://lake/photos/0/{n}.jpg": len(f"photo {n}") for n in range(10)
        }
    assert [row[0] for row in found[lakes[2]]] == ["s3://lake/photos/0/1.jpg", "s3://reports/here.jpg"]
    assert found[lakes[3]] == [["s3://lake/photos/0/1.jpg", None, None, None, 7]]
    assert [row[1] for row in found[lakes[4]]] == ["t.parquet#0", "t.parquet#1"]
    source = open_lake("s3://reports/t.parquet")
    assert source.fetch(Address(*found[lakes[4]][1])) == b"two"


def test_a_key_that_looks_like_a_version_is_read_as_it_is(s3: S3Server) -> None:
    s3.put("versions", {"a.jpg": b"AAAA", "a.jpg?versionId=1": b"BBBB", "b.jpg/": b"CCCC"})
    assert read_object("s3://versions/a.jpg") == b"AAAA"
    assert read_object("s3://versions/a.jpg?versionId=1") == b"BBBB"
    assert read_object("s3://versions/b.jpg/") == b"CCCC"


def test_an_object_that_was_replaced_by_as_many_bytes_is_not_read_for_the_one_that_was_listed(s3: S3Server) -> None:
    s3.put("replaced", {"x/a.jpg": b"AAAA"})
    source = FolderSource("s3://replaced/x")
    batch = pa.RecordBatch.from_pylist([{"path": source.root, "recursive": True}])
    [row] = [row for made in source._list_places(iter([batch])) for row in made.to_pylist()]
    address = Address(row["uri"], size_bytes=4, etag=row["etag"])
    assert fetch_patiently(source, address, 60, 2**20) == (b"AAAA", 0)
    s3.client.put_object(Bucket="replaced", Key="x/a.jpg", Body=b"BBBB")
    with pytest.raises(ImageRejected, match="changed_since_listing"):
        fetch_patiently(source, address, 60, 2**20)
