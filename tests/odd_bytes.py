"""Writes image files byte by byte: variants that no installed library writes, and files with false headers."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

Tags = dict[int, tuple[int, bytes | Sequence[int]]]
"""TIFF tag -> (type, values)."""

Part = tuple[Tags, bytes, tuple[int, int]]
"""A TIFF directory, its data and the two tags that hold the offset and length of the data."""

_TIFF_LAYOUT = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 10: "i"}
STRIPS, JPEG_STREAM = (273, 279), (513, 514)


def png(
    rows: bytes, size: tuple[int, int], bits: int, colour_type: int, chunks: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """A PNG of any legal kind from its unfiltered rows, each with its filter byte 0 in front."""
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in parts)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_rows(values: np.ndarray) -> bytes:
    """Rows of whole bytes (h, w) or (h, w, channels), 16-bit ones in PNG's byte order."""
    values = values.astype(values.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in values)


def tiff(main: Part, *subs: Part, head: bytes = b"II*\0\0\0\0\0") -> bytes:
    """A TIFF of one directory with subdirectories, in the byte order of its head."""
    out, places, order = bytearray(head), [], ">" if head[:2] == b"MM" else "<"
    for tags, data, (offset_tag, count_tag) in [*subs, main]:
        tags = {**tags, offset_tag: (4, [len(out)]), count_tag: (4, [len(data)])}
        if len(places) == len(subs) and subs:
            tags[330] = (4, places)
        out += data + b"\0" * (len(data) % 2)
        places.append(len(out))
        out += _directory(tags, len(out), order)
    out[4:8] = struct.pack(order + "I", places[-1])
    return bytes(out)


def _directory(tags: Tags, at: int, order: str = "<") -> bytes:
    entries, far = b"", b""
    far_at = at + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        is_text = isinstance(values, bytes)
        raw = values if is_text else struct.pack(f"{order}{len(values)}{_TIFF_LAYOUT[kind]}", *values)
        count = len(raw) // {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}[kind]
        if len(raw) > 4:
            place, far = struct.pack(order + "I", far_at + len(far)), far + raw + b"\0" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, count) + place
    return struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0" + far


def tiff_tags(width: int, height: int, photometric: int, bits: int, samples: int, compression: int = 1) -> Tags:
    return {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [compression]),
        262: (3, [photometric]), 277: (3, [samples]), 278: (4, [height]),
    }  # fmt: skip


def cfa(rgb: np.ndarray) -> bytes:
    """The values of a sensor with an RGGB pattern for (h, w, 3) uint8, 16-bit linear."""
    light = ((rgb.astype(np.float64) / 255) ** 2.2 * 60000).astype("<u2")
    seen = light[..., 1].copy()
    seen[0::2, 0::2], seen[1::2, 1::2] = light[0::2, 0::2, 0], light[1::2, 1::2, 2]
    return seen.tobytes()


