"""What the segments of a JPEG file say: quantisation tables, sampling, scans, and where its coded data lie.

No coefficient is decoded. The file may be damaged or hostile: what cannot be read is left out, and nothing raises.
Cost: one pass of a regular expression over the coded data, about 1 ms per MB.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.decoding.headers import unpack

_MAX_SEGMENTS = 2_000
"""A photo with all metadata has below 50, a progressive one with a profile in pieces below 400."""
_MARKER_IN_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_EOI, _SOS, _DQT, _DHT, _DRI, _COM = 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xFE

_END = bytes([0xFF, _EOI])
_NOTES = (
    b"JFIF\0", b"JFXX\0", b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Adobe", b"Photoshop 3.0\0",
    b"Ducky", b"MPF\0",
)  # fmt: skip
"""How segments for applications begin that hold no picture or measurement of their own."""

_ZIGZAG = np.array([
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
])  # fmt: skip
"""Row-major place in the block of each value of a stored table."""


@dataclass(frozen=True, slots=True)
class Component:
    """A colour plane: its sampling factors, and the number of its quantisation table."""

    number: int
    horizontal: int
    vertical: int
    table: int


@dataclass(frozen=True, slots=True)
class Scan:
    """One pass over the picture. `spectrum` is the first and the last coefficient, `bits` the bit that was reached
    before and the one that is reached now (progressive files); `data` is where the coded data begin and end."""

    components: tuple[int, ...]
    spectrum: tuple[int, int]
    bits: tuple[int, int]
    data: tuple[int, int]


@dataclass(slots=True)
class JpegStructure:
    """The first picture of a JPEG file.

    `tables` are (64,) int64 in row-major order; `all_zero_codes` has, for each Huffman table that codes a symbol by a
    single 0, (class, symbol); `marker_inside` is a marker inside coded data that no scan can be followed by. `end` is
    where the picture ends, the end of the file where no marker says so; `other_segments` are where the segments for
    applications begin and end that hold no JFIF, EXIF, XMP in one piece, colour profile or notes of Adobe.
    """

    width: int = 0
    height: int = 0
    is_progressive: bool = False
    components: tuple[Component, ...] = ()
    tables: dict[int, Int64] = field(default_factory=dict)
    scans: list[Scan] = field(default_factory=list)
    restart_interval: int = 0
    all_zero_codes: set[tuple[int, int]] = field(default_factory=set)
    marker_inside: int | None = None
    end: int = 0
    other_segments: list[tuple[int, int]] = field(default_factory=list)

    @property
    def luma_table(self) -> Int64 | None:
        """The quantisation table of the first component, steps of its 64 coefficients; None where the file has none."""
        return self.tables.get(self.components[0].table) if self.components else None


def jpeg_structure(data: bytes) -> JpegStructure:
    """Read the segments up to the end of the first picture."""
    jpeg = JpegStructure(end=len(data))
    coded_end = 2
    for marker, start, end, coded_end in _segments(data):
        if 0xE0 <= marker <= 0xEF and not data.startswith(_NOTES, start):
            jpeg.other_segments.append((start, end))
        if marker == _SOS:
            _read_scan(jpeg, data[start:end], (end, coded_end))
        elif jpeg.scans and not (marker in (_DHT, _DQT, _DRI, 0xDC, 0xFE) or 0xE0 <= marker <= 0xEF):
            jpeg.marker_inside = marker
            break
        else:
            _read_header(jpeg, marker, data, start, end)
    if data[coded_end : coded_end + 2] == _END:
        jpeg.end = coded_end + 2
    return jpeg


def coded_digest(data: bytes) -> bytes:
    """SHA-256 of all that decides the pixels of a JPEG: its segments and coded data, but for applications and comments.

    Equal files in this have the same pixels at full size, whatever metadata they carry.
    """
    digest, coded_end = hashlib.sha256(), 2
    for marker, start, _, coded_end in _segments(data):
        if not (marker == _COM or 0xE0 <= marker <= 0xEF):
            digest.update(memoryview(data)[start - 4 : coded_end])
    if data[coded_end : coded_end + 2] != _END:  # damaged, or of too many segments to be read
        digest.update(data[coded_end:])
    return digest.digest()


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(marker, where its content begins and ends, where the coded data behind it end) up to the end of the picture."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        marker = sum(unpack(">H", data, at)) - 0xFF00
        if not 0 < marker <= 0xFF:
            return
        length = sum(unpack(">H", data, at + 2))
        if marker == _EOI or length < 2:
            return
        end = at + 2 + length
        found = _MARKER_IN_DATA.search(data, end) if marker == _SOS else None
        coded_end = end if marker != _SOS else found.start() if found else len(data)
        yield marker, at + 4, end, coded_end
        at = coded_end


def _read_header(jpeg: JpegStructure, marker: int, data: bytes, start: int, end: int) -> None:
    content = data[start : min(end, len(data))]
    if marker in _FRAME_MARKERS and len(content) >= 6:
        _read_frame(jpeg, marker, content)
    elif marker == _DQT:
        _read_tables(jpeg, content)
    elif marker == _DHT:
        _read_codes(jpeg, content)
    elif marker == _DRI:
        jpeg.restart_interval = sum(unpack(">H", content, 0))


def _read_frame(jpeg: JpegStructure, marker: int, content: bytes) -> None:
    jpeg.is_progressive = marker in _PROGRESSIVE_MARKERS
    jpeg.height, jpeg.width = unpack(">HH", content, 1)
    places = range(6, min(len(content) - 2, 6 + 3 * min(content[5], 4)), 3)
    jpeg.components = tuple(
        Component(content[i], content[i + 1] >> 4, content[i + 1] & 15, content[i + 2]) for i in places
    )


def _read_tables(jpeg: JpegStructure, content: bytes) -> None:
    while content:
        wide, number = content[0] >> 4, content[0] & 15
        size = 128 if wide else 64
        if len(content) < 1 + size:
            return
        steps = np.zeros(64, np.int64)
        steps[_ZIGZAG] = np.frombuffer(content, ">u2" if wide else np.uint8, 64, 1)
        jpeg.tables[number] = steps
        content = content[1 + size :]


def _read_codes(jpeg: JpegStructure, content: bytes) -> None:
    """Of each Huffman table only whether its first code is a single 0."""
    while len(content) > 17:
        if content[1]:
            jpeg.all_zero_codes.add((content[0] >> 4, content[17]))
        content = content[17 + sum(content[1:17]) :]


def _read_scan(jpeg: JpegStructure, header: bytes, coded: tuple[int, int]) -> None:
    n = header[0] if header else 0
    if 1 <= n <= 4 and len(header) >= 4 + 2 * n:
        first, last, bits = header[1 + 2 * n : 4 + 2 * n]
        components = tuple(header[1 : 1 + 2 * n : 2])
        jpeg.scans.append(Scan(components, (first, last), (bits >> 4, bits & 15), coded))
