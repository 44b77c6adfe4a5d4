"""Formats whose first bytes alone say too little: several fields of a header must fit. Nothing here raises."""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_TGA_HEADER_BYTES = 18
_PEEKED_BYTES = 1024
_DIB_HEADER_BYTES = frozenset({40, 52, 56, 64, 108, 124})
_FPX_CLASS = b"\x00\x67\x61\x56\x54\xc1\xce\x11\x85\x53\x00\xaa\x00\xa1\xf9\x5b"
"""The class identifier in the root of a FlashPix file, an OLE container like old Office documents."""
_COMMENT = rb"/\*(?:[^*]|\*(?!/))*\*/"
_XBM = re.compile(
    rb"\s*(?:%b\s*)*#define\s+\S*width\s+\d+\s.*?#define\s+\S*height\s+\d+\s.*?_bits\s*\[" % _COMMENT, re.DOTALL
)


def format_by_structure(data: bytes) -> str | None:
    """The first format whose header fits, the surest first."""
    return next((s.name for s in _STRUCTURES if len(data) >= s.least_bytes and s.fits(data)), None)


def is_svg(data: bytes) -> bool:
    head = data[:_PEEKED_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head and b"<html" not in head)


def _is_sgi(data: bytes) -> bool:
    return data[:2] == b"\x01\xda" and data[2] <= 1 and data[3] in (1, 2)


def _is_pcx(data: bytes) -> bool:
    known = data[0] == 10 and data[1] in (0, 2, 3, 4, 5)
    return known and data[2] <= 1 and data[3] in (1, 2, 4, 8) and data[65] in range(5)


def _is_fli(data: bytes) -> bool:
    return data[4:6] in (b"\x11\xaf", b"\x12\xaf") and any(data[8:10]) and any(data[10:12])


def _is_tga(data: bytes) -> bool:
    """By its footer, or by a header in which every field is one that is written."""
    if data.endswith(b"TRUEVISION-XFILE.\0"):
        return True
    has_map, kind, depth, descriptor = data[1], data[2], data[16], data[17]
    is_mapped = kind in (1, 9)
    fits = has_map == is_mapped and kind in (1, 2, 3, 9, 10, 11) and not descriptor & 0xC0
    depths = {1: (8, 16), 9: (8, 16), 3: (1, 8, 16), 11: (8, 16)}.get(kind, (15, 16, 24, 32))
    map_fits = data[7] in (15, 16, 24, 32) if is_mapped else not any(data[3:8])
    return fits and depth in depths and map_fits and any(data[12:14]) and any(data[14:16])


def _is_dib(data: bytes) -> bool:
    """A bitmap without its file header, as the clipboard holds it."""
    size, width, height, planes, bits, compression = struct.unpack_from("<IiiHHI", data)
    fits = size in _DIB_HEADER_BYTES and planes == 1 and bits in (1, 4, 8, 16, 24, 32) and compression <= 6
    return fits and 0 < width < 1 << 16 and 0 < abs(height) < 1 << 16


def _is_brush(data: bytes) -> bool:
    header_bytes, version = struct.unpack_from(">II", data)
    return data[20:24] == b"GIMP" and version == 2 and 28 <= header_bytes < _PEEKED_BYTES


def _is_spider(data: bytes) -> bool:
    """27 floats, of which these are whole numbers and agree with each other."""
    for order in "<>":
        fields = struct.unpack_from(f"{order}27f", data)
        named = [fields[i - 1] for i in (2, 5, 12, 13, 22, 23)]
        rows, kind, columns, records, header_bytes, record_bytes = named
        whole = all(value == value // 1 for value in named)
        if whole and kind == 1 and rows > 0 and columns > 0 and header_bytes == records * record_bytes > 0:
            return True
    return False


def _is_emf(data: bytes) -> bool:
    return data[:4] == b"\1\0\0\0" and data[40:44] == b" EMF"


def _is_packed(starts: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    """Whether a gzip file begins so; no more than the first bytes are unpacked."""

    def fits(data: bytes) -> bool:
        if data[:3] != b"\x1f\x8b\x08":
            return False
        with contextlib.suppress(zlib.error):
            return starts(zlib.decompressobj(31).decompress(data[:_PEEKED_BYTES], _PEEKED_BYTES))
        return False

    return fits


def _is_nifti(data: bytes) -> bool:
    return data[344:348] in (b"n+1\0", b"ni1\0")


@dataclass(frozen=True, slots=True)
class _Structure:
    name: str
    least_bytes: int
    fits: Callable[[bytes], bool]


_STRUCTURES = (
    _Structure("DICOM", 132, lambda data: data[128:132] == b"DICM"),
    _Structure("GRIB", 8, lambda data: data[:4] == b"GRIB" and data[7] in (1, 2)),
    _Structure("BUFR", 8, lambda data: data[:4] == b"BUFR" and data[7] in (2, 3, 4)),
    _Structure("PCD", 2052, lambda data: data[2048:2052] == b"PCD_"),
    _Structure("EMF", 44, _is_emf),
    _Structure("NIfTI", 348, _is_nifti),
    _Structure("NIfTI", 20, _is_packed(_is_nifti)),
    _Structure("SVG", 20, _is_packed(is_svg)),
    _Structure("FPX", 512, lambda data: data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" and _FPX_CLASS in data),
    _Structure("OpenRaster", 60, lambda data: data[30:54] == b"mimetypeimage/openraster"),
    _Structure("KRA", 60, lambda data: data[30:57] == b"mimetypeapplication/x-krita"),
    _Structure("GBR", 28, _is_brush),
    _Structure("DIB", 40, _is_dib),
    _Structure("SGI", 66, _is_sgi),
    _Structure("PCX", 66, _is_pcx),
    _Structure("FLI", 66, _is_fli),
    _Structure("XBM", 40, lambda data: bool(_XBM.match(data[: 2 * _PEEKED_BYTES]))),
    _Structure("SPIDER", 256, _is_spider),
    _Structure("TGA", _TGA_HEADER_BYTES, _is_tga),
)
