"""A PNG without the chunks at which Pillow stops and that hold no pixels, as libpng and browsers read it.

They ignore an ancillary chunk whose checksum or length is wrong (PNG specification, 13.1), which is no part of what is
seen, or which is too large; Pillow refuses the file. What is damaged in the chunks that hold the picture (IHDR, PLTE,
IDAT) stays as it is, for the decoder to find.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from dedup_spark.kernels.decoding.headers import unpack

_SIGNATURE_BYTES, _FRAME_BYTES = 8, 12
_SEEN = frozenset({b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT", b"eXIf"})
"""Change how the pixels are seen. None of them is compressed or depends on another, so no sound one stops a decoder."""
_SEEN_OR_FILM = _SEEN | {b"iCCP", b"acTL", b"fcTL", b"fdAT"}
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_SEEN_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""May say the orientation. They are kept up to `_MAX_TEXT_BYTES`, compressed or not."""
_MAX_TEXT_BYTES = 1 << 20
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"acTL": 8, b"fcTL": 26}
_TRANSPARENCY_LENGTHS = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}
"""By the colour type of the file; others have alpha and no such chunk."""
_COLOUR_TYPE_AT = 25


def without_odd_chunks(data: bytes) -> Iterator[bytes]:
    """Copies of a PNG file that show the same picture, each with fewer chunks than the one before.

    First without those that are damaged or say nothing of what is seen, then also without profiles, texts and films.
    Nothing where there is nothing to leave out. One pass over the data each.
    """
    last = len(data)
    for kinds, texts in ((_SEEN_OR_FILM, _SEEN_TEXTS), (_SEEN, ())):
        copy = b"".join(_kept(data, kinds, texts))
        if len(copy) < last:
            last = len(copy)
            yield copy


def _kept(data: bytes, kinds: frozenset[bytes], texts: tuple[bytes, ...]) -> Iterator[memoryview]:
    view, at = memoryview(data), _SIGNATURE_BYTES
    yield view[:at]
    while (length := unpack(">I", data, at)) and data[at + 4 : at + 8].isalpha():
        end = at + _FRAME_BYTES + length[0]
        if _is_critical(data, at) or _is_kept(data, at, end, kinds, texts):
            yield view[at:end]
        at = end
    yield view[at:]


def _is_critical(data: bytes, at: int) -> bool:
    return not data[at + 4] & 0x20


def _is_kept(data: bytes, at: int, end: int, kinds: frozenset[bytes], texts: tuple[bytes, ...]) -> bool:
    kind, length = data[at + 4 : at + 8], end - at - _FRAME_BYTES
    if kind in _TEXTS:
        wanted = data.startswith(texts, at + 8) and length <= _MAX_TEXT_BYTES if texts else False
    elif kind == b"tRNS":
        wanted = length in _TRANSPARENCY_LENGTHS.get(sum(data[_COLOUR_TYPE_AT : _COLOUR_TYPE_AT + 1]), ())
    else:
        wanted = kind in kinds and length == _LENGTHS.get(kind, length)
    return wanted and unpack(">I", data, end - 4) == (zlib.crc32(memoryview(data)[at + 4 : end - 4]),)
