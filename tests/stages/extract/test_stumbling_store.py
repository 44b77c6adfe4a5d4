"""Lakes in an S3 that stumbles: whatever it does, no image is lost, and all are read in the end without a switch."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from s3_server import Fault, S3Server, forget_filesystems, s3_of_this_process, s3_of_workers
from table_contents import counts_of, rows

from dedup_spark.config import load_config
from dedup_spark.errors import GuardError
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables

N_IMAGES = 40
LAKE = "s3://lake/photos"


def picture(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_of_this_process(tmp_path_factory.mktemp("s3") / "log") as s3:
        s3.put("lake", {f"photos/{n}.png": picture(n) for n in range(N_IMAGES)})
        yield s3


@pytest.fixture
def s3(server: S3Server, spark: SparkSession, tmp_path: Path) -> Iterator[S3Server]:
    """The server without faults, and workers that have met none: they are new for each test."""
    server.faults.clear()
    server.requests.clear()
    with s3_of_workers(spark, {**server.environment, "TEST": tmp_path.name}):
        yield server


def run_of(tables: Tables, *overrides: str, run_id: str = "night", lake: str = LAKE) -> Run:
    run = Run(tables, load_config(None, ["extract.embedding=off", *overrides]), lake, run_id)
    for step in ("inventory", "extract"):
        run_step(tables.spark, run.config, run, find_step(step))
    return run


def outcomes(tables: Tables) -> dict[str | None, int]:
    """Reasons of the rows of features with their numbers; every image has one row."""
    found = rows(tables.root, "features")
    assert {r["image_id"] for r in found} == {r["image_id"] for r in rows(tables.root, "images")}
    assert len(found) == len(rows(tables.root, "images"))
    reasons = [r["reject_reason"] for r in found]
    return {reason: reasons.count(reason) for reason in {*reasons}}


@contextmanager
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="dedup_spark"):
        yield


@pytest.mark.slow
def test_a_store_that_refuses_most_requests_for_a_while_is_read_in_one_run(s3: S3Server, tables: Tables) -> None:
    s3.faults.append(Fault(".png", status=503, share=0.6, times=120, seed=7))
    run_of(tables)
    assert outcomes(tables) == {None: N_IMAGES}
    counts = counts_of(tables.root, "extract")
    assert counts["retries"] > 20
    assert (counts["read"], counts["rejected"], counts["unavailable"]) == (N_IMAGES, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, 503])
def test_an_outage_stops_the_run_and_the_same_command_reads_all(s3: S3Server, tables: Tables, status: int) -> None:
    s3.faults.append(Fault(".png", status=status, times=10**6))
    for _ in range(2):  # a store that is still down the next time is no success either
        with pytest.raises(GuardError, match=r"did not give 40 of the 40 images .*nothing is lost"):
            run_of(tables, "extract.fetch_patience_seconds=0.5")
        assert outcomes(tables) == {"store_unavailable": N_IMAGES}
    assert all(r["retriable"] for r in rows(tables.root, "features"))
    s3.faults.clear()
    run_of(tables)
    assert outcomes(tables) == {None: N_IMAGES}


@pytest.mark.slow
def test_few_images_that_the_store_does_not_give_stop_nothing_and_are_read_by_a_later_run(
    s3: S3Server, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    s3.faults += [Fault(f"/{n}.png", status=500, times=10**6) for n in (3, 33)]
    with warnings(caplog):
        run_of(tables, "extract.fetch_patience_seconds=0.2")
    assert outcomes(tables) == {None: N_IMAGES - 2, "store_unavailable": 2}
    assert "2 images were not given by the store: the next run reads them" in caplog.text
    version = tables.version(FEATURES)
    run_of(tables, "extract.fetch_patience_seconds=0.2", run_id="next night")
    assert tables.version(FEATURES) == version  # so that the steps behind have nothing to do
    s3.faults.clear()
    run_of(tables, run_id="third night")
    assert outcomes(tables) == {None: N_IMAGES}


@pytest.mark.slow
def test_tokens_that_expire_in_the_middle_lose_no_image(
    s3: S3Server, spark: SparkSession, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hand_out(token: str) -> None:
        key = "aws_access_key_id = testing\naws_secret_access_key = testing\n"
        (tmp_path / "credentials").write_text(f"[default]\n{key}aws_session_token = {token}\n")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
        monkeypatch.delitem(spark.sparkContext.environment, name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    spark.sparkContext.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "credentials")
    hand_out("first")
    forget_filesystems()
    for n in range(10, 40):  # expired for what is read later
        s3.faults.append(Fault(f"/{n}.png", status=400, code="ExpiredToken", token="first", times=10**6))
    with pytest.raises(GuardError, match="expired_credentials 30"):
        run_of(tables)
    assert outcomes(tables) == {None: 10, "expired_credentials": 30}
    hand_out("second")
    forget_filesystems()
    run_of(tables)
    assert outcomes(tables) == {None: N_IMAGES}
    forget_filesystems()


@pytest.mark.slow
def test_archived_images_stop_no_night_and_are_read_when_they_are_restored(
    s3: S3Server, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put("attic", {f"{n}.png": picture(n) for n in range(N_IMAGES)})
    for n in range(30):
        kind = "DEEP_ARCHIVE" if n < 10 else "GLACIER"
        s3.client.put_object(Bucket="attic", Key=f"{n}.png", Body=picture(n), StorageClass=kind)
    with warnings(caplog):
        run_of(tables, lake="s3://attic")
    assert outcomes(tables) == {None: 10, "archived": 30}
    assert "30 images lie in an archive (GLACIER 20, DEEP_ARCHIVE 10)" in caplog.text
    version = tables.version(FEATURES)
    s3.requests.clear()
    run_of(tables, lake="s3://attic", run_id="next night")
    assert s3.n_requests("GET", ".png") == 30  # one request an image, and no pause
    assert tables.version(FEATURES) == version
    for n in range(30):
        s3.client.restore_object(Bucket="attic", Key=f"{n}.png", RestoreRequest={"Days": 2})
    run_of(tables, lake="s3://attic", run_id="third night")
    assert outcomes(tables) == {None: N_IMAGES}


def listing_of(s3: S3Server, bucket: str) -> dict[str, Any]:
    return {facts["Key"]: facts for facts in s3.client.list_objects_v2(Bucket=bucket)["Contents"]}


def list_by_hand(tables: Tables, s3: S3Server, bucket: str, etags: dict[str, str | None]) -> None:
    """Rows of `images` with ETags as a test wants them; the store says the same of its objects."""
    s3.etags.update({f"/{bucket}/{key}": etag for key, etag in etags.items() if etag})
    columns = ("image_id", "lake", "uri", "size_bytes", "modified_at", "etag", "object_version")
    listing = [
        (i, f"s3://{bucket}", f"s3://{bucket}/{key}", facts["Size"], facts["LastModified"], etags[key], 1)
        for i, (key, facts) in enumerate(listing_of(s3, bucket).items())
    ]
    rows_by_name = [dict(zip(columns, row, strict=True)) for row in listing]
    values = [tuple(row.get(name) for name in IMAGES.column_names) for row in rows_by_name]
    tables.append(IMAGES, local_relation(tables.spark, values, IMAGES.schema))


def extract_alone(tables: Tables, lake: str) -> dict[str, int]:
    run = Run(tables, load_config(None, ["extract.embedding=off"]), lake, "etags")
    run_step(tables.spark, run.config, run, find_step("extract"))
    return counts_of(tables.root, "extract")


@pytest.mark.slow
def test_equal_md5_etags_of_a_bucket_are_read_once(s3: S3Server, tables: Tables) -> None:
    same, broken = picture(900), picture(901)[:300]
    objects = {"1.png": same, "2.png": same, "3.png": same, "4.png": picture(902), "5.png": broken, "6.png": broken}
    s3.put("copies", objects)
    s3.requests.clear()
    run_of(tables, lake="s3://copies")
    counts = counts_of(tables.root, "extract")
    assert (counts["read"], counts["copied"]) == (3, 3)
    by_uri = {r["uri"]: r["image_id"] for r in rows(tables.root, "images")}
    features = {r["image_id"]: r for r in rows(tables.root, "features")}
    hashes = [features[by_uri[f"s3://copies/{n}.png"]]["content_hash"] for n in range(1, 7)]
    assert [hashes.count(h) for h in hashes] == [3, 3, 3, 1, 2, 2]
    assert outcomes(tables) == {None: 4, "truncated": 2}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["{}", "{}-2", "0x8D{:.13}"], ids=["one piece", "in parts", "a version token"])
def test_etags_that_are_no_md5_sums_prove_nothing(
    s3: S3Server, tables: Tables, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = f"tokens-{len(form)}"
    s3.put(bucket, {f"{n}.bmp": bytes(range(n, n + 100)) for n in range(6)})  # of one size, and all different
    list_by_hand(tables, s3, bucket, {f"{n}.bmp": form.format(f"{n // 3:032x}") for n in range(6)})
    with warnings(caplog):
        counts = extract_alone(tables, f"s3://{bucket}")
    assert (counts["read"], counts["copied"]) == (6, 0)
    assert len({r["content_hash"] for r in rows(tables.root, "features")}) == 6
    if form != "0x8D{:.13}":
        assert f"the ETags of bucket {bucket} are not trusted" in caplog.text
        assert "are all read" in caplog.text
