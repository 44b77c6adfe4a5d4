"""What files hold beside their pictures: each kind is seen, the same is called the same, and notes are nothing."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from odd_bytes import encoded
from odd_files import picture
from PIL import Image

from dedup_spark.kernels.decoding.beside import beside_digest
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.jpeg_structure import jpeg_structure

RGB = picture()
PHOTO = Image.fromarray(RGB)
NOISE = np.random.default_rng(1).bytes(80_000)
JPEG = encoded(PHOTO, "JPEG", quality=90)
FILM = b"\0\0\0\x18ftypmp42" + NOISE


def beside(data: bytes) -> str | None:
    image = decode_image(data, max_pixels=10**6, min_side_px=8)
    return beside_digest(data, image, jpeg_structure(data) if image.format in ("JPEG", "MPO") else None)


def with_segments(marker: int, *contents: bytes) -> bytes:
    segments = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(c) + 2) + c for c in contents)
    return JPEG[:2] + segments + JPEG[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    import zlib

    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def tiff(values: np.ndarray, **options: object) -> bytes:
    data = io.BytesIO()
    tifffile.imwrite(data, values, **options)
    return data.getvalue()


def bands(fourth: np.ndarray, planes: bool = False) -> bytes:
    values = np.dstack([RGB, fourth])
    if planes:
        return tiff(np.moveaxis(values, 2, 0), photometric="rgb", planarconfig="separate", extrasamples=[0])
    return tiff(values, photometric="rgb", extrasamples=[0])


PNG = encoded(PHOTO, "PNG")


@pytest.mark.parametrize(
    "data",
    [
        JPEG, PNG, tiff(RGB), encoded(PHOTO, "BMP"), encoded(PHOTO, "GIF"), encoded(PHOTO, "WEBP"),
        JPEG + bytes(5_000) + b"a maker's trailer", with_segments(0xED, b"Photoshop 3.0\0" + NOISE[:60_000]),
        with_segments(0xE2, *[b"ICC_PROFILE\0" + NOISE[:60_000]] * 2), with_segments(0xE1, b"Exif\0\0" + NOISE[:9_000]),
        PNG[:33] + chunk(b"tEXt", b"prompt\0" + b"a" * 70_000) + PNG[33:], PNG + b"\n",
    ],
)  # fmt: skip
def test_pictures_with_their_notes_hold_nothing_beside(data: bytes) -> None:
    assert beside(data) is None


@pytest.mark.parametrize(
    "data",
    [
        JPEG + FILM, with_segments(0xE1, *[b"FLIR\0" + NOISE[:40_000]] * 2),
        PNG[:33] + chunk(b"mkBT", NOISE) + PNG[33:], PNG + NOISE,
        tiff(RGB, extratags=[(37724, 7, 5_000, bytes(5_000), True)]),
        bands(RGB[..., 0]), tiff(np.dstack([RGB, RGB[..., :2]]), photometric="minisblack", planarconfig="contig"),
    ],
)  # fmt: skip
def test_films_layers_heat_and_bands_are_held_beside(data: bytes) -> None:
    assert beside(data) == beside(data)
    assert len(beside(data) or "") == 64


def test_an_icon_of_several_sizes_holds_the_others() -> None:
    sizes = [io.BytesIO(), io.BytesIO()]
    square = PHOTO.resize((64, 64))
    square.save(sizes[0], "ICO", sizes=[(64, 64)])
    square.save(sizes[1], "ICO", sizes=[(64, 64), (16, 16)])
    assert [beside(data.getvalue()) is None for data in sizes] == [True, False]


def test_the_same_film_behind_other_metadata_is_the_same() -> None:
    assert beside(with_segments(0xE1, b"Exif\0\0" + NOISE[:100]) + FILM) == beside(JPEG + FILM)
    assert beside(JPEG + FILM[:-1]) != beside(JPEG + FILM)


def test_bands_of_other_numbers_are_told_apart_where_the_colours_agree() -> None:
    one, other = (bands(RGB[..., i]) for i in (0, 1))
    assert beside(one) == beside(bands(RGB[..., 0])) != beside(other)
    assert beside(bands(RGB[..., 0], planes=True)) not in (None, beside(bands(RGB[..., 1], planes=True)))
