"""Builds a tiny image lake with a known truth: for every file, what the steps must find.

Pictures are sample photos at 256 px, so that embeddings behave as on real photos and tests stay quick.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo

ODD_NAME = "odd names/100%25 #1 + café 写真 (1) [a]&b=c;d?.jpg"
"""One path with every character that a URI, a glob or a shell could interpret."""

_SINGLES = (
    "brick.png", "coins.png", "flower.jpg", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png",
    "logo.png", "moon.png", "page.png", "retina.jpg",
)  # fmt: skip


@dataclass(frozen=True)
class TinyLake:
    """The results that a run must have. Paths are relative to `folder`, with `/`; a file is in `truth` or `rejects`.

    Attributes:
        truth: Readable image to the name of its picture; two images are duplicates when the names are equal.
        rejects: Unreadable file to its `reject_reason`.
        same_bytes: Tuples of files with equal bytes.
        same_pixels: Tuples of files with equal decoded, upright pixels and different bytes.
            No file is in two tuples of either list.
    """

    folder: Path
    truth: dict[str, str] = field(default_factory=dict)
    rejects: dict[str, str] = field(default_factory=dict)
    same_bytes: list[tuple[str, ...]] = field(default_factory=list)
    same_pixels: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, path: str, picture: str, image: Image.Image, **options: Any) -> None:
        """Writes a readable image in the format of its extension, or in the one that `format` names."""
        self.truth[path] = picture
        image.save(self._new_file(path), **options)

    def copy(self, source: str, *targets: str) -> None:
        """Writes byte copies of an image of the lake."""
        for path in targets:
            self.truth[path] = self.truth[source]
            self._new_file(path).write_bytes((self.folder / source).read_bytes())
        self.same_bytes.append((source, *targets))

    def reject(self, path: str, reason: str, content: bytes) -> None:
        self.rejects[path] = reason
        self._new_file(path).write_bytes(content)

    def _new_file(self, path: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


def build_tiny_lake(folder: Path) -> TinyLake:
    """Writes the lake into `folder` in half a second; the folder is made if it is missing, and should be empty."""
    lake = TinyLake(folder)
    _add_edits(lake)
    _add_copies(lake)
    _add_orientations(lake)
    _add_pixel_modes(lake)
    for name in _SINGLES:
        lake.add(f"singles/{name}", Path(name).stem, _photo(name))
    _add_rejects(lake)
    return lake


def _photo(file_name: str, max_side_px: int = 256) -> Image.Image:
    photo = load_sample_photo(file_name)
    photo.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    photo.info.clear()
    return photo


def _add_edits(lake: TinyLake) -> None:
    """One photo with the edits that people make."""
    photo = _photo("astronaut.png", 400)
    w, h = photo.size
    lake.add("edits/original.jpg", "astronaut", photo, quality=95)
    lake.add("edits/quality 30.jpg", "astronaut", photo, quality=30)
    lake.add("edits/progressive.jpg", "astronaut", photo, quality=80, progressive=True)
    lake.add("edits/half.jpg", "astronaut", photo.resize((w // 2, h // 2), Image.Resampling.LANCZOS))
    lake.add("edits/cropped.jpg", "astronaut", photo.crop((w // 8, 0, w, h * 7 // 8)), quality=90)
    lake.add("edits/squashed.jpg", "astronaut", photo.resize((w, h * 3 // 4)), quality=90)
    lake.add("edits/grey.jpg", "astronaut", photo.convert("L"), quality=90)
    lake.add("edits/rotated 3 degrees.jpg", "astronaut", photo.rotate(3, Image.Resampling.BICUBIC))
    marked = photo.copy()
    font = ImageFont.load_default(size=40)
    ImageDraw.Draw(marked).text((w / 2, h * 0.9), "tiny.example", fill="white", font=font, anchor="mm")
    lake.add("edits/watermarked.webp", "astronaut", marked, quality=80)


def _add_copies(lake: TinyLake) -> None:
    """The same bytes and the same pixels under other names."""
    lake.add("photos/coffee.jpg", "coffee", _photo("coffee.png"), quality=90)
    lake.copy("photos/coffee.jpg", "photos/coffee (1).jpg", "backup/2024/05/a/b/c/coffee.jpg")
    chelsea = _photo("chelsea.png")
    lossless: dict[str, dict[str, Any]] = {
        "formats/chelsea.png": {},
        "formats/chelsea deflated.png": {"compress_level": 1},
        "formats/chelsea.bmp": {},
        "formats/chelsea.tif": {"compression": "tiff_lzw"},
        "formats/chelsea.webp": {"lossless": True},
        "formats/a png named.jpg": {"format": "PNG", "compress_level": 3},
    }
    for path, options in lossless.items():
        lake.add(path, "chelsea", chelsea, **options)
    lake.same_pixels.append(tuple(lossless))
    lake.add("formats/chelsea lossy.webp", "chelsea", chelsea, quality=70)
    lake.add(ODD_NAME, "china", _photo("china.jpg"), quality=90)
    lake.add("odd names/no extension", "china", _photo("china.jpg"), quality=60, format="JPEG")
    lake.add("odd names/UPPER CASE.JPEG", "china", _photo("china.jpg", 200), quality=90)


def _add_orientations(lake: TinyLake) -> None:
    """A photo of a camera held upright: the stored pixels are turned, and the EXIF orientation records it."""
    photo = _photo("rocket.jpg")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    lake.add("camera/turned.jpg", "rocket", turned, quality=90, exif=exif)
    lake.add("camera/upright.jpg", "rocket", photo, quality=90)
    with Image.open(lake.folder / "camera/turned.jpg") as stored:
        upright = ImageOps.exif_transpose(stored)
    upright.info.clear()
    lake.add("camera/turned, then made upright.png", "rocket", upright)
    lake.same_pixels.append(("camera/turned.jpg", "camera/turned, then made upright.png"))


def _add_pixel_modes(lake: TinyLake) -> None:
    """Modes other than 8-bit RGB, each with a plain copy that must be in its cluster."""
    motorcycle = _photo("motorcycle_left.png")
    lake.add("modes/motorcycle.jpg", "motorcycle", motorcycle, quality=90)
    lake.add("modes/cmyk.jpg", "motorcycle", motorcycle.convert("CMYK"), quality=90)
    lake.add("modes/palette.png", "motorcycle", motorcycle.quantize(128))
    transparent = motorcycle.copy()
    transparent.putalpha(Image.linear_gradient("L").resize(motorcycle.size).point(lambda v: 128 + v // 2))
    lake.add("modes/transparent.png", "motorcycle", transparent)
    other_frame = Image.effect_mandelbrot(motorcycle.size, (-3, -2.5, 2, 2.5), 100).convert("RGB")
    lake.add("modes/animated.gif", "motorcycle", motorcycle, save_all=True, append_images=[other_frame])
    camera = _photo("camera.png")
    lake.add("modes/grey.png", "camera", camera)
    lake.add("modes/grey as rgb.png", "camera", camera.convert("RGB"))
    lake.same_pixels.append(("modes/grey.png", "modes/grey as rgb.png"))
    lake.add("modes/grey 16 bit.png", "camera", Image.fromarray(np.asarray(camera, np.uint16) * 257))


def _add_rejects(lake: TinyLake) -> None:
    jpeg = (lake.folder / "edits/original.jpg").read_bytes()
    png = (lake.folder / "formats/chelsea.png").read_bytes()
    lake.reject("broken/zero bytes.jpg", "empty", b"")
    lake.reject("broken/text.jpg", "not_an_image", b"milk\nbread\na larger disk\n")
    lake.reject("broken/error page.png", "not_an_image", b"<!DOCTYPE html><html><h1>404</h1></html>")
    lake.reject("broken/truncated.jpg", "truncated", jpeg[: len(jpeg) // 2])
    lake.reject("broken/truncated.png", "truncated", png[: len(png) // 2])
    lake.reject("broken/damaged inside.png", "corrupt", png[:200] + bytes(200) + png[400:])
    lake.reject("broken/bomb.png", "too_many_pixels", _png_that_claims(100_000, 100_000))
    lake.reject("broken/tracking pixel.png", "too_small", _png_that_claims(1, 1))
    twelve_bits = bytes.fromhex("ffd8 ffc1 0011 0c 0100 0100 03 012200 021101 031101")  # SOI, SOF1 with precision 12
    lake.reject("broken/medical 12 bit.jpg", "unsupported_format", twelve_bits + bytes(64) + b"\xff\xd9")


def _png_that_claims(width_px: int, height_px: int) -> bytes:
    """A PNG of less than 100 bytes whose header claims so many RGB pixels. One row is there."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    row = zlib.compress(bytes(4))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")
