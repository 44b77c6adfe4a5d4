"""Copies and keepers checked as they are now: in a store that changed meanwhile, and on a disk. Without Spark."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from s3_server import Fault, S3Server, forget_filesystems, running_s3_server

from dedup_spark.commands.verify_removal.checks import (
    IN_A_CONTAINER,
    ONE_FILE,
    CheckSettings,
    check_batches,
    check_object,
)
from dedup_spark.config import InventorySettings
from dedup_spark.sources.registry import open_source

KEYS = ["kept.jpg", "copy.jpg", "a//b é.jpg", "c%20d+e#f?.jpg", "folder/"]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch, running_s3_server(tmp_path_factory.mktemp("s3") / "log") as server:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        once = {"endpoint_url": server.endpoint, "config_kwargs": {"retries": {"total_max_attempts": 1}}}
        patch.setitem(fsspec.config.conf, "s3", once)
        patch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)
        server.put("lake", dict.fromkeys(KEYS, b"a picture"))
        forget_filesystems()
        yield server
    forget_filesystems()


def stored(s3: S3Server, key: str, **changes: Any) -> dict[str, Any]:
    """What a listing says of an object, and the hash of what was read."""
    facts = s3.client.head_object(Bucket="lake", Key=key)
    return {
        "uri": f"s3://lake/{key}", "member": None, "location": None, "position": None,
        "size_bytes": facts["ContentLength"], "modified_at": facts["LastModified"], "etag": facts["ETag"].strip('"'),
        "content_hash": hashlib.sha256(b"a picture").hexdigest(),
    } | changes  # fmt: skip


def on_disk(path: Path, **changes: Any) -> dict[str, Any]:
    facts, data = path.stat(), path.read_bytes()
    return {
        "uri": f"file://{path}", "member": None, "location": None, "position": None, "size_bytes": facts.st_size,
        "modified_at": datetime.fromtimestamp(facts.st_mtime, UTC), "etag": None,
        "content_hash": hashlib.sha256(data).hexdigest(),
    } | changes  # fmt: skip


def row(copy: dict[str, Any], keeper: dict[str, Any], keeper_id: int = 1, **more: Any) -> dict[str, Any]:
    """A row of the view `removals`."""
    about = {"image_id": 2, "n_links": None, "relation": "same_bytes", "removal_tier": "same_bytes",
             "freed_bytes": 9, "cluster_id": 1}  # fmt: skip
    return copy | about | {"keeper_image_id": keeper_id, "keeper": keeper, "keeper_lake": "s3://lake"} | more


def checked(*rows: dict[str, Any], rows_per_batch: int = 100, **sources: Any) -> list[dict[str, Any]]:
    table = pa.Table.from_pylist(list(rows))
    found = check_batches(table.to_batches(rows_per_batch), CheckSettings(4, sources))
    return [done for batch in found for done in batch.to_pylist()]


@pytest.mark.parametrize("key", KEYS[:4])
def test_an_object_that_is_as_it_was_listed_may_keep_others_and_go(s3: S3Server, key: str) -> None:
    checked_copy = check_object(stored(s3, key))
    assert checked_copy.problem is None
    assert checked_copy.state is not None
    assert checked_copy.state.identity == f"s3://lake/{key}"


@pytest.mark.parametrize(
    "changes",
    [{"etag": None}, {"modified_at": None}, {"size_bytes": None}, {"etag": None, "modified_at": None},
     {"modified_at": "with fractions"}],
)  # fmt: skip
def test_what_the_listing_did_not_say_is_made_up_for_by_the_rest_or_by_the_bytes(
    s3: S3Server, changes: dict[str, Any]
) -> None:
    known = stored(s3, "kept.jpg")
    if changes.get("modified_at"):
        changes = {"modified_at": known["modified_at"] + timedelta(milliseconds=250)}
    s3.requests.clear()
    assert check_object(known | changes).problem is None
    assert s3.n_requests("GET", "kept.jpg") == (changes == {"etag": None, "modified_at": None})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"uri": "s3://lake/no such.jpg"}, "is gone"),
        ({"uri": "s3://lake/folder"}, "is gone"),
        ({"uri": "s3://no-such-bucket/kept.jpg"}, "is gone"),
        ({"size_bytes": 8}, "has changed"),
        ({"etag": "0" * 32}, "has changed"),
        ({"modified_at": datetime(2020, 1, 1, tzinfo=UTC), "content_hash": "0" * 64}, "has changed"),
        ({"etag": None, "modified_at": None, "content_hash": "0" * 64}, "has changed"),
    ],
)
def test_an_object_that_is_gone_or_another_one_counts_for_nothing(
    s3: S3Server, changes: dict[str, Any], problem: str
) -> None:
    assert check_object(stored(s3, "kept.jpg") | changes).problem == problem


def test_where_times_alone_differ_the_bytes_decide(s3: S3Server) -> None:
    """A manifest may have times of its own."""
    known = stored(s3, "kept.jpg") | {"modified_at": datetime(2020, 1, 1, tzinfo=UTC)}
    s3.requests.clear()
    assert check_object(known).problem is None
    assert s3.n_requests("GET", "kept.jpg") == 1


@pytest.mark.parametrize(("status", "problem"), [(403, "cannot be read"), (503, "could not be checked")])
def test_a_store_that_refuses_says_nothing_for_an_image(s3: S3Server, status: int, problem: str) -> None:
    known = stored(s3, "copy.jpg")
    s3.faults.append(Fault("copy.jpg", status=status, method="HEAD"))
    assert (check_object(known).problem or "").startswith(problem)


def test_a_keeper_is_checked_once_for_all_its_copies_and_not_for_those_in_containers(s3: S3Server) -> None:
    keeper, copy = stored(s3, "kept.jpg"), stored(s3, "copy.jpg")
    s3.requests.clear()
    rows = [row(copy, keeper)] * 5 + [row(copy | {"member": "a.jpg"}, stored(s3, KEYS[2]), keeper_id=7)]
    s3.requests.clear()
    done = checked(*rows, rows_per_batch=2)
    assert [d["problem"] for d in done] == [None] * 5 + [IN_A_CONTAINER]
    assert (s3.n_requests("HEAD", "kept.jpg"), s3.n_requests("HEAD", "copy.jpg")) == (1, 5)
    assert s3.n_requests("HEAD", "/a//b") == 0
    assert (done[0]["etag"], done[0]["keeper_uri"]) == (copy["etag"], "s3://lake/kept.jpg")
    assert datetime.now(UTC) - done[0]["verified_at"] < timedelta(minutes=1)


def test_a_version_of_an_object_is_named(s3: S3Server) -> None:
    client = s3.client
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    version = client.put_object(Bucket="versioned", Key="a.jpg", Body=b"a picture")["VersionId"]
    copy = stored(s3, "copy.jpg") | {"uri": "s3://versioned/a.jpg", "modified_at": None}
    assert checked(row(copy, stored(s3, "kept.jpg")))[0]["version_id"] == version


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    kept, copy = tmp_path / "kept", tmp_path / "copy"
    for path in (kept, copy):
        path.write_bytes(b"a picture")
    return kept, copy


def link(to: Path, path: Path) -> None:
    path.unlink()
    path.symlink_to(to)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("happened", "problem"),
    [
        (lambda kept, copy: None, None),
        (lambda kept, copy: os.utime(kept, (1, 1)), None),
        (lambda kept, copy: kept.unlink(), "the keeper is gone"),
        (lambda kept, copy: kept.write_bytes(b"A picture"), "the keeper has changed"),
        (lambda kept, copy: link(copy, kept), "the keeper cannot be read, or is a link"),
        (lambda kept, copy: copy.unlink(), "the copy is gone"),
        (lambda kept, copy: copy.write_bytes(b"A picture"), "the copy has changed"),
        (lambda kept, copy: link(kept, copy), "the copy cannot be read, or is a link"),
        (lambda kept, copy: pipe(copy), "the copy cannot be read, or is a link"),
        (lambda kept, copy: (copy.unlink(), copy.hardlink_to(kept)), ONE_FILE),
        (lambda kept, copy: (copy.unlink(), copy.mkdir()), "the copy cannot be read, or is a link"),
    ],
)
def test_files_are_checked_by_all_their_bytes(pair: tuple[Path, Path], happened: Any, problem: str | None) -> None:
    kept, copy = pair
    known = row(on_disk(copy), on_disk(kept))
    happened(kept, copy)
    assert [done["problem"] for done in checked(known)] == [problem]


def test_a_folder_that_became_a_link_to_the_keepers_is_noticed(tmp_path: Path) -> None:
    kept, copy = tmp_path / "kept" / "a", tmp_path / "copy" / "a"
    for path in (kept, copy):
        path.parent.mkdir()
        path.write_bytes(b"a picture")
    known = row(on_disk(copy), on_disk(kept))
    copy.unlink()
    copy.parent.rmdir()
    copy.parent.symlink_to(kept.parent)
    assert [done["problem"] for done in checked(known)] == [ONE_FILE]


def test_a_keeper_inside_a_container_is_read_from_it(tmp_path: Path) -> None:
    tar, copy = tmp_path / "x.tar", tmp_path / "copy"
    copy.write_bytes(b"a picture")
    tar.write_bytes(b"." * 512 + b"a picture" + b"." * 100)
    lake = f"file://{tar}"
    keeper = on_disk(copy) | {"uri": lake, "member": "a", "position": 512}
    known = functools.partial(row, on_disk(copy), keeper_lake=lake)
    source = open_source(lake, InventorySettings())
    assert [done["problem"] for done in checked(known(keeper), **{lake: source})] == [None]
    moved = checked(known(keeper | {"position": 500}), **{lake: source})
    assert [done["problem"] for done in moved] == ["the keeper has changed"]
    assert checked(known(keeper))[0]["problem"] == "the keeper is in a lake that cannot be opened"
