"""The records of the log of additions: a length, a checksum, and what `answers.pack` makes of an entry or a removal.

What is behind the last whole record was never acknowledged: a kill or a power loss left it half written, or as zeros.
Where a whole record is behind what is none, the file is damaged, and nobody goes on with it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dedup_spark.errors import ArtifactError
from dedup_spark.lookup.added import Entry, Record, Removal
from dedup_spark.stages.reading.answers import NotAnAnswer, pack, unpack

_HEAD = struct.Struct("<QI")
"""Length and CRC-32 of what follows."""
_MOST_BYTES = 4 << 20
"""Of a record; an entry with its thumbnail has some 12 KB."""
_WINDOW = 1 << 20


def packed(record: Record) -> bytes:
    """As it is in the file. Raises ArtifactError for one that is too large."""
    body = pack([type(record).__name__, *(getattr(record, field.name) for field in fields(record))])
    if len(body) > _MOST_BYTES:
        raise ArtifactError(f"the log of additions takes no entry of {len(body):,} bytes")
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def records_of(f: BinaryIO, path: Path) -> Iterator[Record]:
    """From where the file stands; it is left behind the last whole record. Raises ArtifactError where it is damaged."""
    end = os.fstat(f.fileno()).st_size
    while (start := f.tell()) < end:
        body = _body(f.read(min(_HEAD.size, end - start)), f, end)
        if body is None:
            _require_last(f, path, start)
            f.seek(start)
            return
        yield _record(body, path, start)


def _body(head: bytes, f: BinaryIO, end: int) -> bytes | None:
    """What follows this head; None where it is none."""
    size, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
    if not 0 < size <= min(end - f.tell(), _MOST_BYTES):
        return None
    body = f.read(size)
    return body if zlib.crc32(body) == checksum else None


def _record(body: bytes, path: Path, start: int) -> Record:
    try:
        name, *values = unpack(body)
        return _KINDS[name](*values)
    except (NotAnAnswer, KeyError, TypeError) as e:
        raise ArtifactError(f"{path}: the entry at byte {start:,} is of another version: {e}") from e


_KINDS: dict[str, type[Entry] | type[Removal]] = {kind.__name__: kind for kind in (Entry, Removal)}


def _require_last(f: BinaryIO, path: Path, start: int) -> None:
    f.seek(start + 1)
    if _holds_record(f.read()):
        raise ArtifactError(f"{path} is damaged at byte {start:,}: restore it, or move it away to begin a new one")


def _holds_record(tail: bytes) -> bool:
    """Whether a whole record begins anywhere in it."""
    data = np.frombuffer(tail, np.uint8)
    for begin in range(0, len(data) - _HEAD.size, _WINDOW):
        words = np.lib.stride_tricks.sliding_window_view(data[begin : begin + _WINDOW + 7], 8)
        sizes = np.ascontiguousarray(words).view("<u8")[:, 0]
        possible = np.flatnonzero((sizes > 0) & (sizes <= min(_MOST_BYTES, len(data)))) + begin
        if any(_is_record(tail, at) for at in possible.tolist()):
            return True
    return False


def _is_record(tail: bytes, at: int) -> bool:
    if at + _HEAD.size > len(tail):
        return False
    size, checksum = _HEAD.unpack_from(tail, at)
    begin = at + _HEAD.size
    return begin + size <= len(tail) and zlib.crc32(memoryview(tail)[begin : begin + size]) == checksum
