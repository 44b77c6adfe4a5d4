"""The log of additions on this disk.

An addition is on the disk (fsync) before `append` returns, so it outlives a kill, and other processes that have the log
open see it at their next look. The next run that lists its address takes it over; then `retire` drops it. Until then
`sources.csv` beside the log names the addresses that are open, as a manifest: `dedup-spark run --lake .../sources.csv`.

A record is a length, a checksum and what `answers.pack` makes of the entry. One that a kill left half written was never
acknowledged: it is cut off.
"""

from __future__ import annotations

import csv
import fcntl
import io
import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

from dedup_spark.errors import ArtifactError
from dedup_spark.lookup.added import Entry
from dedup_spark.stages.reading.answers import NotAnAnswer, pack, unpack

log = logging.getLogger(__name__)

LOG, MANIFEST = "added.log", "sources.csv"
_MAGIC = b"dedup_spark lookup 1\n"
_RECORD = struct.Struct("<QI")
"""Length and CRC-32 of what follows."""


class AddedLog:
    """The file, which any number of threads and processes write. `read` gives what is new since the last call."""

    def __init__(self, folder: Path) -> None:
        self._path, self._manifest = folder / LOG, folder / MANIFEST
        self._lock = threading.Lock()
        self._position, self._inode = 0, -1
        self.retire(lambda entry: False)

    def append(self, entry: Entry) -> None:
        """On the disk when this returns."""
        record = _record(entry)
        with self._exclusive() as f:
            known = self._position if os.fstat(f.fileno()).st_ino == self._inode else len(_MAGIC)
            _cut_off(f, known)
            write_through(f, record)
            with self._manifest.open("ab") as m:
                write_through(m, _lines([[entry.uri]]))

    def read(self) -> tuple[bool, list[Entry]]:
        """(whether the log was written anew, so that what was read before counts no more; the new entries)."""
        with self._lock:
            found = self._path.stat()
            is_new = found.st_ino != self._inode
            if not is_new and found.st_size == self._position:
                return False, []
            with self._path.open("rb") as f:
                f.seek(len(_MAGIC) if is_new else self._position)
                entries = [*_entries(f, self._path)]
                self._inode, self._position = os.fstat(f.fileno()).st_ino, f.tell()
            return is_new, entries

    def read_all(self) -> list[Entry]:
        """All that are open; `read` goes on behind them."""
        with self._lock:
            self._inode = -1
        return self.read()[1]

    def retire(self, is_done: Callable[[Entry], bool]) -> int:
        """Drop the entries that are done; returns how many. The manifest names the others."""
        with self._exclusive() as f:
            f.seek(len(_MAGIC))
            entries = [*_entries(f, self._path)]
            stay = [entry for entry in entries if not is_done(entry)]
            if len(stay) < len(entries):
                _replace(self._path, _MAGIC + b"".join(map(_record, stay)))
            uris = dict.fromkeys(entry.uri for entry in stay)
            _replace(self._manifest, _lines([["uri"], *([uri] for uri in uris)]))
        return len(entries) - len(stay)

    @contextmanager
    def _exclusive(self) -> Iterator[BinaryIO]:
        """The log, open for reading and writing, while no other thread or process writes it."""
        while True:
            self._path.touch(mode=0o600)
            with self._path.open("r+b") as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                if self._path.stat().st_ino != os.fstat(f.fileno()).st_ino:
                    continue  # another one was put in its place meanwhile
                if f.seek(0, os.SEEK_END) < len(_MAGIC):
                    f.truncate(0)
                    f.seek(0)
                    write_through(f, _MAGIC)
                yield f
                return


def write_through(f: BinaryIO, data: bytes) -> None:
    """Write, and wait until the disk has it."""
    f.write(data)
    f.flush()
    os.fsync(f.fileno())


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another one, whole and on the disk."""
    temporary = path.with_suffix(".tmp")
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


def _record(entry: Entry) -> bytes:
    body = pack([getattr(entry, field.name) for field in fields(entry)])
    return _RECORD.pack(len(body), zlib.crc32(body)) + body


def _entries(f: BinaryIO, path: Path) -> Iterator[Entry]:
    """From where the file stands; it is left behind the last whole record."""
    end = os.fstat(f.fileno()).st_size
    while (start := f.tell()) < end:
        head = f.read(_RECORD.size)
        size, checksum = _RECORD.unpack(head) if len(head) == _RECORD.size else (end, 0)
        if start + _RECORD.size + size > end:
            f.seek(start)
            return
        body = f.read(size)
        if zlib.crc32(body) != checksum:
            raise ArtifactError(f"{path} is damaged at byte {start:,}: restore it, or move it away to begin a new one")
        try:
            yield Entry(*unpack(body))
        except (NotAnAnswer, TypeError) as e:
            raise ArtifactError(f"{path}: the entry at byte {start:,} is of another version: {e}") from e


def _cut_off(f: BinaryIO, start: int) -> None:
    """Go to the end, and cut off what a killed process left half written there. `start`: of a record, or the end."""
    end = os.fstat(f.fileno()).st_size
    while start < end:
        f.seek(start)
        head = f.read(_RECORD.size)
        following = start + _RECORD.size + (_RECORD.unpack(head)[0] if len(head) == _RECORD.size else end)
        if following > end:
            log.warning("lookup: the end of the log of additions was half written, and is cut off")
            f.truncate(start)
            break
        start = following
    f.seek(0, os.SEEK_END)