def raw_file(
    rgb: np.ndarray,
    camera: tuple[bytes, bytes],
    preview: bytes | None = None,
    *,
    orientation: int = 1,
    more: Tags | None = None,
    head: bytes = b"II*\0\0\0\0\0",
) -> bytes:
    """Camera RAW as most cameras lay it out: a thumbnail first; sensor data and a preview in subdirectories."""
    h, w, _ = rgb.shape
    small = np.asarray(Image.fromarray(rgb).resize((w // 5, h // 5)))
    named: Tags = {254: (4, [1]), 271: (2, camera[0] + b"\0"), 272: (2, camera[1] + b"\0"), 274: (3, [orientation])}
    thumbnail = (named | tiff_tags(w // 5, h // 5, 2, 8, 3) | (more or {}), small.tobytes(), STRIPS)
    pattern: Tags = {33421: (3, [2, 2]), 33422: (1, [0, 1, 1, 2]), 254: (4, [0])}
    sensor = (tiff_tags(w, h, 32803, 16, 1) | pattern, cfa(rgb), STRIPS)
    if preview is None:
        return tiff(thumbnail, sensor, head=head)
    return tiff(thumbnail, sensor, ({254: (4, [1]), 259: (3, [6])}, preview, JPEG_STREAM), head=head)


def raf_file(rgb: np.ndarray, preview: bytes) -> bytes:
    """Fujifilm's own container: a header with the places of a JPEG, of the sensor's facts and of its data."""
    h, w, _ = rgb.shape
    facts = struct.pack(">I", 2) + struct.pack(">HHHH", 0x100, 4, h, w) + struct.pack(">HHHH", 0x121, 4, h, w)
    sensor = cfa(rgb)
    facts_at = 160 + len(preview)
    places = (160, len(preview), facts_at, len(facts), facts_at + len(facts), len(sensor))
    head = b"FUJIFILMCCD-RAW 0201FF383501X-T1".ljust(84, b"\0") + struct.pack(">6I", *places)
    return head.ljust(160, b"\0") + preview + facts + sensor


_MATRIX = [31338, 10000, -16168, 10000, -4906, 10000, -9787, 10000, 19161, 10000, 334, 10000, 719, 10000,
           -2289, 10000, 14052, 10000]  # fmt: skip
DNG: Tags = {
    50706: (1, [1, 4, 0, 0]), 50707: (1, [1, 1, 0, 0]), 50708: (2, b"Odd Camera\0"), 50721: (10, _MATRIX),
    50778: (3, [21]), 50728: (5, [1, 1] * 3),
}  # fmt: skip
"""The tags of a DNG's first directory: versions, camera, colour matrix, illuminant, neutral."""


def psd(rgb: np.ndarray) -> bytes:
    """A flat Photoshop file of (h, w, 3) uint8."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, rgb.shape[0], rgb.shape[1], 8, 3)
    return header + bytes(12) + b"\0\0" + rgb.transpose(2, 0, 1).tobytes()


def ico_with(picture: bytes) -> bytes:
    """An icon of one picture, a PNG or a DIB, which need not be valid."""
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(picture), 22) + picture


def turned_jxl(data: bytes, orientation: int) -> bytes:
    """A bare JPEG XL codestream of 8-bit sRGB with another orientation in its header, which is bits, lowest first."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in data[2:16])
    at = 9 if bits[6:9] != "000" else 14  # a small size with or without a named aspect ratio
    assert bits[0] == "1", "sides must be multiples of 8 up to 256"
    assert bits[at : at + 2] == "00", "all_default, extra_fields"
    assert bits[at + 9 : at + 13] == "1001", "colours all_default, no extensions, transform all_default"
    extra = "1" + f"{orientation - 1:03b}"[::-1] + "000"  # no intrinsic size, preview or animation
    header = bits[: at + 1] + extra + bits[at + 2 : at + 10] + "1" + bits[at + 10 : at + 13]  # 1: tones all_default
    header += "0" * (-len(header) % 8)
    n_replaced = -(-(at + 13) // 8)
    turned = bytes(int(header[i : i + 8][::-1], 2) for i in range(0, len(header), 8))
    return data[:2] + turned + data[2 + n_replaced :]


def icc_profile(space: str) -> bytes:
    """A small colour profile that is plainly not sRGB: RGB with red and blue exchanged, linear grey, or CMYK."""
    xyz = {"r": (0.1431, 0.0606, 0.7141), "g": (0.3851, 0.7169, 0.0971), "b": (0.4361, 0.2225, 0.0139)}
    tags = {
        b"desc": _described(b"odd " + space.encode()),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(0.9642, 1, 0.8249),
    }
    if space == "RGB":
        tags |= {f"{c}XYZ".encode(): _xyz(*v) for c, v in xyz.items()}
        tags |= {f"{c}TRC".encode(): _gamma(2.2) for c in "rgb"}
    elif space == "GRAY":
        tags[b"kTRC"] = _gamma(1.0)
    else:
        tags[b"A2B0"] = _cmyk_table()
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", name, at + len(body), len(content))
        body += content
    pcs, kind = ("Lab ", "prtr") if space == "CMYK" else ("XYZ ", "mntr")
    header = struct.pack(
        ">I4sI4s4s4s6H4s4s12s8sI3i48s", at + len(body), b"", 0x02400000, kind.encode(), f"{space:4}".encode(),
        pcs.encode(), 2024, 1, 1, 0, 0, 0, b"acsp", b"", b"", b"", 0, 63190, 65536, 54061, b"",
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _described(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78)


def _cmyk_table() -> bytes:
    """lut8 of two grid points per ink: black ink darkens, cyan ink is violet, the others do nothing."""
    ramp = bytes(range(256))
    lab = bytearray()
    for cyan in (0, 1):
        for _magenta_yellow in range(4):
            for black in (0, 1):
                lightness = 0 if black else (40 if cyan else 100)
                lab += bytes([round(lightness * 2.55), 128 + 60 * cyan * (1 - black), 128 - 60 * cyan * (1 - black)])
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    return b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(lab) + ramp * 3


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)  # type: ignore[arg-type]
    return out.getvalue()
