from __future__ import annotations

import os
import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, known_implementations

from dedup_spark.store import files

ODD_NAMES = ["plain.bin", "with space.bin", "100%25 #1.bin", "café 写真.bin", "a[1]{2}.bin", "q?=&;.bin"]


class BucketFileSystem(MemoryFileSystem):
    """Stands for s3fs: a store in memory that knows only the scheme s3."""

    protocol = "s3"
    store: dict = {}  # noqa: RUF012 - a class attribute, as in the parent
    pseudo_dirs: list = [""]  # noqa: RUF012


@pytest.fixture
def memory() -> Iterator[str]:
    """The root of an empty store that is not a disk."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    BucketFileSystem.store.clear()
    monkeypatch.setitem(_registry, "s3", BucketFileSystem)


@pytest.fixture(params=["disk", "file:", "memory:"])
def root(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> str:
    return {"disk": str(tmp_path), "file:": f"file://{tmp_path}", "memory:": memory}[request.param]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_what_is_written_is_read_back_under_any_name(root: str, name: str) -> None:
    files.write_atomically(f"{root}/new folder/{name}", b"\0\xff bytes")
    assert files.read_bytes(f"{root}/new folder/{name}") == b"\0\xff bytes"
    assert files.list_names(f"{root}/new folder") == [name]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_local_file_is_put_whole_under_any_name_and_stays_where_it_is(
    root: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    local = tmp_path_factory.mktemp("local") / "large"
    for data in (b"\0\xff first", b"second"):
        local.write_bytes(data)
        files.put_file(local, f"{root}/new folder/{name}")
        assert files.read_bytes(f"{root}/new folder/{name}") == local.read_bytes() == data
    assert files.list_names(f"{root}/new folder") == [name]


def test_a_later_write_replaces_the_file(root: str) -> None:
    for data in (b"a long first version", b"short", b""):
        files.write_atomically(f"{root}/file", data)
        assert files.read_bytes(f"{root}/file") == data


def test_a_file_that_is_not_there_is_said_to_be_so(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.read_bytes(f"{root}/no such file")


def test_names_are_those_directly_in_the_folder_in_order(root: str) -> None:
    for path in ("b", "a", "folder/inside", "folder/deeper/still"):
        files.write_atomically(f"{root}/top/{path}", b"x")
    assert files.list_names(f"{root}/top") == ["a", "b", "folder"]
    assert files.list_names(f"{root}/top/") == ["a", "b", "folder"]


def test_a_folder_that_is_not_there_has_no_names_and_can_be_deleted(root: str) -> None:
    assert files.list_names(f"{root}/absent") == []
    files.delete_tree(f"{root}/absent")


def test_a_store_that_remembers_listings_is_asked_anew(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda _, path=None: forgotten.append(path))
    files.write_atomically(f"{memory}/folder/a", b"")
    assert files.list_names(f"{memory}/folder") == ["a"]
    assert forgotten == ["/bucket/folder"]


def test_deleting_a_tree_takes_all_of_it_and_nothing_beside_it(root: str) -> None:
    for path in ("gone/a", "gone/deep/b", "gone too", "kept/a"):
        files.write_atomically(f"{root}/{path}", b"x")
    files.delete_tree(f"{root}/gone")
    assert files.list_names(root) == ["gone too", "kept"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_tree_under_any_name_can_be_deleted(tmp_path: Path, name: str) -> None:
    delete_tree_beside_look_alikes(str(tmp_path), name)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_tree_under_any_name_can_be_deleted_in_an_object_store(memory: str, name: str) -> None:
    delete_tree_beside_look_alikes(memory, name)


def delete_tree_beside_look_alikes(root: str, name: str) -> None:
    """Of names that are patterns, what the pattern would match must stay."""
    look_alikes = ["a1{2}.bin", "qx=&;.bin"]
    for folder in (name, *look_alikes):
        files.write_atomically(f"{root}/{folder}/file", b"x")
    files.delete_tree(f"{root}/{name}")
    assert files.list_names(root) == look_alikes


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "shard.faiss"
    files.write_atomically(str(target), b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as a full disk does: the write stops in the middle
    try:
        with pytest.raises(OSError, match="File too large"):
            files.write_atomically(str(target), bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["shard.faiss"]


def test_a_rename_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "shard.faiss"
    files.write_atomically(str(target), b"old")

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        files.write_atomically(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["shard.faiss"]


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    target = str(tmp_path / "file")
    versions = {bytes([i]) * (1 << 20) for i in range(4)}
    files.write_atomically(target, min(versions))
    ended = threading.Event()

    def rewrite() -> None:
        for _ in range(10):
            for data in versions:
                files.write_atomically(target, data)
        ended.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    while not ended.is_set():
        assert files.read_bytes(target) in versions
    writer.join()


@pytest.mark.parametrize("scheme", ["s3a", "s3n", "s3"])
def test_hadoops_names_of_s3_lead_to_the_same_objects(bucket: None, scheme: str) -> None:
    files.write_atomically(f"{scheme}://b/tables/report/index.html", b"page")
    assert files.read_bytes("s3://b/tables/report/index.html") == b"page"
    assert files.list_names(f"{scheme}://b/tables") == ["report"]
    files.delete_tree(f"{scheme}://b/tables/report")
    assert files.list_names("s3://b/tables") == []


def test_a_path_that_only_looks_like_s3a_is_left_alone(tmp_path: Path) -> None:
    files.write_atomically(f"{tmp_path}/s3a:/x", b"x")
    assert (tmp_path / "s3a:" / "x").read_bytes() == b"x"


def test_a_scheme_without_its_package_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"class": "no_such_package.FileSystem", "err": "install no_such_package"}
    monkeypatch.setitem(known_implementations, "nosuch", missing)
    with pytest.raises(ImportError, match="install no_such_package"):
        files.open_filesystem("nosuch://bucket/x")


def test_an_unknown_scheme_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="sl3"):
        files.open_filesystem("sl3://bucket/x")


def test_what_another_process_deletes_at_the_same_time_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda self, path, **_: True)  # it was, a moment ago
    with pytest.raises(FileNotFoundError):
        MemoryFileSystem().rm("/tables/gone", recursive=True)
    files.delete_tree("memory://tables/gone")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of a machine, which others may write into."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files.private_folder.cache_clear()
    yield tmp_path / f"dedup_spark-{os.getuid()}"
    files.private_folder.cache_clear()


def test_the_folder_of_a_user_is_made_for_that_user_alone(temporary: Path) -> None:
    assert files.private_folder("weights") == temporary / "weights"
    assert [path.stat().st_mode & 0o777 for path in (temporary, temporary / "weights")] == [0o700, 0o700]


@pytest.mark.parametrize("planted", ["link", "file", "open to all"])
def test_a_folder_that_another_user_may_have_made_is_not_used(temporary: Path, planted: str) -> None:
    if planted == "link":
        (temporary.parent / "elsewhere").mkdir()
        temporary.symlink_to(temporary.parent / "elsewhere")
    elif planted == "file":
        temporary.write_text("")
    else:
        temporary.mkdir()
        temporary.chmod(0o777)
    folder = files.private_folder("weights")
    assert not folder.is_relative_to(temporary)
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert folder == files.private_folder("weights")
    assert not (temporary.parent / "elsewhere" / "weights").exists()
