"""Where the parts of a file lie (chunks, segments, boxes, directory entries), and how its checksums are repaired.

Only so much is understood that a changed file still leads a reader deep inside.
"""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from collections.abc import Callable, Iterator

from dedup_spark.kernels.decoding.headers import box, unpack

Span = tuple[int, int]
_WINDOW, _TAR_BLOCK, _MAX_PARTS = 16, 512, 400
_CHECKSUM_AT, _CHECKSUM_BYTES = 148, 8
_PNG_HEAD, _RIFF_HEAD = 8, 12
_TOKEN = re.compile(rb'"[^"]*"|\w+|\W')


def parts_of(data: bytes) -> list[Span]:
    """(begin, end) of each part; windows of 16 bytes where the kind of file is not known."""
    for is_kind, parts in _PARTS:
        if is_kind(data):
            found = [(a, b) for a, b in itertools.islice(parts(data), _MAX_PARTS) if a < b]
            return found or [(0, len(data))]
    n = min(len(data) // _WINDOW, _MAX_PARTS)
    return [(i * _WINDOW, (i + 1) * _WINDOW) for i in range(n)] or [(0, len(data))]


def repaired(data: bytes) -> bytes:
    """With checksums and outer lengths that fit what is there now."""
    if _is_png(data):
        return _with_crcs(data)
    if _is_riff(data):
        return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]
    return _with_tar_sums(data) if _is_tar(data) else data


def _is_png(data: bytes) -> bool:
    return data[:4] == b"\x89PNG"


def _is_riff(data: bytes) -> bool:
    return data[:4] == b"RIFF"


def _is_tar(data: bytes) -> bool:
    return data[257:262] == b"ustar"


def _is_tiff(data: bytes) -> bool:
    return data[:2] in (b"II", b"MM")


def _is_boxes(data: bytes) -> bool:
    return data[4:8] in (b"ftyp", b"jP  ", b"JXL ")


def _is_text(data: bytes) -> bool:
    return data[:32].isascii() and data[:32].decode().isprintable() and b"\0" not in data


def _png_parts(data: bytes) -> Iterator[Span]:
    at = _PNG_HEAD
    while length := unpack(">I", data, at):
        yield at, min(len(data), at + 12 + length[0])
        at += 12 + length[0]


def _jpeg_parts(data: bytes) -> Iterator[Span]:
    """Segments up to the coded data, then windows of these."""
    at = 2
    while (head := unpack(">BBH", data, at)) and head[0] == 0xFF and head[1] != 0xDA:
        yield at, min(len(data), at + 2 + head[2])
        at += 2 + head[2]
    yield from ((a, min(len(data), a + 64)) for a in range(at, len(data), 64))


def _riff_parts(data: bytes) -> Iterator[Span]:
    at = _RIFF_HEAD
    while length := unpack("<I", data, at + 4):
        end = at + 8 + length[0] + length[0] % 2
        yield at, min(len(data), end)
        at = end


def _box_parts(data: bytes) -> Iterator[Span]:
    """Outermost boxes, and windows of those before the coded data."""
    at = 0
    while at + 8 <= len(data):
        end = min(len(data), box(data, at)[1])
        yield at, end
        if data[at + 4 : at + 8] not in (b"mdat", b"jxlc", b"jp2c"):
            yield from ((a, min(end, a + 8)) for a in range(at, end, 8))
        at = end


def _tiff_parts(data: bytes) -> Iterator[Span]:
    """The header and each entry of the chain of directories, of 12 bytes or, in a BigTIFF, 20."""
    order, is_big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    count, pointer, step = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    yield 0, 16 if is_big else 8
    at, seen = sum(unpack(order + pointer, data, 8 if is_big else 4)), set[int]()
    while at not in seen and 8 <= at < len(data):
        seen.add(at)
        n = min(sum(unpack(order + count, data, at)), _MAX_PARTS)
        at += struct.calcsize(count)
        yield from ((at + i * step, min(len(data), at + (i + 1) * step)) for i in range(n))
        at = sum(unpack(order + pointer, data, at + n * step))


def _tar_parts(data: bytes) -> Iterator[Span]:
    return ((at, min(len(data), at + _TAR_BLOCK)) for at in range(0, len(data), _TAR_BLOCK))


def _parquet_parts(data: bytes) -> Iterator[Span]:
    """Windows of the footer, which describes the columns and says where their pages are; then the first pages."""
    footer = max(4, len(data) - 8 - sum(unpack("<I", data, len(data) - 8)))
    yield from ((a, min(len(data), a + 4)) for a in range(footer, len(data), 4))
    yield from ((a, min(footer, a + _WINDOW)) for a in range(4, footer, _WINDOW))


def _text_parts(data: bytes) -> Iterator[Span]:
    """Words, quoted ones whole, and the signs between them."""
    return (token.span() for token in _TOKEN.finditer(data))


def _with_crcs(data: bytes) -> bytes:
    out = bytearray(data[:_PNG_HEAD])
    for begin, end in _png_parts(data):
        body = data[begin + 4 : end - 4]
        out += data[begin : begin + 4] + body + struct.pack(">I", zlib.crc32(body))
    return bytes(out)


def _with_tar_sums(data: bytes) -> bytes:
    out = bytearray(data)
    for at in range(0, len(data) - _TAR_BLOCK + 1, _TAR_BLOCK):
        header = out[at : at + _TAR_BLOCK]
        if header[257:262] == b"ustar":
            header[_CHECKSUM_AT : _CHECKSUM_AT + _CHECKSUM_BYTES] = b" " * _CHECKSUM_BYTES
            out[at + _CHECKSUM_AT : at + _CHECKSUM_AT + _CHECKSUM_BYTES] = b"%06o\0 " % sum(header)
    return bytes(out)


_PARTS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Iterator[Span]]], ...] = (
    (_is_png, _png_parts),
    (lambda data: data[:2] == b"\xff\xd8", _jpeg_parts),
    (_is_riff, _riff_parts),
    (_is_boxes, _box_parts),
    (_is_tiff, _tiff_parts),
    (_is_tar, _tar_parts),
    (lambda data: data[:4] == b"PAR1", _parquet_parts),
    (_is_text, _text_parts),
)
