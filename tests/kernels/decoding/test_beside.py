"""What files hold beside their pictures: each kind is seen, the same is called the same, and notes are nothing."""

from __future__ import annotations

import io
import struct
import tracemalloc

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
XMP = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8)


def heic(alpha: bytes = b"", exif: bytes = b"") -> bytes:
    """With an auxiliary picture where there is `alpha`, whose type is changed to that."""
    data = encoded(PHOTO.convert("RGBA" if alpha else "RGB"), "HEIF", exif=exif or None)
    return data.replace(b":auxid:1\0", alpha) if alpha else data


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


HEIC, HEIC_CLEAR, HEIC_DEPTH = heic(), heic(b":auxid:1\0"), heic(b":auxid:2\0")
AVIF = encoded(PHOTO, "AVIF")


@pytest.mark.parametrize(
    "data",
    [
        JPEG, PNG, tiff(RGB), encoded(PHOTO, "BMP"), encoded(PHOTO, "GIF"), encoded(PHOTO, "WEBP"),
        JPEG + bytes(5_000) + b"a maker's trailer", with_segments(0xED, b"Photoshop 3.0\0" + NOISE[:60_000]),
        with_segments(0xE2, *[b"ICC_PROFILE\0" + NOISE[:60_000]] * 2), with_segments(0xE1, b"Exif\0\0" + NOISE[:9_000]),
        with_segments(0xEB, *[b"JP\0\1\0\0\0\1" + struct.pack(">I4s", 60_000, b"jumb") + NOISE[:50_000]] * 2),
        with_segments(0xE1, *[XMP + b"<dc:title>" + b"a" * 60_000] * 2),
        HEIC, HEIC_CLEAR, AVIF, encoded(PHOTO, "AVIF", xmp=b"<x>bitmap heatmap</x>"),
        encoded(PHOTO.convert("RGBX"), "TIFF"),
        PNG[:33] + chunk(b"tEXt", b"prompt\0" + b"a" * 70_000) + PNG[33:], PNG + b"\n",
    ],
)  # fmt: skip
def test_pictures_with_their_notes_hold_nothing_beside(data: bytes) -> None:
    assert beside(data) is None


@pytest.mark.parametrize(
    "data",
    [
        JPEG + FILM, with_segments(0xE1, b"FLIR\0" + NOISE[:39_000]),
        with_segments(0xE1, *[XMP + b"GDepth:Data=" + NOISE[:50_000]] * 2),
        HEIC + box(b"mpvd", NOISE), HEIC + FILM, AVIF + FILM, HEIC_DEPTH,
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


def test_an_icon_whose_entries_all_name_one_part_takes_no_memory() -> None:
    image = decode_image(encoded(PHOTO.resize((64, 64)), "ICO"), max_pixels=10**6, min_side_px=8)
    entries = b"".join(bytes(8) + struct.pack("<II", 2**22 - at, at) for at in range(400))
    data = (struct.pack("<HHH", 0, 1, 400) + entries).ljust(2**22, b"\0")
    tracemalloc.start()
    assert beside_digest(data, image, None) is not None
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_depths_of_heif_are_the_same_under_other_metadata() -> None:
    exifs = [b"Exif\0\0" + word * 20 for word in (b"one", b"two!")]
    one, other = (heic(b":auxid:2\0", exif) for exif in exifs)
    assert beside(one) == beside(other) is not None
    assert beside(one + FILM) not in (None, beside(one))


@pytest.mark.parametrize("data", [HEIC_DEPTH, AVIF + FILM[:500]], ids=["heif", "avif"])
def test_damaged_boxes_are_followed_as_far_as_they_go(data: bytes) -> None:
    image = decode_image(data, max_pixels=10**6, min_side_px=8)
    rng = np.random.default_rng(3)
    for _ in range(3_000):
        changed = bytearray(data[: int(rng.integers(len(data))) if rng.random() < 0.2 else None])
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(min(700, len(changed)))) if changed else 0
            changed[at : at + 1] = rng.bytes(1)
        found = beside_digest(bytes(changed), image, None)
        assert found is None or len(found) == 64


def test_the_same_film_behind_other_metadata_is_the_same() -> None:
    assert beside(with_segments(0xE1, b"Exif\0\0" + NOISE[:100]) + FILM) == beside(JPEG + FILM)
    assert beside(JPEG + FILM[:-1]) != beside(JPEG + FILM)


def test_bands_of_other_numbers_are_told_apart_where_the_colours_agree() -> None:
    one, other = (bands(RGB[..., i]) for i in (0, 1))
    assert beside(one) == beside(bands(RGB[..., 0])) != beside(other)
    assert beside(bands(RGB[..., 0], planes=True)) not in (None, beside(bands(RGB[..., 1], planes=True)))
