"""Whether a file ends before its format says it may: that tells `truncated` from `corrupt` after a decoder failed.

It is asked only after a failure, so that a sound picture with a lost thumbnail behind it stays a picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from dedup_spark.kernels.decoding.headers import box, ico_entries, tiff_directories, unpack

_TIFF_EXTENTS = ((273, 279), (324, 325), (513, 514))  # strips, tiles, an old-style JPEG stream
_DDS_HEADER_BYTES, _PSD_HEADER_BYTES, _QOI_HEADER_BYTES, _ICO_ENTRY_BYTES = 128, 26, 14, 16


def is_cut_off(data: bytes, image_format: str) -> bool:
    """Whether the end that the format prescribes is missing. Never raises."""
    if image_format in _CHECKS:
        return _CHECKS[image_format](data)
    if data[:2] in (b"II", b"MM"):  # TIFF and the RAW formats built on it
        return _is_tiff_cut_off(data)
    if data[:4] == b"\xff\x4f\xff\x51":  # a bare JPEG 2000 codestream
        return b"\xff\xd9" not in data[-2:]
    return data[4:8] in (b"ftyp", b"jP  ", b"JXL ") and _last_box_end(data) > len(data)


def is_raw_cut_off(data: bytes, image_format: str) -> bool:
    """Whether a camera's RAW file ends before its sensor data do, which are the largest part of it. Never raises.

    LibRaw decodes what is there and leaves the rest black (seen on a Sony ARW cut to a hundredth), and a preview in
    front looks whole. A lost thumbnail behind the sensor data does not count.
    """
    if image_format == "RAF":
        return sum(unpack(">6I", data, 84)[4:]) > len(data)
    if data[:2] in (b"II", b"MM"):
        parts = (_places(tags) for tags in tiff_directories(data, max_values=1 << 18))
        largest = max(parts, key=lambda places: sum(size for _, size in places), default=[])
        return any(offset + size > len(data) for offset, size in largest)
    return data[4:8] == b"ftyp" and _last_box_end(data) > len(data)


def _is_jpeg_cut_off(data: bytes) -> bool:
    return b"\xff\xd9" not in data[-64:]


def _is_webp_cut_off(data: bytes) -> bool:
    return len(data) < int.from_bytes(data[4:8], "little") + 8


def _is_ico_cut_off(data: bytes) -> bool:
    n = sum(unpack("<H", data, 4))
    return len(data) < 6 + n * _ICO_ENTRY_BYTES or any(offset + size > len(data) for offset, size in ico_entries(data))


def _is_psd_cut_off(data: bytes) -> bool:
    """Three sections that begin with their length, then the compression and the pixels, which have no length."""
    at = _PSD_HEADER_BYTES
    for layout in (">I", ">I", ">Q" if data[4:6] == b"\0\2" else ">I"):
        length = unpack(layout, data, at)
        if not length:
            return True
        at += length[0] + (8 if layout == ">Q" else 4)
    return at + 2 >= len(data)


def _is_raf_cut_off(data: bytes) -> bool:
    places = unpack(">6I", data, 84)  # offset and length of the preview, of the metadata of the sensor, of its data
    return not places or any(places[i] + places[i + 1] > len(data) for i in (0, 2, 4))


def _is_tiff_cut_off(data: bytes) -> bool:
    is_empty = True
    for tags in tiff_directories(data, max_values=1 << 18):
        is_empty = is_empty and not tags
        if any(offset + size > len(data) for offset, size in _places(tags)):
            return True
    return is_empty or _is_tiff_directory_cut_off(data)


def _places(tags: dict[int, tuple[int, ...]]) -> list[tuple[int, int]]:
    """Offset and length of each piece of the pixels of a directory."""
    extents = (zip(tags.get(o, ()), tags.get(n, ()), strict=False) for o, n in _TIFF_EXTENTS)
    return list(itertools.chain.from_iterable(extents))


def _is_tiff_directory_cut_off(data: bytes) -> bool:
    """Whether the first directory, which many writers put last, is not whole."""
    order, is_big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    at = sum(unpack(order + ("Q" if is_big else "I"), data, 8 if is_big else 4))
    n_entries = unpack(order + ("Q" if is_big else "H"), data, at)
    return not n_entries or at + (8 + 20 * n_entries[0] if is_big else 2 + 12 * n_entries[0]) > len(data)


def _last_box_end(data: bytes) -> int:
    at = 0
    while at < len(data):
        at = box(data, at)[1]
    return at


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _is_jpeg_cut_off,
    "MPO": _is_jpeg_cut_off,
    "PNG": lambda data: b"IEND" not in data[-64:],
    "GIF": lambda data: not data.rstrip(b"\0").endswith(b";"),
    "WEBP": _is_webp_cut_off,
    "BMP": lambda data: len(data) < int.from_bytes(data[2:6], "little"),
    "ICO": _is_ico_cut_off,
    "PSD": _is_psd_cut_off,
    "DDS": lambda data: len(data) < _DDS_HEADER_BYTES,
    "QOI": lambda data: len(data) < _QOI_HEADER_BYTES or not data.endswith(b"\0\0\0\0\0\0\0\1"),
    "RAF": _is_raf_cut_off,
}
