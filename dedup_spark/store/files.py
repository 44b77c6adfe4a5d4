"""Single files by path or URI, the same on a local disk and in an object store; runs on driver and executors."""

from __future__ import annotations

import functools
import glob
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dedup_spark.store.stores import what_is_missing

_HADOOP_NAMES = {
    "s3a://": "s3://", "s3n://": "s3://", "abfss://": "abfs://", "wasbs://": "abfs://", "wasb://": "abfs://",
}  # fmt: skip
_EXCLUSIVE = {"file", "s3", "abfs", "gs"}
"""fsspec's names of the filesystems whose `pipe_file(mode="create")` is one conditional request."""


def open_filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem of `uri` and the path in it; Hadoop's scheme names are understood.

    Raises:
        ImportError: the package for this scheme (for example s3fs) is not installed; the message says which.
        ValueError: fsspec knows no such scheme.
    """
    given = uri
    for hadoop, name in _HADOOP_NAMES.items():
        if uri.startswith(hadoop):
            uri = name + uri.removeprefix(hadoop)
    if "://" not in uri:  # `::` chains filesystems in a URI, and may stand in the name of a folder
        return LocalFileSystem(), os.path.abspath(uri)
    with what_is_missing(given):
        filesystem, path = fsspec.core.url_to_fs(uri)
    return filesystem, path


def is_of_this_user_alone(path: Path) -> bool:
    """Whether nobody else may change a local file or folder; a link is neither. Raises OSError where it is gone."""
    found = path.lstat()
    return not stat.S_ISLNK(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


@functools.cache
def private_folder(name: str) -> Path:
    """`<temporary folder>/dedup_spark-<uid>/<name>` of this machine, which this user alone may write into.

    The name can be known beforehand, so another user may have made the folder first, or put a link there: then it is a
    new folder with a name that nobody can know, which other processes of this user do not share.
    """
    shared = Path(tempfile.gettempdir()) / f"dedup_spark-{os.getuid()}"
    with suppress(FileExistsError):
        shared.mkdir(mode=0o700)
    is_ours = is_of_this_user_alone(shared) and shared.is_dir()
    folder = (shared if is_ours else Path(tempfile.mkdtemp(prefix="dedup_spark-"))) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_atomically(uri: str, data: bytes) -> None:
    """Write a whole file so that no reader ever sees a part of it: rename on disks, a single PUT elsewhere."""
    filesystem, path = open_filesystem(uri)
    if "file" not in _protocols(filesystem):
        filesystem.pipe_file(path, data)
        return
    with _written_beside(Path(path), data) as temporary:
        os.replace(temporary, path)


def put_file(local: Path, uri: str) -> None:
    """Copy a local file, however large, so that no reader ever sees a part of it: renamed on disks, else one upload."""
    filesystem, path = open_filesystem(uri)
    if "file" not in _protocols(filesystem):
        filesystem.put_file(str(local), path)
        return
    with _written_beside(Path(path), local) as temporary:
        os.replace(temporary, path)


def creates_exclusively(uri: str) -> bool:
    """Whether `create_exclusively` is a promise at this place: on disks, S3, ADLS and GCS."""
    return bool(_EXCLUSIVE & set(_protocols(open_filesystem(uri)[0])))


def create_exclusively(uri: str, data: bytes) -> None:
    """Write a small file that must not be there yet; of several writers one succeeds, and readers see all of it.

    Where a disk has no hard links (`/Volumes`), a reader may find the file before its content is there.

    Raises:
        FileExistsError
    """
    filesystem, path = open_filesystem(uri)
    if "file" not in _protocols(filesystem):
        filesystem.pipe_file(path, data, mode="create")
        return
    target = Path(path)
    with _written_beside(target, data) as temporary:
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError:
            with target.open("xb") as f:
                f.write(data)


@contextmanager
def _written_beside(target: Path, data: bytes | Path) -> Iterator[Path]:
    """A file with the whole data, or with that of a file, in the folder of `target`, which is made; gone at the end,
    unless it was moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if isinstance(data, Path):
            shutil.copyfile(data, temporary)
        else:
            temporary.write_bytes(data)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def try_to_write(uri: str) -> None:
    """Write a file into a folder and delete it; raises what the store raises where that is not allowed."""
    tried = f"{uri.rstrip('/')}/.tried-{secrets.token_hex(4)}"
    write_atomically(tried, b"")
    delete_tree(tried)


def written_at(uri: str) -> float | None:
    """When a file of a disk was written, seconds since 1970; None elsewhere, and where there is none."""
    filesystem, path = open_filesystem(uri)
    if "file" not in _protocols(filesystem):
        return None
    with suppress(OSError):
        return Path(path).stat().st_mtime
    return None


