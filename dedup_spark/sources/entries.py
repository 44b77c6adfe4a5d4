"""The names in one folder of a local disk, and why a folder cannot be listed.

A link to nowhere, a pipe, a socket or a device is an entry like any other; none of them is ever opened.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, names
from dedup_spark.sources.faults import fault_of
from dedup_spark.sources.objects import is_on_disk
from dedup_spark.sources.passed_over import CLOSED_FOLDER, FAILING_FOLDER, LINK_TO_FILE, LINK_TO_FOLDER, LONG_PATH
from dedup_spark.sources.times import from_nanoseconds

_BUSY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Faults of this machine, not of the folder: the next one would fail in the same way."""


class Entry(NamedTuple):
    """One name in a folder."""

    uri: str
    is_folder: bool = False
    size_bytes: int | None = None
    modified_at: datetime | None = None
    etag: str | None = None
    attributes: dict[str, str] | None = None
    file_id: str | None = None
    n_links: int | None = None
    passed_over: str | None = None


def local_entries(folder: str) -> Iterator[Entry]:
    """The entries of a folder, `file://` and its path. Raises OSError when it cannot be listed."""
    host = socket.gethostname()
    with os.scandir(addresses.to_path(folder)) as entries:
        for entry in entries:
            uri = f"{folder}/{names.to_text(entry.name)}"
            try:
                found = _local_entry(entry, uri, host)
            except OSError as e:  # of a file system that does not say in its folders which entries are folders
                reason = why_unlisted(uri, e)
                if reason is None:
                    raise
                found = Entry(uri, passed_over=reason)
            yield found


def why_unlisted(uri: str, error: OSError) -> str | None:
    """Which of `passed_over.UNLISTED` it is that `uri` cannot be listed; None for a fault that says nothing of it."""
    if error.errno in _BUSY or not is_on_disk(uri):
        return None
    if error.errno == errno.ENAMETOOLONG:
        return LONG_PATH
    return CLOSED_FOLDER if isinstance(fault_of(error), ImageRejected) else FAILING_FOLDER


def identity_of_file(facts: os.stat_result, host: str) -> tuple[str | None, int | None]:
    """`file_id` and `n_links` of a regular file; None for all else, and where a file system has no inodes."""
    if not stat.S_ISREG(facts.st_mode) or facts.st_ino == 0:
        return None, None
    return f"{host}/{facts.st_dev}:{facts.st_ino}", facts.st_nlink


def _local_entry(entry: os.DirEntry[str], uri: str, host: str) -> Entry:
    if entry.is_dir(follow_symlinks=False):
        return Entry(uri, is_folder=True)
    facts = _stat(entry)
    if facts is None:
        return Entry(uri, size_bytes=0)
    found = Entry(uri, size_bytes=facts.st_size, modified_at=from_nanoseconds(facts.st_mtime_ns))
    if not entry.is_symlink():
        file_id, n_links = identity_of_file(facts, host)
        return found._replace(file_id=file_id, n_links=n_links)
    if stat.S_ISDIR(facts.st_mode):
        return found._replace(passed_over=LINK_TO_FOLDER)
    return found._replace(passed_over=LINK_TO_FILE if stat.S_ISREG(facts.st_mode) else None)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Facts of what an entry leads to; None where a link leads nowhere, in a circle or to what may not be read."""
    try:
        return entry.stat()
    except OSError:  # it still becomes a row, and reading it gives the reason
        return None
