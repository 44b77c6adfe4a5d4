"""Files below the tables root as files of this machine, for executors that map them: each is read once an executor.

A file of a disk is mapped where it lies. One of an object store is copied, by the first worker that asks, into a folder
below Spark's local directories, which end with the executor (on YARN with the application, whose executors share them);
the others wait for it and map the same pages. Either is compared with its SHA-256 once, by the worker that came first.

Copies take at most half of what the disk has for them; those used longest ago make room. A file that somebody has open
or mapped survives that, as its name goes and its bytes stay.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dedup_spark.errors import ArtifactError
from dedup_spark.store import files

REBUILD = "rebuild the index: `dedup-spark index --force` with the same --lake and --tables"

_FOLDER = "dedup_spark-files"
_OWNER = "owner.lock"
"""Held by the process that a folder belongs to, for as long as it lives."""
_SHARE_OF_DISK = 0.5
_LOCKS = 256
"""Files that share one are fetched one after the other."""


class _Count:
    """Bytes that this process has read from the tables root; Python workers are processes of one thread."""

    n_bytes = 0


def bytes_read() -> int:
    """Bytes that this process has read so far, to copy a file or to check it where it lies."""
    return _Count.n_bytes


@contextmanager
def local_file(uri: str, sha256: str) -> Iterator[Path]:
    """The path of a file on this machine, checked. It is to be opened inside: later its name may be gone.

    Not to be used inside another one: two files may share a lock, and a process would wait for itself.

    Raises:
        ArtifactError: the file is missing, or is not the one of this SHA-256 (hex).
    """
    folder = _folder_for(sha256)
    with _locked(folder / f"{int(sha256[:8], 16) % _LOCKS:03d}.lock"):
        try:
            path = files.disk_path(uri)
            local = _copied(uri, sha256, folder) if path is None else _checked_in_place(path, uri, sha256, folder)
        except FileNotFoundError as e:
            raise ArtifactError(f"shard file {uri} is missing; {REBUILD}") from e
        yield local


def _checked_in_place(path: Path, uri: str, sha256: str, folder: Path) -> Path:
    """The path itself. An empty file says that these very bytes were checked: a change gives a file another ctime."""
    is_now = path.stat()
    mark = folder / f"{sha256}.{is_now.st_dev}-{is_now.st_ino}-{is_now.st_size}-{is_now.st_ctime_ns}.checked"
    if not mark.exists():
        _require(path, uri, sha256)
        mark.touch(mode=0o600)
    return path


def _copied(uri: str, sha256: str, folder: Path) -> Path:
    copy = folder / sha256
    with suppress(FileNotFoundError):
        os.utime(copy)  # used now
        return copy
    _make_room(folder, files.size_of(uri))
    part = folder / f"{sha256}.part"  # one name: what a killed worker left is written over by the next, under the lock
    try:
        files.fetch(uri, part)
        _require(part, uri, sha256)
        os.replace(part, copy)
    finally:
        part.unlink(missing_ok=True)
    return copy


def _require(path: Path, uri: str, sha256: str) -> None:
    with path.open("rb") as f:
        found, size = hashlib.file_digest(f, "sha256").hexdigest(), os.fstat(f.fileno()).st_size
    _Count.n_bytes += size
    if found != sha256:
        raise ArtifactError(
            f"shard file {uri} has SHA-256 {found[:12]}..., listed with {sha256[:12]}... "
            f"({size:,} bytes): it is damaged, or of another build of the index; {REBUILD}"
        )


def _make_room(folder: Path, n_bytes: int) -> None:
    """Remove the copies used longest ago until there is room for so many bytes more; those in use now are left."""
    with _locked(folder / "room.lock"):
        _sweep(folder)
        copies = sorted((found.st_mtime_ns, found.st_size, path) for path, found in _copies(folder))
        held = sum(size for _, size, _ in copies)
        most = _SHARE_OF_DISK * (held + shutil.disk_usage(folder).free)
        for _, size, path in copies:
            if held + n_bytes <= most:
                return
            if _removed(path):
                held -= size


def _sweep(folder: Path) -> None:
    """Remove what killed workers left half fetched; no worker writes it now."""
    for part in folder.glob("*.part"):
        _removed(part)


def _copies(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        if not path.suffix:  # no lock, mark or part
            with suppress(FileNotFoundError):
                yield path, path.stat()


def _removed(copy: Path) -> bool:
    """Whether the copy, or a part of one, could be removed: no worker is about to open it, or fetches it."""
    lock = copy.with_name(f"{int(copy.name[:8], 16) % _LOCKS:03d}.lock")
    try:
        with _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            copy.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """An exclusive lock among all processes of the machine; it ends with the process, however that ends."""
    with path.open("a") as f:
        fcntl.flock(f, how)
        yield


def _folder_for(sha256: str) -> Path:
    """Where several disks may be used, files are spread over them."""
    folders = _folders(_local_dirs())
    return folders[int(sha256[:8], 16) % len(folders)]


def _local_dirs() -> str:
    """Directories of this executor, as Spark names them to its Python workers, with commas between; in a container of
    YARN those of the application, which all its executors on the machine have in common. They end with their owner."""
    return os.environ.get("LOCAL_DIRS" if "CONTAINER_ID" in os.environ else "SPARK_LOCAL_DIRS", "")


@functools.cache
def _folders(local_dirs: str) -> tuple[Path, ...]:
    """One in each directory; where there is none that this user alone may write to, and outside of Spark, one of this
    process."""
    folders = (Path(name) / _FOLDER for name in local_dirs.split(",") if name)
    return tuple(folder for folder in folders if _is_made(folder)) or (_folder_of_this_process(),)


def _is_made(folder: Path) -> bool:
    with suppress(OSError):  # a sandbox may hide Spark's directories, and a file of another user may stand there
        folder.mkdir(mode=0o700, exist_ok=True)
        return files.is_of_this_user_alone(folder)
    return False


def _folder_of_this_process() -> Path:
    """It goes with the process; Spark ends Python workers without a word, so theirs go when the next one comes."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}-*"):
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}-"))
    owner = (folder / _OWNER).open("w")
    fcntl.flock(owner, fcntl.LOCK_SH)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(owner.close)  # and so it stays open until then
    return folder


def _remove_if_left(folder: Path) -> None:
    with suppress(OSError), (folder / _OWNER).open() as owner:  # of another user; or of one that has not locked it yet
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
