"""Small files that take much memory or time to read: a bomb of each format, most of them sound pictures.

Some are written byte by byte, because a library would need the memory itself. `hostile_files` has false claims.
"""

from __future__ import annotations

import functools
import itertools
import struct
import zlib
from collections.abc import Callable

import hostile_files
import numpy as np
from odd_bytes import encoded, ico_with, png_chunk, tiff, tiff_tags
from PIL import Image

STRIP = (273, 279)


@functools.cache
def canvases() -> dict[str, bytes]:
    """Pictures of one colour in few bytes: those of 20,000 x 19,999 are just below the limit on pixels."""
    return {
        "one bit.png": png_of_zeros(20_000, 19_999, 1, 0),
        "grey.png": png_of_zeros(15_000, 15_000, 8, 0),
        "colours.png": png_of_zeros(12_000, 12_000, 8, 2),
        "alpha.png": png_of_zeros(9_000, 9_000, 8, 6),
        "deep.png": png_of_zeros(6_000, 6_000, 16, 2),
        "palette.png": png_of_zeros(15_000, 12_000, 8, 3),
        "lossless.webp": flat_webp(16_383, 16_383),
        "small lossless.webp": flat_webp(8_000, 8_000),
        "deflate.tif": tiff_of_zeros(12_000, 12_000, 2, 8, 3),
        "deep.tif": tiff_of_zeros(6_000, 6_000, 2, 16, 3),
        "bands.tif": tiff_of_zeros(2_000, 2_000, 1, 16, 40),
        "floats.tif": tiff_of_zeros(8_000, 8_000, 1, 32, 1, {339: (3, [3])}),
        "fax.tif": encoded(Image.new("1", (16_000, 16_000), 1), "TIFF", compression="group4"),
        "photoshop.psd": _psd(9_000, 9_000),
        "runs.bmp": _bmp(16_000, 12_000),
        "runs.tga": _tga(9_000, 9_000),
        "colours.gif": encoded(Image.new("P", (9_000, 9_000)), "GIF"),
        "grey.jpg": encoded(Image.new("L", (9_000, 9_000), 90), "JPEG"),
        "progressive.jpg": encoded(Image.new("RGB", (6_000, 6_000), (9, 99, 199)), "JPEG", progressive=True),
        "ink.jpg": encoded(Image.new("CMYK", (5_000, 5_000)), "JPEG"),
        "flat.avif": encoded(Image.new("RGB", (4_096, 3_072), (9, 99, 199)), "AVIF", speed=10),
        "flat.heic": encoded(Image.new("RGB", (4_096, 3_072), (9, 99, 199)), "HEIF", quality=10),
        "flat.jxl": encoded(Image.new("RGB", (5_000, 5_000), (9, 99, 199)), "JXL", effort=1, lossless=True),
        "flat.jp2": encoded(Image.new("RGB", (4_096, 3_072), (9, 99, 199)), "JPEG2000"),
        "within.ico": ico_with(png_of_zeros(10_000, 10_000, 8, 6)),
    }


@functools.cache
def films() -> dict[str, bytes]:
    """Files of very many frames, pages or layers, each of them small."""
    return {
        "pages.tif": tiff_pages(300_000),
        "pages without end.tif": _in_circles(tiff_pages(2)),
        "frames.gif": gif_frames(200_000),
        "frames.png": png_frames(50_000),
        "frames.webp": webp_frames(50_000),
        "layers.psd": _psd(64, 64, n_layers=8_000),
        "entries.ico": _ico_entries(20_000),
    }


