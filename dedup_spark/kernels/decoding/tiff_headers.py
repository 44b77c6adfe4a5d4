"""TIFF files whose header Pillow does not take, with one that it does; pixels and their places stay."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dedup_spark.kernels.decoding.headers import unpack

_RIGHT = {b"MM*\0": b"MM\0*", b"II\0*": b"II*\0"}
"""Some cameras write the number 42 in the other byte order. Pillow takes it, libtiff does not."""
_BIG = b"MM\0+"
_MAX_DIRECTORIES = 16_384
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_LONG, _EIGHT_BYTES = 4, frozenset({16, 17})
_MOST = (1 << 32) - 1


def with_known_header(data: bytes) -> bytes:
    """The file itself, but for the kinds that its decoder would refuse.

    A BigTIFF of big-endian byte order, which Pillow 13.0 takes for a small one, gets new directories of a classic TIFF
    behind all else. It costs a copy of the file.
    """
    magic = data[:4]
    if magic in _RIGHT:
        return _RIGHT[magic] + data[4:]
    return _with_classic_directories(data) if magic == _BIG else data


def _with_classic_directories(data: bytes) -> bytes:
    out = bytearray(data + b"\0" * (len(data) % 2))
    link = 4  # where the offset of the next directory is to be written
    out[:8] = b"MM\0*\0\0\0\0"
    for offset in _chain(data):
        entries = list(_entries(data, offset, out))
        struct.pack_into(">I", out, link, len(out))
        out += struct.pack(">H", len(entries)) + b"".join(entries)
        link = len(out)
        out += bytes(4)
    return bytes(out)


def _chain(data: bytes) -> Iterator[int]:
    seen: set[int] = set()
    at = sum(unpack(">Q", data, 8))
    while 16 <= at < len(data) and at not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(at)
        yield at
        at = sum(unpack(">Q", data, at + 8 + 20 * sum(unpack(">Q", data, at))))


def _entries(data: bytes, directory: int, out: bytearray) -> Iterator[bytes]:
    """Entries of a classic directory; values that are too long for them are added to `out`.

    Each tag once, and no more values than the file has bytes, so that a hostile file does not grow.
    """
    n_entries, known = sum(unpack(">Q", data, directory)), set()
    for at in range(directory + 8, min(len(data), directory + 8 + 20 * min(n_entries, 0xFFFF)), 20):
        tag, kind, count = unpack(">HHQ", data, at) or (0, 0, 0)
        values = _values(data, kind, count, at + 12)
        if tag in known or values is None or len(out) + len(values) > 3 * len(data):
            continue
        known.add(tag)
        place = values.ljust(4, b"\0")
        if len(values) > 4:
            place = struct.pack(">I", len(out))
            out += values + b"\0" * (len(values) % 2)
        yield struct.pack(">HHI", tag, _LONG if kind in _EIGHT_BYTES else kind, count) + place


def _values(data: bytes, kind: int, count: int, at: int) -> bytes | None:
    """As a classic TIFF holds them; None where it cannot, and for pointers to further directories."""
    n_bytes = count * (8 if kind in _EIGHT_BYTES else _VALUE_BYTES.get(kind, 0))
    start = at if n_bytes <= 8 else sum(unpack(">Q", data, at))
    if not 0 < n_bytes <= len(data) - start:
        return None
    if kind not in _EIGHT_BYTES:
        return data[start : start + n_bytes]
    numbers = unpack(f">{count}Q", data, start)
    return struct.pack(f">{count}I", *numbers) if max(numbers) <= _MOST else None
