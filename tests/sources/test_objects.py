"""Reading plain objects: ranges, odd names, and what becomes a rejection, a retry or an error."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import fsspec
import pytest
from listings import ODD_NAME

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, names, objects
from dedup_spark.sources.faults import DiskFault
from dedup_spark.sources.objects import read_object, store_errors


@pytest.fixture
def local(tmp_path: Path) -> str:
    path = tmp_path / ODD_NAME
    path.write_bytes(b"0123456789")
    return f"file://{path}"


@pytest.fixture
def in_memory() -> str:
    uri = f"memory://lake/{ODD_NAME}"
    fsspec.filesystem("memory").pipe_file(f"/lake/{ODD_NAME}", b"0123456789")
    return uri


@pytest.mark.parametrize("place", ["local", "in_memory"])
@pytest.mark.parametrize(
    ("start", "length", "data"),
    [
        (None, None, b"0123456789"),
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (8, 4, b"89"),
        (3, None, b"3456789"),
        (3, 0, b""),
        (20, 4, b""),
    ],
)
def test_whole_objects_and_ranges(
    place: str, start: int | None, length: int | None, data: bytes, request: pytest.FixtureRequest
) -> None:
    assert read_object(request.getfixturevalue(place), start, length) == data


def test_a_name_that_is_not_unicode_is_found_again(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"1")
    (name,) = os.listdir(tmp_path)
    assert read_object(f"file://{tmp_path}/{names.to_text(name)}") == b"1"


@pytest.mark.parametrize("uri", ["file:///no/such/file.jpg", "memory://lake/no-such-object"])
def test_no_object_is_a_rejection(uri: str) -> None:
    with pytest.raises(ImageRejected, match="missing: no such object"):
        read_object(uri)


def test_a_path_longer_than_the_system_takes_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageRejected, match=r"missing: a path of 5,\d{3} bytes, which this system does not take"):
        read_object(f"file://{tmp_path}/{'/'.join(['d' * 249] * 20)}/a.jpg")


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    with pytest.raises(ImageRejected, match="forbidden"):
        read_object(f"file://{tmp_path}")


def test_error_types_of_other_libraries_count_as_faults_that_may_pass() -> None:
    with pytest.raises(OSError, match="RuntimeError: connection broken"), store_errors():
        raise RuntimeError("connection broken")


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("/a/b/", "file:///a/b"),
        ("/a/../b", "file:///b"),
        ("file:/a/b", "file:///a/b"),
        ("file:///a/b", "file:///a/b"),
        ("file:///a/100%25 #1", "file:///a/100%25 #1"),
        ("s3://bucket/a//b/", "s3://bucket/a//b"),
    ],
)
def test_addresses_have_one_form(address: str, uri: str) -> None:
    assert addresses.to_uri(address) == uri
    assert addresses.to_uri(uri) == uri


def test_the_driver_sees_what_is_there(tmp_path: Path, local: str, in_memory: str) -> None:
    assert addresses.kind_of(local) == addresses.kind_of(in_memory) == "file"
    assert addresses.kind_of(f"file://{tmp_path}") == addresses.kind_of("memory://lake") == "folder"
    assert addresses.kind_of("file:///no/such/file.jpg") is None
    assert addresses.kind_of("memory://lake/no-such-object") is None


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, DiskFault), (errno.ESTALE, OSError), (errno.ETIMEDOUT, TimeoutError)]
)
def test_a_disk_that_fails_is_told_from_a_mount_that_stumbles(
    number: int, kind: type[OSError], local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(objects, "read_file", fail)
    with pytest.raises(OSError, match=f"Errno {number}") as raised:
        read_object(local)
    assert type(raised.value) is kind
    with pytest.raises(OSError, match=f"Errno {number}") as raised:
        read_object("file:///Volumes/main/lake/a.jpg")
    assert not isinstance(raised.value, DiskFault)


def test_a_range_beyond_the_end_is_empty_in_every_store(in_memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class HttpError(Exception):
        code = 416

    HttpError.__module__ = "gcsfs.retry"

    def refuse(*_: object, **__: object) -> bytes:
        raise HttpError("Requested range not satisfiable")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", refuse)
    assert read_object(in_memory, 20, 4) == b""


def test_what_no_pause_mends_is_a_row_at_once_and_no_error_of_the_task() -> None:
    for uri in ("nosuchscheme://lake/a.jpg", "reference://a/b.jpg", "dir://a/b.jpg"):
        with pytest.raises(ImageRejected, match="store_unavailable: nothing here reads such an address"):
            read_object(uri)
    with pytest.raises(ImageRejected, match=r"store_unavailable: .*install s3fs"), store_errors("s3://lake/a.jpg"):
        raise ImportError("install s3fs")
