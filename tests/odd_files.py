"""Makes one file of every format and variant that `extract` decodes, with the facts and pixels that it must find.

Pillow, its plugins and tifffile write them, or `odd_bytes`. All show the same picture, 96 x 64 pixels and different in
every corner, so that a turned, mirrored or inverted copy is noticed.
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  registers the format with Pillow
import tifffile
from odd_bytes import (
    DNG,
    encoded,
    icc_profile,
    png,
    png_rows,
    psd,
    raf_file,
    raw_file,
    turned_jxl,
)
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo

pillow_heif.register_heif_opener()

WIDTH, HEIGHT = 96, 64
DNG_CAMERA = (b"Test", b"Odd")


@dataclass(frozen=True)
class OddFile:
    """`pixels`: as `np.asarray(DecodedImage.pixels)` must be, None for lossy ones; `like`: how near to the picture.

    `size` is upright; `pillow` is False where `PIL.Image.open` reads another picture or none at all.
    """

    name: str
    data: bytes
    format: str
    mode: str
    size: tuple[int, int] = (WIDTH, HEIGHT)
    n_frames: int = 1
    orientation: int = 1
    decoder: str = "pillow"
    pixels: np.ndarray | None = None
    like: float = 12.0
    pillow: bool = True


@functools.cache
def picture() -> np.ndarray:
    """(64, 96, 3) uint8."""
    photo = load_sample_photo("astronaut.png").convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    rgb = np.array(photo)
    rgb[:12, :16], rgb[:12, -16:], rgb[-12:, :16], rgb[-12:, -16:] = (230, 20, 20), (20, 200, 20), (20, 20, 230), 255
    return rgb


@functools.cache
def odd_files() -> tuple[OddFile, ...]:
    makers = (_jpeg, _png, _gif_webp_bmp, _tiff, _heif_avif, _jxl, _raw, _rare)
    return tuple(file for make in makers for file in make())


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def stored_for(orientation: int, rgb: np.ndarray) -> Image.Image:
    """The pixels that a file with this EXIF orientation must hold to show `rgb` upright."""
    back = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}[orientation]  # fmt: skip
    image = Image.fromarray(rgb)
    return image if back is None else image.transpose(back)


def oriented(image_format: str, orientation: int) -> bytes:
    """The picture as a camera that was turned by `orientation` stores it, with the EXIF tag of that orientation."""
    options: dict[str, Any] = {
        "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "TIFF": {}, "PNG": {},
        "AVIF": {"quality": 95, "subsampling": "4:4:4"}, "HEIF": {"quality": -1, "chroma": 444},
        "MPO": {"quality": 95},
    }.get(image_format, {})  # fmt: skip
    stored, tag = stored_for(orientation, picture()), exif(orientation)
    if image_format == "JXL":
        return turned_jxl(encoded(stored, "JXL", lossless=True), orientation)
    if image_format == "JPEG in JXL":
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:  # the plugin takes a JPEG over only from a file
            stored.save(file.name, quality=95, subsampling=0, exif=tag)
            return encoded(Image.open(file.name), "JXL", lossless_jpeg=True)
    if image_format == "DNG":
        return raw_file(np.asarray(stored), DNG_CAMERA, orientation=orientation, more=DNG)
    if image_format == "DNG preview":
        preview = encoded(stored, "JPEG", quality=95)
        return raw_file(np.asarray(stored), DNG_CAMERA, preview, orientation=orientation, more=DNG)
    if image_format == "TIFF":
        return encoded(stored, "TIFF", tiffinfo={274: orientation})
    return encoded(stored, image_format, exif=tag, **options)


def _upright(name: str, image_format: str, **facts: Any) -> OddFile:
    return OddFile(f"{name} turned", oriented(image_format, 6), **facts, orientation=6)


def _jpeg() -> Iterator[OddFile]:
    rgb = picture()
    image, cmyk = Image.fromarray(rgb), Image.fromarray(rgb).convert("CMYK")
    fine: dict[str, Any] = {"quality": 95, "subsampling": 0}
    yield OddFile("jpeg", encoded(image, "JPEG", **fine), "JPEG", "RGB")
    yield OddFile("jpeg progressive", encoded(image, "JPEG", progressive=True, **fine), "JPEG", "RGB")
    yield OddFile("jpeg subsampled", encoded(image, "JPEG", quality=90), "JPEG", "RGB")
    yield OddFile("jpeg grey", encoded(image.convert("L"), "JPEG", quality=95), "JPEG", "L", like=60)
    adobe = encoded(cmyk, "JPEG", **fine)
    at = adobe.index(b"\xff\xee")
    yield OddFile("jpeg cmyk adobe", adobe, "JPEG", "CMYK")
    yield OddFile("jpeg cmyk plain", adobe[:at] + adobe[at + 16 :], "JPEG", "CMYK")
    yield OddFile("jpeg ycck", _ycck(rgb), "JPEG", "CMYK")
    profiled = encoded(cmyk, "JPEG", icc_profile=icc_profile("CMYK"), **fine)
    yield OddFile("jpeg cmyk profile", profiled, "JPEG", "CMYK")
    frames = [Image.fromarray(rgb[::-1])]
    mpo = encoded(image, "MPO", save_all=True, append_images=frames, **fine)
    yield OddFile("mpo", mpo, "MPO", "RGB", n_frames=2)
    yield _upright("jpeg", "JPEG", format="JPEG", mode="RGB")


def _ycck(rgb: np.ndarray) -> bytes:
    """A YCCK JPEG, which Pillow cannot write: YCbCr in the inverted ink channels, declared in the Adobe marker."""
    ycc = np.asarray(Image.fromarray(255 - rgb).convert("YCbCr"))
    inks = np.dstack([255 - ycc, np.zeros(rgb.shape[:2], np.uint8)])
    data = bytearray(encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def _png() -> Iterator[OddFile]:
    rgb = picture()
    image = Image.fromarray(rgb)
    grey = np.asarray(image.convert("L"))
    size = (WIDTH, HEIGHT)
    three = np.repeat(grey[..., None], 3, 2)
    for bits in (1, 2, 4):
        step = 255 // (2**bits - 1)
        coarse = (grey >> (8 - bits)).astype(np.uint8)
        packed = np.packbits(np.unpackbits(coarse[..., None], axis=2)[..., -bits:].reshape(HEIGHT, -1), axis=1)
        shown = np.repeat((coarse * step)[..., None], 3, 2)
        mode = "1" if bits == 1 else "L"
        yield OddFile(f"png grey {bits}", png(png_rows(packed), size, bits, 0), "PNG", mode, pixels=shown, like=120)
        table = b"".join(bytes([v * step, 255 - v * step, v]) for v in range(2**bits))
        colours = np.frombuffer(table, np.uint8).reshape(-1, 3)[coarse]
        data = png(png_rows(packed), size, bits, 3, [(b"PLTE", table)])
        yield OddFile(f"png palette {bits}", data, "PNG", "P", pixels=colours, like=255)
    yield OddFile("png grey 8", png(png_rows(grey), size, 8, 0), "PNG", "L", pixels=three, like=60)
    deep = grey.astype(np.uint16) * 257
    yield OddFile("png grey 16", png(png_rows(deep), size, 16, 0), "PNG", "I;16", pixels=deep, like=60)
    yield OddFile("png rgb 8", png(png_rows(rgb), size, 8, 2), "PNG", "RGB", pixels=rgb)
    deep_rgb = png(png_rows(rgb.astype(np.uint16) * 257), size, 16, 2)
    yield OddFile("png rgb 16", deep_rgb, "PNG", "RGB", pixels=rgb)
    clear = np.dstack([rgb, np.tile(np.arange(WIDTH, dtype=np.uint8) + 150, (HEIGHT, 1))])
    yield OddFile("png rgba", png(png_rows(clear), size, 8, 6), "PNG", "RGBA", pixels=clear, like=60)
    grey_clear = np.dstack([grey, clear[..., 3]])
    as_rgba = np.dstack([three, clear[..., 3]])
    yield OddFile("png grey alpha", png(png_rows(grey_clear), size, 8, 4), "PNG", "LA", pixels=as_rgba, like=80)
    palette = image.quantize(64)
    shown = np.asarray(palette.convert("RGB"))
    yield OddFile("png palette 8", encoded(palette, "PNG"), "PNG", "P", pixels=shown, like=30)
    see_through = encoded(palette, "PNG", transparency=0)
    yield OddFile("png palette clear", see_through, "PNG", "P", like=60)
    apng = encoded(image, "PNG", save_all=True, append_images=[Image.fromarray(rgb[::-1])], duration=50)
    yield OddFile("apng", apng, "PNG", "RGB", n_frames=2, pixels=rgb)
    interlaced = encoded(image, "PNG", icc_profile=icc_profile("RGB"))
    yield OddFile("png profile", interlaced, "PNG", "RGB", pixels=rgb)
    yield _upright("png", "PNG", format="PNG", mode="RGB", pixels=rgb)


def _gif_webp_bmp() -> Iterator[OddFile]:
    rgb = picture()
    image, palette = Image.fromarray(rgb), Image.fromarray(rgb).quantize(64)
    other = Image.fromarray(rgb[::-1])
    shown = np.asarray(palette.convert("RGB"))
    yield OddFile("gif", encoded(palette, "GIF"), "GIF", "P", pixels=shown, like=30)
    yield OddFile("gif interlaced", encoded(palette, "GIF", interlace=1), "GIF", "P", pixels=shown, like=30)
    moving = encoded(palette, "GIF", save_all=True, append_images=[other.quantize(64), palette], loop=0)
    yield OddFile("gif animated", moving, "GIF", "P", n_frames=3, like=30)
    yield OddFile("webp", encoded(image, "WEBP", quality=95), "WEBP", "RGB", like=15)
    yield OddFile("webp lossless", encoded(image, "WEBP", lossless=True), "WEBP", "RGB", pixels=rgb)
    clear = np.dstack([rgb, np.tile(np.arange(WIDTH, dtype=np.uint8) + 150, (HEIGHT, 1))])
    see_through = encoded(Image.fromarray(clear), "WEBP", lossless=True)
    yield OddFile("webp alpha", see_through, "WEBP", "RGBA", pixels=clear, like=60)
    moving = encoded(image, "WEBP", lossless=True, save_all=True, append_images=[other, image])
    yield OddFile("webp animated", moving, "WEBP", "RGBA", n_frames=3, pixels=rgb)
    yield _upright("webp", "WEBP", format="WEBP", mode="RGB", pixels=rgb)
    yield OddFile("bmp", encoded(image, "BMP"), "BMP", "RGB", pixels=rgb)
    yield OddFile("bmp palette", encoded(palette, "BMP"), "BMP", "P", pixels=shown, like=30)
    grey = image.convert("L")
    yield OddFile("bmp grey", encoded(grey, "BMP"), "BMP", "L", pixels=np.asarray(grey.convert("RGB")), like=60)
    line = grey.convert("1")
    yield OddFile("bmp 1 bit", encoded(line, "BMP"), "BMP", "1", pixels=np.asarray(line.convert("RGB")), like=255)


def _tiff() -> Iterator[OddFile]:
    rgb = picture()
    image = Image.fromarray(rgb)
    grey = np.asarray(image.convert("L"))
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"):
        data = encoded(image, "TIFF", compression=compression)
        yield OddFile(f"tiff {compression}", data, "TIFF", "RGB", pixels=rgb)
    yield OddFile("tiff jpeg", encoded(image, "TIFF", compression="jpeg", quality=95), "TIFF", "RGB")
    line = image.convert("1")
    shown = np.asarray(line.convert("RGB"))
    yield OddFile("tiff group4", encoded(line, "TIFF", compression="group4"), "TIFF", "1", pixels=shown, like=255)
    palette = image.quantize(64)
    shown = np.asarray(palette.convert("RGB"))
    yield OddFile("tiff palette", encoded(palette, "TIFF"), "TIFF", "P", pixels=shown, like=30)
    yield OddFile("tiff tiled", _tifffile(rgb, tile=(32, 32), photometric="rgb"), "TIFF", "RGB", pixels=rgb)
    tiled = _tifffile(rgb, tile=(32, 32), photometric="rgb", compression="zlib")
    yield OddFile("tiff tiled deflate", tiled, "TIFF", "RGB", pixels=rgb)
    planar = _tifffile(rgb.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib")
    yield OddFile("tiff planar", planar, "TIFF", "RGB", pixels=rgb)
    yield OddFile("tiff big", _tifffile(rgb, bigtiff=True, photometric="rgb"), "TIFF", "RGB", pixels=rgb)
    pages = _tifffile(rgb, photometric="rgb", pages=3)
    yield OddFile("tiff pages", pages, "TIFF", "RGB", n_frames=3, pixels=rgb)
    deep = grey.astype(np.uint16) * 257
    for order in "<>":
        data = _tifffile(deep, byteorder=order, photometric="minisblack")
        yield OddFile(f"tiff 16 {order}", data, "TIFF", "I;16", pixels=deep, like=60)
    data = _tifffile(rgb.astype(np.uint16) * 257, photometric="rgb")
    yield OddFile("tiff rgb 16", data, "TIFF", "RGB", pixels=rgb)
    real = grey.astype(np.float32) / 255
    yield OddFile("tiff float", _tifffile(real, photometric="minisblack"), "TIFF", "F", pixels=real, like=60)
    cmyk = np.asarray(image.convert("CMYK"))
    data = _tifffile(cmyk, photometric="separated")
    yield OddFile("tiff cmyk", data, "TIFF", "CMYK", pixels=rgb)
    yield OddFile("tiff cmyk profile", encoded(image.convert("CMYK"), "TIFF", icc_profile=icc_profile("CMYK")),
                  "TIFF", "CMYK", pixels=rgb)  # fmt: skip
    data = encoded(Image.fromarray(grey), "TIFF", icc_profile=icc_profile("GRAY"))
    yield OddFile("tiff grey profile", data, "TIFF", "L", pixels=np.repeat(grey[..., None], 3, 2), like=80)
    yield _upright("tiff", "TIFF", format="TIFF", mode="RGB", pixels=rgb)


def _tifffile(values: np.ndarray, *, bigtiff: bool = False, byteorder: Any = None, pages: int = 1, **how: Any) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out, bigtiff=bigtiff, byteorder=byteorder) as writer:
        for _ in range(pages):
            writer.write(values, metadata=None, **how)
    return out.getvalue()


def _heif_avif() -> Iterator[OddFile]:
    rgb = picture()
    image, other = Image.fromarray(rgb), Image.fromarray(rgb[::-1])
    clear = np.dstack([rgb, np.tile(np.arange(WIDTH, dtype=np.uint8) + 150, (HEIGHT, 1))])
    heif: dict[str, Any] = {"format": "HEIF", "decoder": "pi-heif-decoder"}
    fine: dict[str, Any] = {"quality": 95, "chroma": 444}
    yield OddFile("heic", encoded(image, "HEIF", **fine), mode="RGB", **heif)
    yield OddFile("heic subsampled", encoded(image, "HEIF", quality=90), mode="RGB", like=20, **heif)
    yield OddFile("heic alpha", encoded(Image.fromarray(clear), "HEIF", **fine), mode="RGBA", like=60, **heif)
    several = encoded(other, "HEIF", save_all=True, append_images=[image], primary_index=1, **fine)
    yield OddFile("heic primary second", several, mode="RGB", n_frames=2, **heif)
    grid = encoded(image, "HEIF", tile_size=64, **fine)
    yield OddFile("heic grid", grid, mode="RGB", **heif)
    deep = pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), (rgb.astype(np.uint16) * 257).tobytes())
    out = io.BytesIO()
    deep.save(out, **fine)
    yield OddFile("heic 10 bit", out.getvalue(), mode="RGB", **heif)
    yield _upright("heic", "HEIF", mode="RGB", **heif)
    tag_only = encoded(image, "HEIF", exif=_exif_object(6), **fine)  # an object: pillow-heif then writes no irot
    yield OddFile("heic tag only", tag_only, mode="RGB", **heif)

    near: dict[str, Any] = {"quality": 95, "subsampling": "4:4:4"}
    yield OddFile("avif", encoded(image, "AVIF", **near), "AVIF", "RGB")
    yield OddFile("avif alpha", encoded(Image.fromarray(clear), "AVIF", **near), "AVIF", "RGBA", like=60)
    moving = encoded(image, "AVIF", save_all=True, append_images=[other, image], **near)
    yield OddFile("avif animated", moving, "AVIF", "RGB", n_frames=3)
    yield _upright("avif", "AVIF", format="AVIF", mode="RGB")


def _exif_object(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def _jxl() -> Iterator[OddFile]:
    rgb = picture()
    image = Image.fromarray(rgb)
    clear = np.dstack([rgb, np.tile(np.arange(WIDTH, dtype=np.uint8) + 150, (HEIGHT, 1))])
    jxl: dict[str, Any] = {"format": "JXL", "decoder": "pillow-jxl-plugin"}
    yield OddFile("jxl", encoded(image, "JXL", quality=95), mode="RGB", **jxl)
    yield OddFile("jxl lossless", encoded(image, "JXL", lossless=True), mode="RGB", pixels=rgb, **jxl)
    boxed = encoded(image, "JXL", lossless=True, use_container=True)
    yield OddFile("jxl container", boxed, mode="RGB", pixels=rgb, **jxl)
    see_through = encoded(Image.fromarray(clear), "JXL", lossless=True)
    yield OddFile("jxl alpha", see_through, mode="RGBA", pixels=clear, like=60, **jxl)
    grey = image.convert("L")
    shown = np.asarray(grey.convert("RGB"))
    yield OddFile("jxl grey", encoded(grey, "JXL", lossless=True), mode="L", pixels=shown, like=60, **jxl)
    tag_only = encoded(image, "JXL", lossless=True, exif=exif(6))
    yield OddFile("jxl tag only", tag_only, mode="RGB", pixels=rgb, pillow=False, **jxl)
    yield _upright("jxl", "JXL", mode="RGB", pixels=rgb, **jxl)
    yield _upright("jxl from jpeg", "JPEG in JXL", mode="RGB", **jxl)


def _raw() -> Iterator[OddFile]:
    rgb = picture()
    jpeg = encoded(Image.fromarray(rgb), "JPEG", quality=95)
    raw: dict[str, Any] = {"mode": "RGB", "pillow": False, "like": 40.0}
    sensor, preview = {"decoder": "rawpy"} | raw, {"decoder": "rawpy preview"} | raw
    tiny = encoded(Image.fromarray(rgb).resize((24, 16)), "JPEG")
    yield OddFile("dng", raw_file(rgb, DNG_CAMERA, more=DNG), "DNG", **sensor)
    yield OddFile("dng preview", raw_file(rgb, DNG_CAMERA, jpeg, more=DNG), "DNG", **preview)
    yield OddFile("dng small preview", raw_file(rgb, DNG_CAMERA, tiny, more=DNG), "DNG", **sensor)
    yield _upright("dng", "DNG", format="DNG", **sensor)
    yield _upright("dng preview", "DNG preview", format="DNG", **preview)
    large = np.asarray(Image.fromarray(rgb).resize((2112, 1408), Image.Resampling.BICUBIC))
    facts = raw | {"decoder": "rawpy half size", "size": (2112, 1408)}
    yield OddFile("dng large", raw_file(large, DNG_CAMERA, more=DNG), "DNG", **facts)

    nikon, pentax = (b"NIKON CORPORATION", b"NIKON D100"), (b"PENTAX Corporation", b"PENTAX *ist D")
    samsung = (b"SAMSUNG", b"NX1")
    yield OddFile("nef", raw_file(rgb, nikon), "NEF", **sensor)
    yield OddFile("nef preview", raw_file(rgb, nikon, jpeg), "NEF", **preview)
    yield OddFile("pef", raw_file(rgb, pentax), "PEF", **sensor)
    yield OddFile("srw", raw_file(rgb, samsung), "SRW", **sensor)
    yield OddFile("arw preview", raw_file(rgb, (b"SONY", b"ILCE-7M3"), jpeg), "ARW", **preview)
    cr2 = raw_file(rgb, (b"Canon", b"Canon EOS 40D"), jpeg, head=b"II*\0\0\0\0\0CR\2\0\0\0\0\0")
    yield OddFile("cr2 preview", cr2, "CR2", **preview)
    orf = raw_file(rgb, (b"OLYMPUS IMAGING CORP.", b"E-M5"), jpeg, head=b"IIRO\0\0\0\0")
    yield OddFile("orf preview", orf, "ORF", **preview)
    rw2 = raw_file(rgb, (b"Panasonic", b"DMC-G1"), jpeg, head=b"IIU\0\0\0\0\0")
    yield OddFile("rw2 preview", rw2, "RW2", **preview)
    yield OddFile("raf preview", raf_file(rgb, jpeg), "RAF", **preview)


def _rare() -> Iterator[OddFile]:
    rgb = picture()
    image = Image.fromarray(rgb)
    clear = np.dstack([rgb, np.tile(np.arange(WIDTH, dtype=np.uint8) + 150, (HEIGHT, 1))])
    grey = np.asarray(image.convert("L"))
    deep = grey.astype(np.uint16) * 257
    yield OddFile("jp2", encoded(image, "JPEG2000"), "JPEG2000", "RGB", pixels=rgb)
    yield OddFile("j2k", encoded(image, "JPEG2000", no_jp2=True), "JPEG2000", "RGB", pixels=rgb)
    yield OddFile("jp2 alpha", encoded(Image.fromarray(clear), "JPEG2000"), "JPEG2000", "RGBA", pixels=clear, like=60)
    yield OddFile("jp2 16", encoded(Image.fromarray(deep), "JPEG2000"), "JPEG2000", "I;16", pixels=deep, like=60)
    small = Image.fromarray(clear).crop((0, 0, 64, 64))
    facts: dict[str, Any] = {"mode": "RGBA", "size": (64, 64), "pixels": clear[:, :64], "like": 255}
    yield OddFile("ico png", encoded(small, "ICO", sizes=[(16, 16), (64, 64)]), "ICO", **facts)
    yield OddFile("ico bmp", encoded(small, "ICO", sizes=[(64, 64)], bitmap_format="bmp"), "ICO", **facts)
    yield OddFile("psd", psd(rgb), "PSD", "RGB", pixels=rgb)
    yield OddFile("ppm", encoded(image, "PPM"), "PPM", "RGB", pixels=rgb)
    three = np.repeat(grey[..., None], 3, 2)
    yield OddFile("pgm", encoded(Image.fromarray(grey), "PPM"), "PPM", "L", pixels=three, like=60)
    real = grey.astype(np.float32) / 255
    yield OddFile("pfm", encoded(Image.fromarray(real), "PPM"), "PPM", "F", pixels=real, like=60)
    yield OddFile("dds", encoded(image, "DDS"), "DDS", "RGB", pixels=rgb)
    yield OddFile("qoi", encoded(image, "QOI"), "QOI", "RGB", pixels=rgb)