def metadata() -> dict[str, bytes]:
    """Sound pictures with profiles, texts and palettes that are, or unpack to, many megabytes."""
    plain = encoded(Image.linear_gradient("L").convert("RGB"), "JPEG")
    profile = b"".join(_segment(0xE2, b"ICC_PROFILE\0" + bytes([i + 1, 255]) + bytes(65_000)) for i in range(255))
    texts = b"".join(_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(65_000)) for _ in range(400))
    comments = b"".join(_segment(0xFE, bytes(65_000)) for _ in range(200))
    return hostile_files.bombs() | {
        "profile.jpg": plain[:2] + profile + plain[2:],
        "xmp.jpg": plain[:2] + texts + plain[2:],
        "comments.jpg": plain[:2] + comments + plain[2:],
        "profile.webp": encoded(Image.new("RGB", (64, 64)), "WEBP", icc_profile=bytes(12 << 20)),
        "exif.webp": encoded(Image.new("RGB", (64, 64)), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0" + bytes(12 << 20)),
        "many texts.png": _png_of_texts(3_000),
    }


def all_bombs() -> dict[str, bytes]:
    """By file name, with claims of sizes beyond all limits."""
    claims = {f"claim of {name}": data for name, data in hostile_files.huge_claims().items()}
    return canvases() | films() | metadata() | claims


def tiff_pages(n: int) -> bytes:
    """A TIFF with a chain of so many directories, which share one strip of 64 x 64 grey pixels."""
    entries = [
        (256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 64),
        (279, 4, 4096),
    ]  # fmt: skip
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    first, size = 8 + 4096, len(body) + 4
    links = (first + (i + 1) * size if i + 1 < n else 0 for i in range(n))
    return struct.pack("<2sHI", b"II", 42, first) + bytes(range(256)) * 16 + b"".join(
        body + struct.pack("<I", link) for link in links
    )  # fmt: skip


def gif_frames(n: int) -> bytes:
    """A GIF of so many frames of 64 x 64, each one colour (of two, in turn), whose canvas is that large."""
    shades = [encoded(Image.new("P", (64, 64), i), "GIF") for i in (0, 1)]
    frames = [data[data.index(b",\0\0\0\0") : -1] for data in shades]
    head = shades[0][: shades[0].index(b",\0\0\0\0")]
    return head + b"".join(itertools.islice(itertools.cycle(frames), n)) + b";"


def png_frames(n: int) -> bytes:
    rows = zlib.compress(bytes(65 * 64))
    parts = [
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)),
        png_chunk(b"acTL", struct.pack(">II", n, 0)),
    ]
    number = itertools.count()
    for i in range(n):
        parts.append(png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", next(number), 64, 64, 0, 0, 1, 25, 0, 0)))
        parts.append(png_chunk(b"fdAT", struct.pack(">I", next(number)) + rows) if i else png_chunk(b"IDAT", rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def webp_frames(n: int) -> bytes:
    still = flat_webp(64, 64)[12:]
    side = (63).to_bytes(3, "little")
    frame = bytes(6) + side + side + (40).to_bytes(3, "little") + b"\0" + still
    head = b"VP8X" + struct.pack("<II", 10, 2) + side + side + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    body = head + (b"ANMF" + struct.pack("<I", len(frame)) + frame) * n
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def png_of_zeros(width: int, height: int, bits: int, colour_type: int) -> bytes:
    """Zeros, packed row by row, so that no more than a megabyte of them is held."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    row = b"\0" + bytes(-(-width * bits * samples // 8))
    palette = [(b"PLTE", bytes(range(256)) * 3)] if colour_type == 3 else []
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *palette, (b"IDAT", _packed(row, height)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in parts)


def _packed(piece: bytes, n: int) -> bytes:
    """So many copies of a piece, deflated."""
    packer, together = zlib.compressobj(1), max(1, (1 << 20) // len(piece))
    out = [packer.compress(piece * min(together, n - i)) for i in range(0, n, together)]
    return b"".join(out) + packer.flush()


def _png_of_texts(n: int) -> bytes:
    whole = encoded(Image.new("L", (64, 64)), "PNG")
    text = png_chunk(b"zTXt", b"odd\0\0" + zlib.compress(bytes(1 << 20), 9))
    return whole[:33] + text * n + whole[33:]


def flat_webp(width: int, height: int) -> bytes:
    """A lossless WebP whose five prefix codes have one symbol each, so that a pixel takes no bit at all."""
    bits = (width - 1) | (height - 1) << 14  # then no alpha, version 0
    code = 0b0001  # a simple code, of one symbol, of one bit, which is 0; lowest bit first
    for i in range(5):  # behind bits for no transform, no cache of colours, no other codes
        bits |= code << (32 + 3 + 4 * i)
    stream = b"\x2f" + bits.to_bytes(8, "little") + bytes(1)
    chunk = b"VP8L" + struct.pack("<I", len(stream)) + stream + bytes(len(stream) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def tiff_of_zeros(
    width: int,
    height: int,
    photometric: int,
    bits: int,
    samples: int,
    more: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    """One strip of zeros, deflated."""
    tags = tiff_tags(width, height, photometric, bits, samples, 8) | (more or {})
    return tiff((tags, _packed(bytes(width * bits * samples // 8), height), STRIP))


def _psd(width: int, height: int, n_layers: int = 0) -> bytes:
    """One colour in runs, below empty layers."""
    row = b"\x81\x50" * (width // 128) + (struct.pack(">bB", 1 - width % 128, 0x50) if width % 128 else b"")
    layer = struct.pack(">4iH", 0, 0, 0, 0, 0) + b"8BIMnorm" + b"\xff\0\0\0" + struct.pack(">I", 12) + bytes(12)
    layers = struct.pack(">h", n_layers) + layer * n_layers if n_layers else b""
    info = struct.pack(">I", len(layers)) + layers if layers else b""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3) + bytes(8)
    lengths = struct.pack(">H", len(row)) * (3 * height)
    return head + struct.pack(">I", len(info)) + info + b"\0\1" + lengths + row * (3 * height)


def _bmp(width: int, height: int) -> bytes:
    row = b"\xff\0" * (width // 255) + bytes([width % 255, 0]) + b"\0\0"
    body = row * height + b"\0\1"
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 2835, 2835, 256, 0)
    at = 14 + len(info) + 1024
    return b"BM" + struct.pack("<IHHI", at + len(body), 0, 0, at) + info + bytes(1024) + body


def _tga(width: int, height: int) -> bytes:
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, width, height, 24, 0x20)
    return head + b"\xff\x10\x20\x30" * (width * height // 128 + 1) + bytes(8) + b"TRUEVISION-XFILE.\0"


def _ico_entries(n: int) -> bytes:
    picture = encoded(Image.new("RGBA", (32, 32), (9, 99, 199, 255)), "PNG")
    entry = struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(picture), 6 + 16 * n)
    return b"\0\0\1\0" + struct.pack("<H", n) + entry * n + picture


def _in_circles(data: bytes) -> bytes:
    """Whose last directory says that the first one comes next."""
    return data[:-4] + data[4:8]


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def as_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def sound(n: int) -> dict[str, bytes]:
    """Ordinary pictures, of three formats in turn."""
    save: list[Callable[[Image.Image], bytes]] = [
        lambda image: encoded(image, "JPEG"), lambda image: encoded(image, "PNG"), lambda image: encoded(image, "WEBP")
    ]  # fmt: skip
    small = np.random.default_rng(7).integers(0, 256, (n, 6, 8, 3), np.uint8)
    pictures = (Image.fromarray(one).resize((320, 240), Image.Resampling.BICUBIC) for one in small)
    return {f"sound {i:04d}": save[i % len(save)](picture) for i, picture in enumerate(pictures)}