def find_credentials_anew() -> None:
    """Forget all filesystems of this process: those that are opened next look for credentials."""
    for filesystem in {*fsspec.registry.values()}:
        filesystem.clear_instance_cache()


def read_bytes(uri: str) -> bytes:
    """The whole file. Raises FileNotFoundError."""
    filesystem, path = open_filesystem(uri)
    data: bytes = filesystem.cat_file(path)
    return data


_NOT_DISKS = ("/dbfs/", "/Volumes/")
"""Folders of Databricks behind which an object store lies: each page of a mapped file would be a request."""


def disk_path(uri: str) -> Path | None:
    """The path of a file that can be mapped where it lies; None where it has to be fetched."""
    filesystem, path = open_filesystem(uri)
    return Path(path) if "file" in _protocols(filesystem) and not path.startswith(_NOT_DISKS) else None


def size_of(uri: str) -> int:
    """Bytes of a file. Raises FileNotFoundError."""
    filesystem, path = open_filesystem(uri)
    return int(filesystem.info(path)["size"])


def fetch(uri: str, to: Path) -> None:
    """Copy a whole file to a path of this machine, part by part: memory does not grow with it."""
    filesystem, path = open_filesystem(uri)
    filesystem.get_file(path, str(to))


def list_names(uri: str) -> list[str]:
    """Names directly in a folder; empty when there is no such folder."""
    filesystem, path = open_filesystem(uri)
    filesystem.invalidate_cache(path)  # stores remember listings, and Spark may have written meanwhile
    if not filesystem.isdir(path):
        return []
    found = (p.rstrip("/") for p in filesystem.ls(path, detail=False))  # S3 lists the marker of a folder inside it
    return sorted(p.rsplit("/", 1)[-1] for p in found if p != path.rstrip("/"))


def remove_leftovers(folder: str, is_leftover: Callable[[str], bool]) -> bool:
    """Remove a folder in which nothing is but folders, their markers, and files whose names are leftovers.

    On a disk these files are removed, and then folders that are empty, one by one: what somebody else writes meanwhile
    stays. In a store all of it is removed after a look, so the caller has to be the only writer. Returns whether there
    is nothing of the folder left; an error of the store is raised, and no reason to remove anything.
    """
    filesystem, path = open_filesystem(folder)
    filesystem.invalidate_cache(path)
    if "file" in _protocols(filesystem):
        for file in [each for each in Path(path).rglob("*") if not each.is_dir() and is_leftover(each.name)]:
            file.unlink(missing_ok=True)
        below = sorted((each for each in Path(path).rglob("*") if each.is_dir()), reverse=True)
        for each in (*below, Path(path)):
            with suppress(OSError):
                each.rmdir()
        return not os.path.lexists(path)
    found = list(_files_below(filesystem, path))
    if not all(is_leftover(name.rsplit("/", 1)[-1]) for name in found):
        return False
    delete_tree(folder)
    return True


def _files_below(filesystem: fsspec.AbstractFileSystem, path: str) -> Iterator[str]:
    """All files in the folders of a store, without their markers. Unlike `find` it passes over no error."""
    try:
        listed = filesystem.ls(path, detail=True)
    except FileNotFoundError:
        return
    for facts in listed:
        name = facts["name"].rstrip("/")
        if name == path.rstrip("/"):
            continue
        if facts["type"] == "directory":
            yield from _files_below(filesystem, name)
        else:
            yield name


_DELETIONS = 20
"""Of one folder: two who delete it at once disturb each other as often as a handful of times."""


def delete_tree(uri: str) -> None:
    """Delete a folder and all that is in it, if it is there."""
    filesystem, path = open_filesystem(uri)
    if not filesystem.exists(path):
        return
    is_disk = "file" in _protocols(filesystem)
    pattern = path if is_disk else glob.escape(path)  # in stores the path is a pattern
    for _ in range(_DELETIONS):  # each ends at a file that somebody else deletes at the same time
        with suppress(FileNotFoundError):
            filesystem.rm(pattern, recursive=True)
            return


def delete_files(folder: str, names: Sequence[str]) -> int:
    """Delete files of a folder by their names; one that is gone already is none. Returns how many were asked for."""
    if names:
        filesystem, path = open_filesystem(folder)
        for name in names:
            with suppress(FileNotFoundError):
                filesystem.rm_file(f"{path}/{name}")
        filesystem.invalidate_cache(path)
    return len(names)


def remove_if_empty(uri: str) -> None:
    """Remove a folder of a disk that holds nothing; in stores there are no empty folders."""
    filesystem, path = open_filesystem(uri)
    if "file" in _protocols(filesystem):
        with suppress(OSError):  # it holds something, or is not there
            Path(path).rmdir()


def _protocols(filesystem: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (filesystem.protocol,) if isinstance(filesystem.protocol, str) else tuple(filesystem.protocol)
