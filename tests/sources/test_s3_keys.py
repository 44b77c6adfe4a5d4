"""A lake in S3 by ranges of keys: what is listed folder by folder, by one request for each thousand keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from listings import InThisProcess
from s3_server import Fault, S3Server, s3_of_this_process

from dedup_spark.config import InventorySettings
from dedup_spark.errors import SourceError
from dedup_spark.sources import folder as folder_source
from dedup_spark.sources import patience, s3_keys
from dedup_spark.sources.key_ranges import LAST, KeyRange
from dedup_spark.sources.passed_over import HIDDEN_FOLDER
from dedup_spark.sources.registry import open_source

PAGE = 50
KEYS = {
    **{f"many/{n:04d}/a.jpg": b"a" for n in range(400)},
    "many/0100/b.jpg": b"b",
    "many/.hidden/deep/x.jpg": b"hidden",
    **{f"many/0200/.git/{n:03d}.jpg": b"hidden" for n in range(170)},
    "many/0300/.DS_Store.jpg": b"hidden",
    "many/0399/": b"",  # the marker of a folder
    "many/full/": b"an object with the name of a folder",
    "many//no name.jpg": b"c",
    "many/\x01.jpg": b"d", "many/\uffff.jpg": b"e", "many/\U0001f600.jpg": b"f", f"many/{LAST}{LAST}.jpg": b"g",
    "many/caption.txt": b"t",
    "many0/beside.jpg": b"no part of the lake",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_of_this_process(tmp_path_factory.mktemp("s3") / "log") as s3:
        s3.put("lake", KEYS)
        yield s3


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    server.faults.clear()
    server.requests.clear()
    monkeypatch.setattr(s3_keys, "_KEYS_PER_PAGE", PAGE)
    monkeypatch.setattr("dedup_spark.sources.key_ranges._KEYS_WORTH_A_RANGE", PAGE)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.01)
    return server


def listing(lake: str, **settings: Any) -> list[tuple[Any, ...]]:
    rows = open_source(lake, InventorySettings(**settings)).list_images(InThisProcess()).collect()  # type: ignore[arg-type]
    facts = [row.asDict() for row in rows]
    names = ("uri", "size_bytes", "modified_at", "etag", "attributes", "passed_over", "n_passed_over")
    return sorted((tuple(row[name] for name in names) for row in facts), key=str)


def summed(rows: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
    """The images, and how many entries were passed over, by reason: each range has a row of its own."""
    counts: dict[str, int] = {}
    for *_, reason, n in rows:
        if reason:
            counts[reason] = counts.get(reason, 0) + n
    return [row for row in rows if row[-2] is None], counts


@pytest.mark.parametrize("skip_hidden", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ranges_give_what_a_listing_by_folders_gives_each_key_once(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, *, skip_hidden: bool
) -> None:
    by_ranges = summed(listing("s3://lake/many", skip_hidden=skip_hidden))
    n_by_ranges = s3.n_requests("GET", "list-type=2")
    s3.requests.clear()
    monkeypatch.setattr(folder_source, "ranges_of_keys", lambda *_: None)
    by_folders = summed(listing("s3://lake/many", skip_hidden=skip_hidden))
    assert by_ranges == by_folders
    uris = [row[0] for row in by_ranges[0]]
    assert len(set(uris)) == len(uris) == (407 if skip_hidden else 579)
    assert n_by_ranges < 100
    assert s3.n_requests("GET", "list-type=2") > 400


def test_listing_takes_a_request_for_each_page_of_keys(s3: S3Server) -> None:
    ranges = s3_keys.ranges_of_keys("s3://lake/many", 8)
    assert ranges is not None
    assert 8 <= len(ranges) <= 20
    s3.requests.clear()
    found = [entry for one in ranges for entry in s3_keys.entries_of_range("s3://lake/many", one, skip_hidden=False)]
    assert len({entry.uri for entry in found}) == len(found) == 580
    assert s3.n_requests("GET", "list-type=2") <= 580 / PAGE + 2 * len(ranges)


def test_a_hidden_folder_is_passed_over_by_one_request_and_counted_in_one_range(s3: S3Server) -> None:
    inside = "many/0200/.git/080.jpg"
    ranges = [KeyRange("", inside), KeyRange(inside, None)]
    found = [list(s3_keys.entries_of_range("s3://lake/many", one, skip_hidden=True)) for one in ranges]
    hidden = [[entry.uri for entry in entries if entry.is_folder] for entries in found]
    assert hidden == [["s3://lake/many/.hidden", "s3://lake/many/0200/.git"], []]
    s3.requests.clear()
    only = KeyRange("many/0200/.git/", "many/0200/a.jpg")
    assert [e.uri for e in s3_keys.entries_of_range("s3://lake/many", only, skip_hidden=True)] == [
        "s3://lake/many/0200/a.jpg"
    ]
    assert s3.n_requests("GET", "list-type=2") == 2


def test_keys_that_come_or_go_between_planning_and_listing_are_listed_as_they_are_then(s3: S3Server) -> None:
    s3.put("moving", {f"x/{n:04d}.jpg": b"1" for n in range(300)})
    ranges = s3_keys.ranges_of_keys("s3://moving/x", 8)
    assert ranges is not None
    for one in ranges[:-1]:
        s3.client.delete_object(Bucket="moving", Key=str(one.until))  # the ends of ranges themselves
        s3.client.put_object(Bucket="moving", Key=f"{one.until}0", Body=b"2")
    uris = [e.uri for one in ranges for e in s3_keys.entries_of_range("s3://moving/x", one, skip_hidden=True)]
    keys = [page["Contents"] for page in s3.client.get_paginator("list_objects_v2").paginate(Bucket="moving")]
    assert uris == [f"s3://moving/{facts['Key']}" for page in keys for facts in page]


def test_what_may_be_listed_folder_by_folder_only_is_so_listed(s3: S3Server) -> None:
    wanted = summed(listing("s3://lake/many"))
    s3.faults[:] = [Fault("prefix=many/&max-keys", status=403, code="AccessDenied", times=100)]
    s3.requests.clear()
    assert summed(listing("s3://lake/many")) == wanted
    assert s3.n_requests("GET", "delimiter=/") > 300


@pytest.mark.parametrize("lake", ["s3://lake--use1-az4--x-s3/a", "memory://lake"])
def test_a_store_without_an_order_of_keys_has_no_ranges(s3: S3Server, lake: str) -> None:
    assert s3_keys.ranges_of_keys(lake, 8) is None


def test_a_store_that_does_not_begin_where_it_is_told_is_listed_by_folders(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys fit into one page, so that only behind the hidden folder it would be noticed."""
    s3.put("small", {f"x/{name}": b"1" for name in (".thumbs/1.jpg", ".thumbs/2.jpg", "a.jpg")})
    pages = s3_keys.s3_pages
    monkeypatch.setattr(
        s3_keys,
        "s3_pages",
        lambda folder, StartAfter="", **asked: pages(folder, **asked),  # noqa: N803
    )
    assert s3_keys.ranges_of_keys("s3://small/x", 8) is None
    images, passed_over = summed(listing("s3://small/x"))
    assert [row[0] for row in images] == ["s3://small/x/a.jpg"]
    assert passed_over == {HIDDEN_FOLDER: 1}


def test_a_refusal_in_the_middle_and_keys_out_of_order_end_the_listing(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_LISTING_PATIENCE_SECONDS", 0.0)
    source = open_source("s3://lake/many", InventorySettings())
    ranges = s3_keys.ranges_of_keys("s3://lake/many", 8)
    assert ranges is not None
    rows = [{"path": source.root, "recursive": True, "after": one.after, "until": one.until} for one in ranges]
    s3.faults[:] = [Fault("start-after=many/0", status=403, code="AccessDenied", times=100)]
    with pytest.raises(SourceError, match="nothing was changed"):
        list(source._list_places(iter([pa.RecordBatch.from_pylist(rows)])))  # type: ignore[attr-defined]
    s3.faults.clear()
    pages = s3_keys.s3_pages
    monkeypatch.setattr(s3_keys, "s3_pages", lambda folder, **asked: (
        {**page, "Contents": page["Contents"][::-1]} for page in pages(folder, **asked)))  # fmt: skip
    assert s3_keys.ranges_of_keys("s3://lake/many", 8) is None
    with pytest.raises(SourceError, match="does not give keys in the order of S3"):
        list(s3_keys.entries_of_range("s3://lake/many", KeyRange(), skip_hidden=True))
