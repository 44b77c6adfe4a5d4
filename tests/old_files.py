"""Makes a file of every old format that Pillow's plugins read, by hand where Pillow does not write it.

All show the picture of `odd_files`, 96 x 64 pixels and different in every corner.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from odd_bytes import encoded
from odd_files import HEIGHT, WIDTH, picture
from PIL import Image


@dataclass(frozen=True)
class OldFile:
    """`pixels`: as `np.asarray` of the decoded pixels must be; None where only `like`, how near they are, is known."""

    name: str
    format: str
    data: bytes
    pixels: np.ndarray | None = None
    n_frames: int = 1
    size: tuple[int, int] = (WIDTH, HEIGHT)
    like: float = 12.0


def old_files() -> tuple[OldFile, ...]:
    return (*_written_by_pillow(), *_textures(), *_written_by_hand(), *_deep())


def _rgb() -> Image.Image:
    return Image.fromarray(picture())


def _grey() -> Image.Image:
    return _rgb().convert("L")


def _shown(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def _written_by_pillow() -> Iterator[OldFile]:
    rgb, grey, mapped, dots = _rgb(), _grey(), _rgb().quantize(200), _rgb().convert("1")
    for name, image_format, image in (
        ("pcx", "PCX", rgb), ("pcx grey", "PCX", grey), ("pcx mapped", "PCX", mapped), ("pcx dots", "PCX", dots),
        ("tga", "TGA", rgb), ("tga grey", "TGA", grey), ("tga mapped", "TGA", mapped), ("sgi", "SGI", rgb),
        ("sgi grey", "SGI", grey), ("im", "IM", rgb), ("im mapped", "IM", mapped), ("msp", "MSP", dots),
        ("xbm", "XBM", dots), ("dib", "DIB", rgb), ("dib mapped", "DIB", mapped), ("icns", "ICNS", rgb),
    ):  # fmt: skip
        icon = image_format == "ICNS"  # of icons the largest is shown, which the writer scales
        data = encoded(image, image_format)
        yield OldFile(
            name, image_format, data, None if icon else _shown(image), size=(1024, 1024) if icon else rgb.size
        )
    yield OldFile("tga packed", "TGA", encoded(rgb, "TGA", compression="tga_rle"), picture())


def _textures() -> Iterator[OldFile]:
    rgb = picture()
    head = struct.pack("<4siiiiiiii", b"FTEX", 0, WIDTH, HEIGHT, 1, 1, 1, 32, rgb.size)[:32]
    yield OldFile("ftex", "FTEX", head + struct.pack("<i", rgb.size) + rgb.tobytes(), rgb)
    mapped = _rgb().quantize(256)
    yield OldFile("blp", "BLP", encoded(mapped, "BLP", blp_version="BLP2"), _shown(mapped))


def _written_by_hand() -> Iterator[OldFile]:
    rgb, mapped = picture(), _rgb().quantize(200)
    colours = bytes(mapped.getpalette("RGB") or ()).ljust(768, b"\0")
    yield OldFile("sun", "SUN", _sun(rgb), rgb)
    yield OldFile("xpm", "XPM", _xpm(mapped), _shown(mapped))
    yield OldFile("dcx", "DCX", _dcx(rgb, rgb[::-1]), rgb, n_frames=2)
    yield OldFile("cur", "CUR", _cur(rgb), rgb)
    yield OldFile("fli", "FLI", _fli(mapped, colours), _shown(mapped), n_frames=2)
    brush = struct.pack(">IIIII4sI", 32, 2, WIDTH, HEIGHT, 4, b"GIMP", 10) + b"odd\0"
    yield OldFile("gbr", "GBR", brush + _rgb().convert("RGBA").tobytes(), rgb)
    pixar = b"\x80\xe8\0\0".ljust(416, b"\0") + struct.pack("<HHHHHH", HEIGHT, WIDTH, 0, 0, 14, 2)
    yield OldFile("pixar", "PIXAR", pixar.ljust(1024, b"\0") + rgb.tobytes(), rgb)
    ramp = np.tile(np.arange(WIDTH, dtype=np.uint8) * 2, (HEIGHT, 1))
    yield OldFile("xv", "XVThumb", b"P7 332\n#odd\n%d %d 255\n" % (WIDTH, HEIGHT) + ramp.tobytes(), _of_332(ramp))
    yield OldFile("pcd", "PCD", _pcd(), size=(768, 512), like=60)


def _deep() -> Iterator[OldFile]:
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    deep = (x * y * 10).astype(np.uint16)
    real = (deep / 60_000).astype(np.float32)
    yield OldFile("fits 8", "FITS", _fits(8, np.asarray(_grey())), _shown(_grey()))
    yield OldFile("fits 16", "FITS", _fits(16, (deep.astype(np.int32) - 32_768).astype(">i2"), 32_768), deep)
    signed = deep.astype(np.int32) - 30_000
    yield OldFile("fits 16 signed", "FITS", _fits(16, signed.astype(">i2")), signed.astype(np.int16).astype(np.int32))
    yield OldFile("fits float", "FITS", _fits(-32, real.astype(">f4")), real)
    yield OldFile("spider", "SPIDER", encoded(Image.fromarray(real), "SPIDER"), real)
    words = [0] * 65
    words[2], words[9], words[10], words[11], words[14], words[34] = 4, HEIGHT, WIDTH, 2, 1, 256
    area = struct.pack(">64i", *words[1:])
    yield OldFile("mcidas", "MCIDAS", area + deep.astype(">u2").tobytes(), deep)


def _sun(rgb: np.ndarray) -> bytes:
    return struct.pack(">8I", 0x59A66A95, WIDTH, HEIGHT, 24, rgb.size, 1, 0, 0) + rgb[..., ::-1].tobytes()


def _xpm(mapped: Image.Image) -> bytes:
    colours = bytes(mapped.getpalette("RGB") or ())
    n = len(colours) // 3
    lines = [f"{WIDTH} {HEIGHT} {n} 2"]
    lines += [f"{i:02x} c #{colours[3 * i : 3 * i + 3].hex()}" for i in range(n)]
    lines += ["".join(f"{v:02x}" for v in row) for row in np.asarray(mapped)]
    return ("/* XPM */\nstatic char *odd[] = {\n" + ",\n".join(f'"{line}"' for line in lines) + "\n};\n").encode()


def _dcx(*pages: np.ndarray) -> bytes:
    files = [encoded(Image.fromarray(page), "PCX") for page in pages]
    starts = np.cumsum([4 * (len(files) + 2), *map(len, files)])[:-1]
    return struct.pack(f"<I{len(files)}II", 0x3ADE68B1, *map(int, starts), 0) + b"".join(files)


def _cur(rgb: np.ndarray) -> bytes:
    bitmap = bytearray(encoded(Image.fromarray(rgb), "DIB"))
    bitmap[8:12] = struct.pack("<i", 2 * HEIGHT)  # the mask behind the picture counts
    mask = bytes(HEIGHT * WIDTH // 8)
    entry = struct.pack("<BBBBHHII", WIDTH, HEIGHT, 0, 0, 3, 5, len(bitmap) + len(mask), 22)
    return b"\0\0\2\0\1\0" + entry + bytes(bitmap) + mask


def _fli(mapped: Image.Image, colours: bytes) -> bytes:
    pixels = np.asarray(mapped)
    palette = struct.pack("<IHHBB", 6 + 4 + 768, 4, 1, 0, 0) + colours
    frames = b""
    for shown in (pixels, pixels[::-1]):
        chunks = palette * (not frames) + struct.pack("<IH", 6 + shown.size, 16) + shown.tobytes()
        frames += struct.pack("<IHH8x", 16 + len(chunks), 0xF1FA, 1 + (not frames)) + chunks
    head = struct.pack("<IHHHHHHI", 128 + len(frames), 0xAF12, 2, WIDTH, HEIGHT, 8, 3, 100)
    return head.ljust(128, b"\0") + frames


def _of_332(values: np.ndarray) -> np.ndarray:
    """The colours of XV's thumbnails: three bits of red, three of green, two of blue."""
    values = values.astype(int)
    red, green, blue = (values >> 5) * 255 // 7, (values >> 2 & 7) * 255 // 7, (values & 3) * 255 // 3
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def _pcd() -> bytes:
    """Photo CD: lines of luma in pairs, each with half as many of both chromas; here grey."""
    grey = np.asarray(_grey().resize((768, 512)))
    chroma = bytes([156]) * 384 + bytes([137]) * 384
    lines = b"".join(grey[i].tobytes() + grey[i + 1].tobytes() + chroma for i in range(0, 512, 2))
    return bytes(2048) + b"PCD_".ljust(95 * 2048, b"\0") + lines


def _fits(bits: int, values: np.ndarray, zero: int | None = None) -> bytes:
    """Rows from the bottom up, as astronomers count them."""
    facts = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": WIDTH, "NAXIS2": HEIGHT}
    facts |= {} if zero is None else {"BZERO": zero}
    cards = [f"{key:8}= {value:>20}".ljust(80) for key, value in facts.items()]
    head = "".join([*cards, "END".ljust(80)]).encode()
    data = values[::-1].tobytes()
    return head.ljust(2880) + data + bytes(-len(data) % 2880)
