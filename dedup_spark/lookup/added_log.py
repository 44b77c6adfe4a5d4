"""The log of additions on this disk.

An addition is on the disk (fsync) before `append` returns, so it outlives a kill, and other processes that have the log
open see it at their next look. The next run that holds the image at its address takes it over; then `retire` drops it.
Until then `sources.csv` beside the log names the addresses that are open, as a manifest: `dedup-spark run --lake
.../sources.csv`.

The file begins with random bytes that no other file has, so that a position counts only in the file that it is of; then
come records, which are only ever added at its end. `log_records.py` says what a record is.
"""

from __future__ import annotations

import csv
import fcntl
import io
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.lookup.added import Entry, Record, Removal, address_digest
from dedup_spark.lookup.log_records import packed, records_of

log = logging.getLogger(__name__)

LOG, MANIFEST = "added.log", "sources.csv"
MOST_ADDED = 10_000
"""Additions that are open, 12 KB each in memory and on the disk: a run takes them over."""
_MAGIC = b"dedup_spark lookup 2\n"
_GENERATION_BYTES = 16
HEADER_BYTES = len(_MAGIC) + _GENERATION_BYTES
_REMEMBERED = timedelta(days=30)
"""That a removal stays in the log, for processes that have the addition in memory and look at nothing meanwhile."""


class TooManyAdded(ConfigError):
    """MOST_ADDED images are open already."""


class AddedLog:
    """The file, which any number of threads and processes write. `read` gives what is new since the last call."""

    def __init__(self, folder: Path, *, is_tidy: bool = False) -> None:
        """`is_tidy`: this process has just had it written anew where that was needed."""
        self._path, self._manifest = folder / LOG, folder / MANIFEST
        self._lock = threading.Lock()
        self._at = self._whole = (b"", 0)
        """Of which file it was read up to where, and up to where its records are known to be whole."""
        if not is_tidy:
            self.retire(lambda entry: False)

    def append(self, record: Record) -> None:
        """On the disk when this returns."""
        data = packed(record)
        line = _lines([[record.uri]]) if isinstance(record, Entry) else b""
        with self._exclusive() as f:
            _go_to_end(f, self._path, self._end_known(f))
            write_through(f, data)
            end = f.tell()
            with self._lock:
                self._whole = (_generation(f, self._path), end)
            with self._manifest.open("ab") as m:
                write_through(m, line)

    def read(self) -> tuple[bool, list[Record]]:
        """(whether the log was written anew, so that what was read before may be gone; the new records)."""
        with self._lock:
            try:
                f = self._path.open("rb")
            except FileNotFoundError:  # somebody deleted it; the next addition begins another one
                self._at = (b"", 0)
                return True, []
            with f:
                generation, position = _generation(f, self._path), self._at[1]
                is_new = generation != self._at[0]
                f.seek(HEADER_BYTES if is_new else position)
                records = [*records_of(f, self._path)]
                self._at = self._whole = (generation, f.tell())
            return is_new, records

    def read_all(self) -> list[Record]:
        """All that are open; `read` goes on behind them."""
        with self._lock:
            self._at = (b"", 0)
        return self.read()[1]

    def entries(self) -> list[Entry]:
        """All that are in the log now; what `read` gives next is not changed by it."""
        with self._path.open("rb") as f:
            f.seek(HEADER_BYTES)
            return [record for record in records_of(f, self._path) if isinstance(record, Entry)]

    def retire(self, is_done: Callable[[Entry], bool]) -> int:
        """Drop the entries that are done, or that later records replace or remove; returns how many. The manifest names
        the others."""
        with self._exclusive() as f:
            f.seek(HEADER_BYTES)
            records = [*records_of(f, self._path)]
            stay = _staying(records, is_done)
            if len(stay) < len(records):
                _replace(self._path, _header() + b"".join(map(packed, stay)))
            entries = [record for record in stay if isinstance(record, Entry)]
            _replace(self._manifest, _lines([["uri"], *([entry.uri] for entry in entries)]))
        return sum(isinstance(record, Entry) for record in records) - len(entries)

    def _end_known(self, f: BinaryIO) -> int:
        with self._lock:
            generation, position = self._whole
        return position if generation == _generation(f, self._path) else HEADER_BYTES

    @contextmanager
    def _exclusive(self) -> Iterator[BinaryIO]:
        """The log, open for reading and writing, while no other thread or process writes it."""
        while True:
            self._path.touch(mode=0o600)
            with self._path.open("r+b") as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                if not _is_at(self._path, f):
                    continue  # another one was put in its place meanwhile
                if f.seek(0, os.SEEK_END) < HEADER_BYTES:
                    f.truncate(0)
                    f.seek(0)
                    write_through(f, _header())
                _generation(f, self._path)
                yield f
                return


def _is_at(path: Path, f: BinaryIO) -> bool:
    """Whether the open file is the one of this name: no other one gets its inode while it is open."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(f.fileno())
    return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)


def _header() -> bytes:
    return _MAGIC + secrets.token_bytes(_GENERATION_BYTES)


def _generation(f: BinaryIO, path: Path) -> bytes:
    """What tells this file from all that had its name before; none of a file that is being begun."""
    f.seek(0)
    header = f.read(HEADER_BYTES)
    if len(header) == HEADER_BYTES and not header.startswith(_MAGIC):
        raise ArtifactError(f"{path} is no log of additions of this version: move it away to begin a new one")
    return header[len(_MAGIC) :]


def _go_to_end(f: BinaryIO, path: Path, start: int) -> None:
    """Go behind the last whole record, and cut off what a killed process left behind it. `start`: of a record."""
    f.seek(start)
    for _ in records_of(f, path):
        pass
    if f.tell() < os.fstat(f.fileno()).st_size:
        log.warning("lookup: the end of the log of additions was half written, and is cut off")
        f.truncate()


def _staying(records: Sequence[Record], is_done: Callable[[Entry], bool]) -> list[Record]:
    """In their order. An address that no manifest can hold is not kept, as no run could read it."""
    last = {address_digest(record.uri): record for record in records if isinstance(record, Entry)}
    removed: dict[bytes, datetime] = {}
    for record in records:
        if isinstance(record, Removal):
            removed[record.address] = max(record.at, removed.get(record.address, record.at))
    since = datetime.now(UTC) - _REMEMBERED

    def stays(record: Record) -> bool:
        if isinstance(record, Removal):
            return record.at >= since
        address = address_digest(record.uri)
        is_removed = address in removed and record.added_at <= removed[address]
        return last[address] is record and not is_removed and is_text(record.uri) and not is_done(record)

    return [record for record in records if stays(record)]


def is_text(uri: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        return bool(uri.encode())
    except UnicodeEncodeError:
        return False


def write_through(f: BinaryIO, data: bytes) -> None:
    """Write, and wait until the disk has it."""
    f.write(data)
    f.flush()
    os.fsync(f.fileno())


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another one, whole and on the disk."""
    temporary = path.with_suffix(".tmp")
    temporary.touch(mode=0o600)
    with temporary.open("wb") as f:
        write_through(f, data)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lines(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
