"""Files that are made to exhaust a decoder: sizes beyond any memory, bombs. Random damage is in `fuzzing`."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
from odd_bytes import DNG, encoded, ico_with, png, png_chunk, raw_file, tiff_tags
from odd_bytes import tiff as tiff_of
from odd_files import picture
from PIL import Image

HUGE = 100_000
_BOMB_BYTES = 1 << 29


def huge_claims() -> dict[str, bytes]:
    """Small files whose headers claim 100,000 x 100,000 pixels, or the most that their format allows."""
    image = Image.fromarray(picture())
    two_sides = struct.pack(">II", HUGE, HUGE)
    a_png = png(b"", (HUGE, HUGE), 8, 2)
    strip = (273, 279)
    dib = struct.pack("<IiiHHIIiiII", 40, HUGE, 2 * HUGE, 1, 32, 0, 0, 0, 0, 0, 0)
    files = {
        "png": a_png,
        "bmp": _patched(encoded(image, "BMP"), 18, struct.pack("<ii", HUGE, HUGE)),
        "tiff": tiff_of((tiff_tags(HUGE, HUGE, 2, 8, 3), bytes(100), strip)),
        "tiff deflate": tiff_of((tiff_tags(HUGE, HUGE, 2, 8, 3, 8), zlib.compress(bytes(100)), strip)),
        "tiff tile": tiff_of(
            (tiff_tags(96, 64, 2, 8, 3, 8) | {322: (4, [HUGE]), 323: (4, [HUGE])}, zlib.compress(bytes(9)), (324, 325))
        ),
        "gif": _patched(encoded(image.quantize(16), "GIF"), 6, b"\xff\xff\xff\xff"),
        "gif frame": _gif_with_huge_frame(image),
        "webp": _webp_canvas(image),
        "jpeg": _jpeg_claim(encoded(image, "JPEG")),
        "jpeg progressive": _jpeg_claim(encoded(image, "JPEG", progressive=True)),
        "ico png": ico_with(a_png),
        "ico bmp": ico_with(dib + bytes(64)),
        "jxl": _jxl_claim(),
        "psd": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, HUGE, HUGE, 8, 3) + bytes(64),
        "ppm": b"P6 100000 100000 255\n" + bytes(64),
        "qoi": b"qoif" + two_sides + b"\3\0" + bytes(64),
        "dds": _patched(encoded(image, "DDS"), 12, struct.pack("<II", HUGE, HUGE)),
        "dng": _huge_dng(),
    }
    for name, at in (("jp2", b"ihdr"), ("jp2 codestream", b"\xff\x4f\xff\x51")):
        data = encoded(image, "JPEG2000")
        files[name] = _patched(data, data.index(at) + (4 if at == b"ihdr" else 8), two_sides)
    for name in ("HEIF", "AVIF"):
        data = encoded(image, name)
        files[name.lower()] = _patched(data, data.index(b"ispe") + 8, two_sides)
    return files


def bombs() -> dict[str, bytes]:
    """Valid pictures, or nearly, with half a gigabyte of zeros that is deflated to half a megabyte."""
    zeros = _deflated_zeros()
    rows = b"".join(b"\0" + row.tobytes() for row in picture())
    size = (96, 64)
    blown = png_chunk(b"IDAT", zeros) + png_chunk(b"IEND", b"")
    deflated = (tiff_tags(96, 64, 2, 8, 3, 8), zeros, (273, 279))
    return {
        "png iccp": png(rows, size, 8, 2, [(b"iCCP", b"odd\0\0" + zeros)]),
        "png ztxt": png(rows, size, 8, 2, [(b"zTXt", b"odd\0\0" + zeros)]),
        "png itxt": png(rows, size, 8, 2, [(b"iTXt", b"odd\0\1\0\0\0" + zeros)]),
        "png idat": png(rows, size, 8, 2)[:33] + blown,
        "tiff strip": tiff_of(deflated),
    }


def _patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _jpeg_claim(data: bytes) -> bytes:
    frame = next(data.index(m) for m in (b"\xff\xc0\0\x11", b"\xff\xc2\0\x11") if m in data)
    return _patched(data, frame + 5, b"\xff\xff\xff\xff")


def _jxl_claim() -> bytes:
    """Not small, height in 30 bits, no named ratio, width in 30 bits, all else default; lowest bit first."""
    side = "11" + f"{HUGE - 1:030b}"[::-1]
    bits = "0" + side + "000" + side + "1"
    return b"\xff\x0a" + int(bits[::-1], 2).to_bytes(9, "little") + bytes(32)


def _gif_with_huge_frame(image: Image.Image) -> bytes:
    data = encoded(image.quantize(16), "GIF")
    return _patched(data, data.index(b",\0\0\0\0\x60\0\x40\0") + 5, b"\xff\xff\xff\xff")


def _webp_canvas(image: Image.Image) -> bytes:
    """An extended WebP whose canvas has nearly 2**32 pixels, which libwebp allows."""
    plain = encoded(image, "WEBP", lossless=True)[12:]
    canvas = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\0\0\0\0"
        + (HUGE - 1).to_bytes(3, "little")
        + (41_999).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(plain)) + b"WEBP" + canvas + plain


def _huge_dng() -> bytes:
    data = raw_file(picture(), (b"Test", b"Odd"), more=DNG)
    sides = struct.pack("<HHII", 256, 4, 1, 96) + struct.pack("<HHII", 257, 4, 1, 64)
    claim = struct.pack("<HHII", 256, 4, 1, 60_000) + struct.pack("<HHII", 257, 4, 1, 60_000)
    assert sides in data
    return data.replace(sides, claim)


@functools.cache
def _deflated_zeros() -> bytes:
    packer, out = zlib.compressobj(9), io.BytesIO()
    piece = np.zeros(1 << 24, np.uint8).tobytes()
    for _ in range(_BOMB_BYTES // len(piece)):
        out.write(packer.compress(piece))
    return out.getvalue() + packer.flush()
