"""Addresses that were forgotten: left out of listings, and known by nobody without the key."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fabricated import frame
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.errors import TableError
from dedup_spark.sources.base import LISTING
from dedup_spark.sources.passed_over import CLOSED_FOLDER, FORGOTTEN, HIDDEN_FILE
from dedup_spark.store.forgotten import FOLDER, masking_forgotten, new_ids, remember, without_forgotten
from dedup_spark.store.tables import Tables

NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)
ADDRESSES = [("s3://b/a.jpg", None), ("s3://b/x.tar", "a.jpg"), ("s3://b/x.tar", "b.jpg"), ("s3://b/ü.jpg", None)]


def listing(spark: SparkSession, rows: list[tuple[str, str | None]]) -> DataFrame:
    return frame(spark, "uri string, member string, n int", [{"uri": u, "member": m, "n": 1} for u, m in rows])


def left(tables: Tables, rows: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    found = without_forgotten(tables, listing(tables.spark, rows))
    assert found.columns == ["uri", "member", "n"]
    return sorted((row["uri"], row["member"]) for row in found.collect())


def test_an_address_that_was_forgotten_is_left_out_and_no_other(tables: Tables) -> None:
    assert left(tables, ADDRESSES[:1]) == ADDRESSES[:1]
    forgotten = [ADDRESSES[0], ADDRESSES[1], ADDRESSES[3]]
    assert remember(tables, listing(tables.spark, forgotten), "r1", NOW) == 3
    assert remember(tables, listing(tables.spark, forgotten), "r2", NOW) == 0
    others = [("s3://b/A.jpg", None), ("s3://b/x.tar", "b.jpg"), ("s3://b/x.tara.jpg", None)]
    assert left(tables, [*forgotten, *others]) == sorted(others, key=str)


def test_with_an_object_all_that_is_in_it_is_left_out_known_or_not(tables: Tables) -> None:
    remember(tables, listing(tables.spark, [("s3://b/x.tar", None), ("s3://b/data.parquet", None)]), "r1", NOW)
    assert left(tables, [("s3://b/x.tar", "new.jpg"), ("s3://b/y.tar", "new.jpg"), ("s3://b/x.tar", None)]) == [
        ("s3://b/y.tar", "new.jpg")
    ]
    files = ("s3://b/data.parquet", "s3://b/other.parquet")
    rows = [{"uri": "s3://b", "member": str(n), "location": file} for n, file in enumerate(files)]
    held = without_forgotten(tables, frame(tables.spark, "uri string, member string, location string", rows))
    assert [row["member"] for row in held.collect()] == ["1"]


def test_in_a_listing_what_was_forgotten_is_a_row_without_an_address_and_what_is_unknown_stays(tables: Tables) -> None:
    folder, image, hidden = "s3://b/closed", "s3://b/a.jpg", "s3://b/.b"
    remember(tables, listing(tables.spark, [(folder, None), (image, None), (hidden, None)]), "r1", NOW)
    rows = [
        {"uri": image, "size_bytes": 7, "etag": "e", "attributes": {"k": "v"}},
        {"uri": "s3://b/other.jpg", "size_bytes": 8},
        {"uri": folder, "passed_over": CLOSED_FOLDER, "n_passed_over": 1},
        {"uri": hidden, "passed_over": HIDDEN_FILE, "n_passed_over": 12},
    ]
    masked = masking_forgotten(tables, frame(tables.spark, LISTING.ddl, rows))
    assert masked.columns == LISTING.names
    found = {row["passed_over"]: {k: v for k, v in row.asDict().items() if v is not None} for row in masked.collect()}
    assert found == {
        FORGOTTEN: {"passed_over": FORGOTTEN},
        None: {"uri": "s3://b/other.jpg", "size_bytes": 8},
        CLOSED_FOLDER: {"uri": folder, "passed_over": CLOSED_FOLDER, "n_passed_over": 1},
        HIDDEN_FILE: {"passed_over": HIDDEN_FILE, "n_passed_over": 12},
    }


def test_what_is_kept_says_nothing_of_an_address_without_the_key(tables: Tables) -> None:
    remember(tables, listing(tables.spark, ADDRESSES), "r1", NOW)
    known = tables.read_forgotten()
    assert known is not None
    held = {bytes(row["digest"]) for row in known.collect()}
    assert all(len(digest) == 32 for digest in held)
    texts = [text for uri, member in ADDRESSES for text in (uri, f"{uri}\0{member or ''}", f"{uri}\0")]
    assert not held & {hashlib.sha256(text.encode()).digest() for text in texts}
    key = Path(tables.root, FOLDER, "key").read_text()
    uri, member = ADDRESSES[1]
    assert hashlib.sha256(f"{key}\0{uri}\0{member}".encode()).digest() in held  # who has both can ask for one


def test_a_key_that_is_lost_stops_the_listing_and_the_next_forget(tables: Tables) -> None:
    remember(tables, listing(tables.spark, ADDRESSES[:1]), "r1", NOW)
    Path(tables.root, FOLDER, "key").unlink()
    with pytest.raises(TableError, match="key is missing"):
        left(tables, ADDRESSES)
    with pytest.raises(TableError, match="key is missing"):
        remember(tables, listing(tables.spark, ADDRESSES), "r2", NOW)


def test_a_new_id_is_the_same_each_time_and_another_with_another_key(tables: Tables) -> None:
    ids = frame(tables.spark, "image_id bigint", [{"image_id": n} for n in (-1, 5)])
    first = {row["old_id"]: row["new_id"] for row in new_ids(tables, ids).collect()}
    assert first == {row["old_id"]: row["new_id"] for row in new_ids(tables, ids).collect()}
    assert len({*first, *first.values()}) == 4
    Path(tables.root, FOLDER, "key").unlink()
    assert first != {row["old_id"]: row["new_id"] for row in new_ids(tables, ids).collect()}
