"""Bytes by Spark's binaryFile reader: which files it gives, what becomes of the others, and how they are planned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clocks import set_clock
from listings import ODD_NAME, plan_of
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import SourceError
from dedup_spark.sources import addresses, spark_bytes
from dedup_spark.sources.faults import reason_of_java
from dedup_spark.spark.local_relation import local_relation

NAMES = (
    "a.jpg",
    f"sub/{ODD_NAME.replace(':', ';')}",
    "sub/{b,c}/k=v/d e.jpg",
    "sub/back\\slash.jpg",
    "sub/new\nline.jpg",
)
LIMITS = ExtractSettings()


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake [x]{y} 100%25 #1"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def images_of(spark: SparkSession, folder: Path, *names: str, size_bytes: int | None = None) -> DataFrame:
    rows = [(i, f"{addresses.to_uri(str(folder))}/{name}", size_bytes) for i, name in enumerate(names)]
    return local_relation(spark, rows, "image_id bigint, uri string, size_bytes bigint")


def as_they_are(batches: Iterable[Any]) -> Iterator[Any]:
    yield from batches


def given(images: DataFrame, folder: Path, max_bytes: int = 2**20) -> dict[int, bytes]:
    spark = images.sparkSession
    with spark_bytes.scan_settings(spark, LIMITS):
        found = spark_bytes.with_content(images, addresses.to_uri(str(folder)), max_bytes)
        return {row.image_id: bytes(row.content) for row in found.collect()}


def test_every_name_is_read_literally(lake: Path, spark: SparkSession) -> None:
    assert given(images_of(spark, lake, *NAMES), lake) == {i: name.encode() for i, name in enumerate(NAMES)}


def test_files_that_are_gone_or_too_large_are_left_out_and_the_others_read(lake: Path, spark: SparkSession) -> None:
    (lake / "large.jpg").write_bytes(bytes(2**20 + 1))
    names = ("gone 1.jpg", *NAMES, "gone 2.jpg", "large.jpg", "gone 3.jpg")
    wanted = {i: name.encode() for i, name in enumerate(names) if name in NAMES}
    assert given(images_of(spark, lake, *names), lake) == wanted
    assert given(images_of(spark, lake, "gone 1.jpg", "gone 2.jpg"), lake) == {}
    assert given(images_of(spark, lake, "a.jpg", size_bytes=2**21), lake) == {}  # by the listing: not even listed again


def test_each_file_of_a_list_with_many_gone_is_asked_for_once(
    lake: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = spark_bytes._present

    def counting(session: SparkSession, paths: Any) -> Any:
        asked.append(paths.size())
        return ask(session, paths)

    monkeypatch.setattr(spark_bytes, "_present", counting)
    names = [*NAMES, *(f"sub/gone [{i}{{ x.jpg" for i in range(200))]
    assert sorted(given(images_of(spark, lake, *names), lake).values()) == sorted(name.encode() for name in NAMES)
    assert asked == [len(names)]


def test_a_file_that_goes_or_grows_after_spark_listed_it_is_left_out(lake: Path, spark: SparkSession) -> None:
    with spark_bytes.scan_settings(spark, LIMITS):
        found = spark_bytes.with_content(images_of(spark, lake, *NAMES), addresses.to_uri(str(lake)), 2**20)
        (lake / NAMES[1]).unlink()
        (lake / NAMES[2]).write_bytes(bytes(2**20 + 1))
        assert sorted(row.image_id for row in found.collect()) == [0, 3, 4]


def test_a_lake_that_spark_cannot_list_is_one_sentence(spark: SparkSession) -> None:
    images = local_relation(spark, [(1, "nosuch://a/b.jpg", 3)], "image_id bigint, uri string, size_bytes bigint")
    with pytest.raises(SourceError, match=r"nosuch://a: Spark cannot list its files: .*nosuch"):
        spark_bytes.with_content(images, "nosuch://a", 2**20)


def test_names_that_no_pattern_of_hadoop_finds_are_listed_one_by_one_up_to_a_number(
    lake: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [ODD_NAME, *(f"12:30:{i:02d} [x].jpg" for i in range(40))]
    for name in names:
        (lake / name).write_bytes(b"1")
    images, root = images_of(spark, lake, "a.jpg", *names, "gone: [x].jpg"), addresses.to_uri(str(lake))
    files = spark_bytes._files(images, root)
    assert files is not None
    listed = files.select(addresses.from_hadoop(F.col("path"), root).alias("uri")).collect()
    assert sorted(row.uri for row in listed) == sorted(f"{root}/{name}" for name in ("a.jpg", *names))
    monkeypatch.setattr(spark_bytes, "_MOST_GLOBBED_IN_VAIN", 41)
    with pytest.raises(SourceError, match="42 files of a slice have a colon and one of"):
        spark_bytes._files(images, root)


def test_no_bytes_are_shuffled_and_a_task_has_the_images_asked_for(tmp_path: Path, spark: SparkSession) -> None:
    names = [f"{i}.jpg" for i in range(60)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes(1 + 3000 * (i % 7)))
    few = ExtractSettings(task_images=7, inflight_bytes=2**20)
    with spark_bytes.scan_settings(spark, few):
        root = addresses.to_uri(str(tmp_path))
        found = spark_bytes.with_content(images_of(spark, tmp_path, *names), root, 2**20)
        plan = plan_of(found.mapInArrow(as_they_are, found.schema))
        per_task = found.rdd.mapPartitions(lambda rows: [sum(1 for _ in rows)]).collect()
    exchanges = [line for line in plan.splitlines() if "Exchange" in line]
    assert all("BroadcastExchange" in line for line in exchanges)
    assert len(exchanges) == 1
    assert "BatchScan" not in plan
    assert "FileScan binaryFile" in plan
    assert "PushedFilters: [LessThanOrEqual(length,1048576)" in plan or "LessThanOrEqual(length,1048576)" in plan
    assert sum(per_task) == 60
    assert max(per_task) <= 7
    assert len(per_task) == 9


def test_the_session_is_as_it_was(spark: SparkSession) -> None:
    keys = ["spark.sql.files.openCostInBytes", "spark.sql.execution.arrow.maxRecordsPerBatch", spark_bytes._MAX_BYTES,
            "spark.sql.files.maxPartitionBytes", "spark.sql.sources.binaryFile.maxLength"]  # fmt: skip
    before = [spark.conf.get(key) for key in keys]
    inside: list[str | None] = []

    def fail() -> None:
        inside.extend(spark.conf.get(key) for key in keys)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), spark_bytes.scan_settings(spark, LIMITS):
        fail()
    assert inside == [str(2**30), "64", str(2**24), str(500 * 2**30), str(2**31 - 1)]
    assert [spark.conf.get(key) for key in keys] == before


def test_spark_that_knows_no_limit_in_bytes_gets_batches_of_one_file() -> None:
    class Session:
        """What `scan_settings` needs of a session."""

        def __init__(self) -> None:
            self.values: dict[str, str] = {}
            self.conf: Any = self
            self.sparkContext: Any = type("Context", (), {"defaultParallelism": 4})

        def get(self, key: str, *default: str | None) -> str | None:
            if key not in self.values and not default:
                raise PySparkException("no such setting")
            return self.values.get(key, *default)

        def set(self, key: str, value: str) -> None:
            self.values[key] = value

        def unset(self, key: str) -> None:
            del self.values[key]

    session: Any = Session()
    with spark_bytes.scan_settings(session, LIMITS):
        assert session.values["spark.sql.execution.arrow.maxRecordsPerBatch"] == "1"
        assert spark_bytes._MAX_BYTES not in session.values
    assert session.values == {}


def test_the_reason_of_what_spark_did_not_give_is_found_on_the_driver(lake: Path, spark: SparkSession) -> None:
    root = addresses.to_uri(str(lake))
    (lake / "folder.jpg").mkdir()
    (lake / "large.jpg").write_bytes(bytes(2000))
    limits = ExtractSettings(max_object_bytes=1000)
    asked = [(f"{root}/gone.jpg", 5), (f"{root}/folder.jpg", 5), (f"{root}/large.jpg", 5), (f"{root}/a.jpg", 6),
             (f"{root}/a.jpg", 5), (f"{root}/a.jpg", None), (f"{root}/x.jpg", 1001)]  # fmt: skip
    found = list(spark_bytes.why_absent(spark, asked, limits))
    assert [reason for reason, _ in found] == [
        "missing", "missing", "too_large", "changed_since_listing", "store_unavailable", "store_unavailable",
        "too_large",
    ]  # fmt: skip
    assert all(message for _, message in found)
    late = ExtractSettings(max_object_bytes=1000, fetch_patience_seconds=0)
    assert [reason for reason, _ in spark_bytes.why_absent(spark, asked[:1] + asked[-1:], late)] == [
        "store_unavailable", "too_large",
    ]  # fmt: skip


def asked_of(monkeypatch: pytest.MonkeyPatch, seconds_per_file: float, *answers: tuple[str, str]) -> list[str]:
    """The reasons of `why_absent` where the store gives `answers` after `seconds_per_file`, and has half a second."""
    clock = iter(float(i) * seconds_per_file for i in range(10_000))
    left = iter(answers)
    monkeypatch.setattr(addresses, "hadoop_conf", lambda session: None)
    monkeypatch.setattr(spark_bytes, "_QUESTIONS_AT_ONCE", 1)
    monkeypatch.setattr(spark_bytes, "_why", lambda *of_file: next(left))
    set_clock(monkeypatch, spark_bytes, monotonic=lambda: next(clock))
    files = [(f"s3://b/{i}", 1) for i in range(len(answers))]
    session: Any = None
    return [why for why, _ in spark_bytes.why_absent(session, files, ExtractSettings(fetch_patience_seconds=0.5))]


def test_every_file_is_asked_for_while_the_store_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [("forbidden", "403")] * 500
    assert asked_of(monkeypatch, 0.1, *answers) == ["forbidden"] * 500  # far more time than the patience


def test_a_store_that_answers_nothing_is_asked_for_as_long_as_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [("store_unavailable", "timed out")] * 500 + [("forbidden", "403")]
    assert asked_of(monkeypatch, 0.1, *answers) == ["store_unavailable"] * 501
    opens = [spark_bytes._OPENS, spark_bytes._OPENS] * 10 + [("forbidden", "403")]
    assert asked_of(monkeypatch, 0.1, *opens)[-1] == "forbidden"  # that a file opens is an answer


def test_hadoop_is_asked_with_the_settings_of_the_session(spark: SparkSession) -> None:
    spark.conf.set("fs.s3.impl", "org.example.Connector")
    try:
        assert addresses.to_hadoop(spark, "s3://b/k") == "s3://b/k"
    finally:
        spark.conf.unset("fs.s3.impl")


@pytest.mark.parametrize(
    ("classes", "text", "reason"),
    [
        ({"java.io.FileNotFoundException", "java.io.IOException"}, "No such file or directory: s3a://b/k", "missing"),
        ({"java.io.FileNotFoundException"}, "/lake/a.jpg (Permission denied)", "forbidden"),
        ({"java.nio.file.AccessDeniedException", "java.io.IOException"}, "s3a://b/k: 403 Forbidden", "forbidden"),
        ({"org.apache.hadoop.security.AccessControlException"}, "Permission denied: user=x", "forbidden"),
        ({"java.nio.file.AccessDeniedException"}, "open s3a://b/k: InvalidObjectState: storage class", "archived"),
        (
            {"java.nio.file.AccessDeniedException"},
            "ExpiredToken: the provided token has expired",
            "expired_credentials",
        ),
        ({"java.net.SocketTimeoutException", "java.io.IOException"}, "Read timed out", "store_unavailable"),
    ],
)
def test_errors_of_hadoop_are_told_by_class_and_code(classes: set[str], text: str, reason: str) -> None:
    assert reason_of_java(classes, text) == (reason, text)
