"""BMP and PNM of every kind, GIF, WebP, JPEG 2000, and the formats of a few lines."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
from odd_bytes import encoded
from PIL import Image

from second_opinion import cases
from second_opinion.cases import Case, Values

_RGB, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3


def all_rasters() -> Iterator[Case]:
    yield from _bmps()
    yield from _run_length_bmps()
    yield from _pnms()
    yield from _gifs()
    yield from _webps()
    yield from _jpeg2000()


def _bmp(
    rows: Values, n_bits: int, header_bytes: int, table: bytes = b"", kind: int = _RGB, masks: tuple[int, ...] = (),
    *, is_top_down: bool = False,
) -> bytes:  # fmt: skip
    """`rows` are (h, bytes) uint8 from top to bottom, padded to four bytes; or one row of run lengths."""
    width, height = cases.SIZE
    stored = rows if is_top_down or kind in (_RLE8, _RLE4) else rows[::-1]
    if header_bytes == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, n_bits)
    else:
        colours = len(table) // 4
        head = struct.pack("<IiiHHIIiiII", header_bytes, width, -height if is_top_down else height, 1, n_bits, kind,
                           stored.size, 2835, 2835, colours, 0)  # fmt: skip
        inside = struct.pack(f"<{len(masks)}I", *masks)
        head += inside if header_bytes == 40 else inside.ljust(16, b"\0")[: header_bytes - 40]
        head = head if header_bytes < 108 else head.ljust(56, b"\0") + b"BGRs" + bytes(header_bytes - 60)
    at = 14 + len(head) + len(table)
    return b"BM" + struct.pack("<IHHI", at + stored.size, 0, 0, at) + head + table + stored.tobytes()


def _padded(rows: Values) -> Values:
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))


def _bmps() -> Iterator[Case]:
    rgb = cases.rgb()
    bgr = rgb[..., ::-1]
    for header_bytes, is_top_down in itertools.product((12, 40, 52, 56, 108, 124), (False, True)):
        if header_bytes == 12 and is_top_down:
            continue
        rows = _padded(np.ascontiguousarray(bgr).reshape(len(rgb), -1))
        name = f"bmp 24, header of {header_bytes}{', from the top' * is_top_down}"
        yield Case(name, _bmp(rows, 24, header_bytes, is_top_down=is_top_down), rgb)
        for n_bits in (1, 4, 8):
            data, shown = _paletted_bmp(n_bits, header_bytes, is_top_down)
            yield Case(f"bmp palette {n_bits}, header of {header_bytes}{', from the top' * is_top_down}", data, shown)
    yield from _bitfields()


def _paletted_bmp(n_bits: int, header_bytes: int, is_top_down: bool) -> tuple[bytes, Values]:
    indices, table = cases.paletted(n_bits)
    shifts = np.arange(n_bits - 1, -1, -1)
    bits = (indices.reshape(len(indices), -1, 1) >> shifts) & 1
    rows = _padded(np.packbits(bits.astype(np.uint8).reshape(len(indices), -1), axis=1))
    extra = 0 if header_bytes == 12 else 1
    stored = np.pad(table[:, ::-1], ((0, 0), (0, extra))).astype(np.uint8).tobytes()
    return _bmp(rows, n_bits, header_bytes, stored, is_top_down=is_top_down), table[indices[..., 0]]


def _bitfields() -> Iterator[Case]:
    rgb, alpha = cases.rgb().astype(np.uint32), cases.alpha().astype(np.uint32)
    five, six = rgb >> 3, rgb[..., 1] >> 2
    of_555 = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    of_565 = (five[..., 0] << 11 | six << 5 | five[..., 2]).astype("<u2")
    shown_5 = (five * 255 / 31).round().astype(np.uint8)
    shown_6 = np.dstack([shown_5[..., 0], (six * 255 / 63).round().astype(np.uint8), shown_5[..., 2]])
    as_rows: Any = lambda values: _padded(values.view(np.uint8).reshape(len(values), -1))  # noqa: E731
    yield Case("bmp 16, 555", _bmp(as_rows(of_555), 16, 40), shown_5)
    yield Case("bmp 16, 565", _bmp(as_rows(of_565), 16, 40, kind=_BITFIELDS, masks=(0xF800, 0x7E0, 0x1F)), shown_6)
    bgra = np.ascontiguousarray(np.dstack([cases.rgb()[..., ::-1], cases.alpha()])).reshape(len(rgb), -1)
    blank = np.ascontiguousarray(np.dstack([cases.rgb()[..., ::-1], 0 * cases.alpha()])).reshape(len(rgb), -1)
    yield Case("bmp 32", _bmp(blank, 32, 40), cases.rgb())
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    clear = np.dstack([cases.rgb(), cases.alpha()])
    for header_bytes in (56, 108, 124):
        data = _bmp(bgra, 32, header_bytes, kind=_BITFIELDS, masks=masks)
        yield Case(f"bmp 32 with alpha, header of {header_bytes}", data, clear)
    swapped = (rgb[..., 2] << 24 | rgb[..., 1] << 16 | rgb[..., 0] << 8).astype("<u4")
    data = _bmp(as_rows(swapped), 32, 40, kind=_BITFIELDS, masks=(0xFF00, 0xFF0000, 0xFF000000))
    yield Case("bmp 32, bytes in another order", data, cases.rgb())
    assert alpha.min() > 0


def _run_length_bmps() -> Iterator[Case]:
    for n_bits, kind in ((8, _RLE8), (4, _RLE4)):
        indices, table = cases.paletted(n_bits)
        rows = indices[::-1, :, 0]
        coded = b"".join(_runs(row, n_bits) + b"\0\0" for row in rows) + b"\0\1"
        stored = np.frombuffer(coded, np.uint8)[None]
        data = _bmp(stored, n_bits, 40, np.pad(table[:, ::-1], ((0, 0), (0, 1))).tobytes(), kind)
        yield Case(f"bmp run lengths of {n_bits}", data, table[indices[..., 0]])


def _runs(row: Values, n_bits: int) -> bytes:
    out = bytearray()
    for value, group in itertools.groupby(row.tolist()):
        n = len(list(group))
        out += bytes([n, value if n_bits == 8 else value * 17])
    return bytes(out)


def _pnms() -> Iterator[Case]:
    grey, rgb = cases.grey(), cases.rgb()
    width, height = cases.SIZE
    bits = (grey < 128).astype(np.uint8)[..., 0]
    line = np.where(bits, 0, 255).astype(np.uint8)[..., None]
    text: Any = lambda values: "\n".join(" ".join(map(str, row)) for row in values.reshape(height, -1))  # noqa: E731
    yield Case("pnm P1", f"P1\n# a comment\n{width} {height}\n{text(bits)}\n".encode(), line)
    yield Case("pnm P4", f"P4 {width} {height}\n".encode() + np.packbits(bits, axis=1).tobytes(), line)
    for name, values, shown, (plain, raw) in (("grey", grey, grey, "25"), ("rgb", rgb, rgb, "36")):
        for most in (255, 100, 1023, 65535):
            scaled = np.round(values / 255.0 * most).astype(np.uint16)
            deep = scaled if name == "grey" and most > 255 else np.round(scaled / most * 255).astype(np.uint8)
            stored = scaled.astype(">u2" if most > 255 else np.uint8).tobytes()
            yield Case(
                f"pnm P{plain} up to {most}", f"P{plain} {width} {height} {most}\n{text(scaled)}\n".encode(), deep
            )
            yield Case(f"pnm P{raw} up to {most}", f"P{raw} {width} {height} {most}\n".encode() + stored, deep)
        assert shown is values
    for order, scale in (("<", -1.0), (">", 1.0)):
        real = np.ascontiguousarray(grey[::-1, :, 0] / 255.0).astype(order + "f4")
        data = f"Pf\n{width} {height}\n{scale}\n".encode() + real.tobytes()
        yield Case(f"pnm Pf {'little' if order == '<' else 'big'}", data, (grey / 255).astype(np.float32))


def _gifs() -> Iterator[Case]:
    indices, table = cases.paletted(6)
    image = Image.fromarray(cases.rgb()).quantize(64)
    shown = table[indices[..., 0]]
    other = Image.fromarray(cases.rgb()[::-1]).quantize(64)
    for is_interlaced in (0, 1):
        yield Case(f"gif{', interlaced' * is_interlaced}", encoded(image, "GIF", interlace=is_interlaced), shown)
    key = int(indices[2, 2, 0])
    clear = np.dstack([shown, np.where(indices == key, 0, 255).astype(np.uint8)])
    yield Case("gif, transparent", encoded(image, "GIF", transparency=key), clear)
    for disposal in (1, 2, 3):
        film = encoded(image, "GIF", save_all=True, append_images=[other, image], disposal=disposal, duration=80)
        yield Case(f"gif of three frames, disposal {disposal}", film, shown, 3)
    local = encoded(Image.fromarray(cases.rgb()), "GIF", save_all=True, append_images=[other], include_color_table=True)
    yield Case("gif of two frames, own tables", local, None, 2)


def _webps() -> Iterator[Case]:
    rgb, image = cases.rgb(), Image.fromarray(cases.rgb())
    clear = np.dstack([rgb, cases.alpha()])
    see_through, other = Image.fromarray(clear), Image.fromarray(rgb[::-1])
    yield Case("webp", encoded(image, "WEBP", quality=95), rgb, like=16)
    yield Case("webp, lossless", encoded(image, "WEBP", lossless=True), rgb)
    yield Case("webp with alpha", encoded(see_through, "WEBP", quality=95), clear, like=16)
    yield Case("webp with alpha, lossless", encoded(see_through, "WEBP", lossless=True), clear)
    film = encoded(image, "WEBP", lossless=True, save_all=True, append_images=[other, image], duration=90)
    yield Case("webp of three frames", film, rgb, 3)


def _jpeg2000() -> Iterator[Case]:
    rgb, grey = cases.rgb(), cases.grey()
    for kind in ("jp2", "j2k"):
        how: dict[str, Any] = {"codecformat": kind, "reversible": True}
        yield Case(f"{kind} rgb", imagecodecs.jpeg2k_encode(rgb, **how), rgb)
        yield Case(f"{kind} rgb, lossy", imagecodecs.jpeg2k_encode(rgb, 40, codecformat=kind), rgb, like=8)
        yield Case(f"{kind} rgb, no colour transform", imagecodecs.jpeg2k_encode(rgb, mct=False, **how), rgb)
        tiled = encoded(Image.fromarray(rgb), "JPEG2000", tile_size=(32, 32), no_jp2=kind == "j2k")
        yield Case(f"{kind} rgb, tiles", tiled, rgb)
        yield Case(f"{kind} grey", imagecodecs.jpeg2k_encode(grey[..., 0].copy(), **how), grey)
        for n_bits in (10, 12, 16):
            deep = cases.quantised(grey, n_bits)
            data = imagecodecs.jpeg2k_encode(deep[..., 0].copy(), bitspersample=n_bits, **how)
            yield Case(f"{kind} grey {n_bits}", data, deep)
            deep_rgb = cases.quantised(rgb, n_bits)
            data = imagecodecs.jpeg2k_encode(deep_rgb, bitspersample=n_bits, **how)
            yield Case(f"{kind} rgb {n_bits}", data, rgb, n_bits=n_bits)
            deep_rgba = cases.quantised(np.dstack([rgb, cases.alpha()]), n_bits)
            data = imagecodecs.jpeg2k_encode(deep_rgba, bitspersample=n_bits, **how)
            yield Case(f"{kind} rgba {n_bits}", data, np.dstack([rgb, cases.alpha()]), n_bits=n_bits)
    clear = np.dstack([rgb, cases.alpha()])
    yield Case("jp2 rgba", encoded(Image.fromarray(clear), "JPEG2000"), clear)
