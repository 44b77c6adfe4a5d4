"""Whether a part of a picture is lost in a file that decoders nevertheless read: they fill what is missing with grey.

A decoder of JPEG takes an early end for the end, and zeros in place of a lost sector for coded data. It only warns, and
Pillow drops its warnings, so the signs are looked for here: scans or restart intervals that are missing, markers
where none can be, long runs of zeros, grey after coded data that are not grey. What these signs do not tell, such as
other bytes in a file that stores plain pixels, is no damage here.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding.headers import box
from dedup_spark.kernels.decoding.images import DecodedImage
from dedup_spark.kernels.decoding.jpeg_structure import JpegStructure, Scan

_LOST_BYTES = 512
"""Zeros in a row: one sector of a disk. Compressed data have no such run, but for the cases named below."""
_LOST_JPEG_BYTES = 64
"""In a baseline JPEG, whose zeros are counted against its codes."""
_STRIP_PX, _GREY = 8, 128
_MAX_PERIOD_BYTES = 48
_MAX_PARTS = 100
"""Of a file in boxes or chunks, so that a hostile one takes no longer."""
_LAST_STORED = {1: (1, 1), 2: (0, 1), 3: (0, 0), 4: (1, 0), 5: (1, 1), 6: (0, 1), 7: (0, 0), 8: (1, 0)}
"""Which corner of the upright picture (0 left or top, 1 right or bottom) was stored last, by EXIF orientation."""


def has_lost_data(data: bytes, image: DecodedImage, jpeg: JpegStructure | None) -> bool:
    """Whether a part of the picture is missing from the file.

    Args:
        data: the whole file.
        image: as decoded from it.
        jpeg: its structure, where it is a JPEG file.
    """
    if jpeg is not None:
        return _is_jpeg_incomplete(jpeg, data) or _ends_in_filling(jpeg, data, image)
    if image.format == "WEBP":
        return bytes(_LOST_BYTES) in _webp_stream(data)
    return image.format == "AVIF" and bytes(_LOST_BYTES) in _largest_box(data, b"mdat")


def _is_jpeg_incomplete(jpeg: JpegStructure, data: bytes) -> bool:
    if not jpeg.scans or not jpeg.components:
        return False
    missing = _lacks_components(jpeg)
    if jpeg.is_progressive:
        missing = _lacks_coefficients(jpeg) or _is_filled_up(jpeg, data)
    broken = jpeg.marker_inside is not None
    return missing or broken or _lacks_restarts(jpeg, data) or any(_is_zeroed(jpeg, s, data) for s in jpeg.scans)


def _lacks_coefficients(jpeg: JpegStructure) -> bool:
    """Whether some bits of some coefficients never came: encoders send all of them (ITU T.81, annex G)."""
    reached = {c.number: np.full(64, 99) for c in jpeg.components}
    for scan in jpeg.scans:
        first, last = scan.spectrum
        for number in scan.components:
            if number in reached:
                reached[number][first : last + 1] = scan.bits[1]
    return any(bits.any() for bits in reached.values())


def _is_filled_up(jpeg: JpegStructure, data: bytes) -> bool:
    """Whether zeros stand in place of lost data behind an early end. Cameras fill files up to whole sectors, too."""
    rest = data[jpeg.scans[-1].data[1] + 2 :]
    return len(rest) >= _LOST_BYTES and len(data) % _LOST_BYTES != 0 and not rest.strip(b"\0")


def _lacks_components(jpeg: JpegStructure) -> bool:
    return not {c.number for c in jpeg.components} <= {number for scan in jpeg.scans for number in scan.components}


def _lacks_restarts(jpeg: JpegStructure, data: bytes) -> bool:
    """Whether the only scan of a baseline file has fewer restart markers than its size asks for."""
    scan = jpeg.scans[0]
    if not jpeg.restart_interval or jpeg.is_progressive or len(scan.components) < len(jpeg.components):
        return False
    coded = np.frombuffer(data, np.uint8, scan.data[1] - scan.data[0], scan.data[0])
    n_found = np.count_nonzero((coded[:-1] == 0xFF) & (coded[1:] >> 3 == 0xD0 >> 3))
    return int(n_found) < -(-_n_units(jpeg) // jpeg.restart_interval) - 1


def _n_units(jpeg: JpegStructure) -> int:
    """Blocks of all components that are coded together (MCUs); of a single component its 8 x 8 blocks."""
    several = len(jpeg.components) > 1
    wide = max(c.horizontal for c in jpeg.components) if several else 1
    high = max(c.vertical for c in jpeg.components) if several else 1
    return -(-jpeg.width // (8 * max(wide, 1))) * -(-jpeg.height // (8 * max(high, 1)))


def _is_zeroed(jpeg: JpegStructure, scan: Scan, data: bytes) -> bool:
    """Whether a scan has zeros that its codes do not explain.

    Plain areas are zeros where a file has its own Huffman tables in which a single 0 says "as before" and "end of
    block". A pass that refines what came before holds bare bits, so zeros mean nothing there.
    """
    if scan.bits[0] or {(0, 0), (1, 0)} <= jpeg.all_zero_codes:
        return False
    if jpeg.is_progressive and scan.spectrum[0] == 0 and (0, 0) in jpeg.all_zero_codes:
        return False
    run = bytes(_LOST_BYTES if jpeg.is_progressive else _LOST_JPEG_BYTES)
    return data.find(run, *scan.data) >= 0


def _ends_in_filling(jpeg: JpegStructure, data: bytes, image: DecodedImage) -> bool:
    """Whether a baseline file's last rows are the grey of missing data, though its last coded bytes are not plain.

    Blocks of one colour are coded by the same few bits again and again.
    """
    if jpeg.is_progressive or len(jpeg.scans) != 1 or not _is_grey(_last_strip(image)):
        return False
    start, end = jpeg.scans[0].data
    n_bytes = max(8, round(0.09 * jpeg.width))  # six blocks of 16 px need two bits each at least
    tail = np.frombuffer(data[max(start, end - 2 - n_bytes) : end - 2], np.uint8)  # the last bits fill a byte
    periods = range(1, min(_MAX_PERIOD_BYTES, len(tail) // 2) + 1)
    return not any(np.array_equal(tail[p:], tail[:-p]) for p in periods)


def _last_strip(image: DecodedImage) -> Image.Image:
    """The rows (columns, where the file is stored on its side) of pixels that were stored last."""
    width, height = image.pixels.size
    strip_px = max(1, _STRIP_PX // image.reduction)
    right, bottom = _LAST_STORED[image.exif_orientation]
    if image.exif_orientation < 5:
        top = max(0, height - strip_px) if bottom else 0
        return image.pixels.crop((0, top, width, min(height, top + strip_px)))
    left = max(0, width - strip_px) if right else 0
    return image.pixels.crop((left, 0, min(width, left + strip_px), height))


def _is_grey(strip: Image.Image) -> bool:
    extremes = strip.convert("RGB").getextrema()
    return all(extreme == (_GREY, _GREY) for extreme in extremes)


def _webp_stream(data: bytes) -> bytes:
    """The coded picture of a WebP file of one frame."""
    at = 12
    for _ in range(_MAX_PARTS):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"VP8 ", b"VP8L"):
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return b""


def _largest_box(data: bytes, kind: bytes) -> bytes:
    """The content of the largest outermost box of this kind."""
    at, found = 0, (0, 0)
    for _ in range(_MAX_PARTS):
        content, end = box(data, at)
        if data[at + 4 : at + 8] == kind and end - content > found[1] - found[0]:
            found = content, end
        at = end
    return data[found[0] : found[1]]
