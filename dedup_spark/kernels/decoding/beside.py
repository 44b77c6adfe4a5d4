"""What a file holds beside the picture that is seen: further pictures, films, layers, bands, measurements.

It is lost with a file of which another one has the same picture alone, such as the still of a motion photo, the flat
export of layers, or red, green and blue of a satellite's bands. Nothing of it is decoded. It is named by a digest: two
files with one digest hold the same beside their pictures. Where it cannot be told apart from the picture, the digest is
that of the whole file, which only a byte copy has, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from dedup_spark.kernels.decoding.headers import ico_entries, tiff_directories, unpack
from dedup_spark.kernels.decoding.heif_items import heif_boxes_beside, heif_items
from dedup_spark.kernels.decoding.images import DecodedImage
from dedup_spark.kernels.decoding.jpeg_structure import JpegStructure

_LEAST_BEHIND, _LEAST_OF_SEGMENTS = 1 << 10, 1 << 16
"""Bytes behind the end of a picture, or in segments and chunks for applications, from which on they are more than
notes: the smallest gain maps have some KB, and one block of EXIF or XMP at most 64."""
_PADDING = b"\0\xff \r\n"
_LAYERS = 37724  # of Photoshop, in a TIFF
_PSD_HEADER_BYTES, _FITS_BLOCK, _DDS_CAPS_AT, _DDS_SEVERAL = 26, 2880, 112, 0x200200
_KNOWN_CHUNKS = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP tEXt zTXt iTXt bKGD pHYs sBIT sPLT hIST tIME eXIf acTL fcTL fdAT "
    b"cICP mDCV cLLI caBX".split()
)
"""Of PNG: the picture, what shows it, and texts. Programs keep layers in chunks of their own."""
_MAX_CHUNKS = 100_000
_HEAT, _LONG_XMP, _JUMBF_AT = b"FLIR\0", b"http://ns.adobe.com/xmp/extension/\0", slice(12, 16)
"""How segments of heat cameras and of XMP in several pieces begin, and where one in JUMBF has the type of its box,
behind CI, En, Z and LBox (ISO/IEC 19566-5)."""
_PICTURES_IN_XMP = (b"GImage", b"GDepth", b":Data")
_GAIN_MAP, _METADATA = b"tmap", frozenset({b"Exif", b"mime", b"uri "})


def beside_digest(data: bytes, image: DecodedImage, jpeg: JpegStructure | None) -> str | None:
    """SHA-256, hex, of what the file holds beside its picture; None where that is nothing. Never raises.

    Args:
        data: the whole file.
        image: as decoded from it.
        jpeg: its structure, where it is a JPEG file.
    """
    if image.unseen:
        return image.unseen.hex()
    if jpeg is not None:
        return _digest(_of_jpeg(data, jpeg))
    return _OF_FORMAT[image.format](data) if image.format in _OF_FORMAT else None


def _of_jpeg(data: bytes, jpeg: JpegStructure) -> list[bytes]:
    """Films, gain and depth maps and raw data stand behind the end of the picture; depth maps and pictures of heat, in
    pieces, in segments for applications."""
    behind = data[jpeg.end :].strip(_PADDING)
    pieces = [behind] if len(behind) >= _LEAST_BEHIND else []
    others = _but_notes([data[start:end] for start, end in jpeg.other_segments])
    is_of_heat = any(piece.startswith(_HEAT) for piece in others)
    return pieces + others if is_of_heat or sum(map(len, others)) >= _LEAST_OF_SEGMENTS else pieces


def _but_notes(segments: list[bytes]) -> list[bytes]:
    """Without content credentials (C2PA), and without XMP in several pieces that holds no pictures."""
    rest = [piece for piece in segments if not (piece.startswith(b"JP") and piece[_JUMBF_AT] == b"jumb")]
    xmp = [piece for piece in rest if piece.startswith(_LONG_XMP)]
    holds_pictures = any(name in piece for piece in xmp for name in _PICTURES_IN_XMP)
    return rest if holds_pictures else [piece for piece in rest if not piece.startswith(_LONG_XMP)]


def _of_png(data: bytes) -> str | None:
    """Chunks of programs, and what is behind the end."""
    at, others = 8, list[bytes]()
    for _ in range(_MAX_CHUNKS):
        length, name = sum(unpack(">I", data, at)), data[at + 4 : at + 8]
        if name not in _KNOWN_CHUNKS:
            others.append(data[at + 4 : at + 8 + length])
        at += 12 + length
        if name in (b"IEND", b""):
            break
    behind = data[at:].strip(_PADDING)
    pieces = [behind] if len(behind) >= _LEAST_BEHIND else []
    return _digest(pieces + others if sum(map(len, others)) >= _LEAST_OF_SEGMENTS else pieces)


def _of_psd(data: bytes) -> str | None:
    """The section of layers and masks, behind two others that begin with their length. One without layers says so in
    some bytes."""
    at = _PSD_HEADER_BYTES
    for _ in range(2):
        at += 4 + sum(unpack(">I", data, at))
    layers = data[at + 4 : at + 4 + sum(unpack(">I", data, at))]
    has_layers = sum(unpack(">I", layers, 0)) > 2 and any(unpack(">h", layers, 4))
    return _digest([layers] if has_layers else [])


def _of_icon(data: bytes) -> str | None:
    """Pictures of other sizes, which may be other pictures. Entries that overlap are none."""
    entries = sorted({(at, size) for at, size in ico_entries(data) if size and at + size <= len(data)})
    if sum(size for _, size in entries) > len(data):
        return _whole(data, True)
    return _digest([data[at : at + size] for at, size in entries] if len(entries) > 1 else [])


def _of_fits(data: bytes) -> str | None:
    """Planes of a cube, and extensions."""
    cards = data[: 16 * _FITS_BLOCK]
    return _whole(data, b"NAXIS3  =" in cards or b"XTENSION=" in data)


def _of_tiff(data: bytes) -> str | None:
    return _whole(data, any(_LAYERS in tags for tags in tiff_directories(data)))


def _of_heif(data: bytes) -> str | None:
    """Gain maps (tmap, ISO 21496-1, or auxiliary pictures), depths, and films behind them all.

    Where there are any, what counts are all items but metadata: a copy with other EXIF data holds the same.
    """
    behind = [data[start:end] for start, end in heif_boxes_beside(data)]
    pieces = behind if sum(map(len, behind)) >= _LEAST_BEHIND else []
    items = heif_items(data)
    if items is None or not (items.has_auxiliary or _GAIN_MAP in items.kinds.values()):
        return _digest(pieces)
    shown = [parts for number, parts in sorted(items.extents.items()) if items.kinds.get(number) not in _METADATA]
    extents = [part for parts in shown for part in parts]
    if sum(size for _, size in extents) > len(data):  # parts that overlap
        return _whole(data, True)
    return _digest(pieces + [data[at : at + size] for at, size in extents])


def _of_dds(data: bytes) -> str | None:
    """Faces of a cube, and slices of a volume."""
    return _whole(data, any(flags & _DDS_SEVERAL for flags in unpack("<I", data, _DDS_CAPS_AT)))


_OF_FORMAT: dict[str, Callable[[bytes], str | None]] = {
    "PNG": _of_png, "PSD": _of_psd, "ICO": _of_icon, "CUR": _of_icon, "FITS": _of_fits, "TIFF": _of_tiff,
    "AVIF": _of_heif, "HEIF": _of_heif, "DDS": _of_dds,
    "ICNS": lambda data: _whole(data, True),  # pictures of several sizes
    "PCD": lambda data: _whole(data, True),  # larger pictures, which the decoder leaves out
}  # fmt: skip


def _whole(data: bytes, holds_more: bool) -> str | None:
    return _digest([data] if holds_more else [])


def _digest(pieces: Iterable[bytes]) -> str | None:
    digest, is_empty = hashlib.sha256(), True
    for piece in pieces:
        digest.update(piece)
        is_empty = False
    return None if is_empty else digest.hexdigest()
