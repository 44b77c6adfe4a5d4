"""PNG of 16 bits: all of each number counts, where its high byte does not show the picture."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from odd_bytes import encoded, png, png_rows
from odd_files import exif, picture
from PIL import Image

from dedup_spark.kernels.decoding.images import DecodedImage, decode_image
from dedup_spark.kernels.decoding.png_samples import chunks, declared_ends
from dedup_spark.kernels.decoding.rendering import render
from dedup_spark.kernels.features.hashing import pixel_hash

RGB = picture()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
SIZE = GREY.shape[::-1]
OPAQUE = np.full((*GREY.shape, 1), 65_535, np.uint16)
TYPES = {2: RGB, 4: GREY[..., None], 6: RGB}


def deep_png(values: np.ndarray, colour_type: int, *more: tuple[bytes, bytes]) -> bytes:
    return png(png_rows(values.astype(np.uint16)), SIZE, 16, colour_type, more)


def with_alpha(values: np.ndarray, colour_type: int) -> np.ndarray:
    return np.concatenate([values, OPAQUE], axis=2) if colour_type in (4, 6) else values


def decoded(data: bytes) -> DecodedImage:
    return decode_image(data, max_pixels=10**6, min_side_px=8)


def shown(data: bytes) -> np.ndarray:
    return np.asarray(render(decoded(data), 256)).astype(int)


@pytest.mark.parametrize("colour_type", TYPES)
def test_colours_that_fill_a_part_of_16_bits_are_spread_over_8_all_alike(colour_type: int) -> None:
    colours = TYPES[colour_type].astype(np.uint16)
    for values in (colours * 11, colours * 9 + 300, colours * 5 + 63_000):
        assert np.abs(shown(deep_png(with_alpha(values, colour_type), colour_type)) - TYPES[colour_type]).mean() < 2


@pytest.mark.parametrize("colour_type", TYPES)
def test_colours_of_the_whole_range_are_their_high_bytes(colour_type: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 65_536, TYPES[colour_type].shape).astype(np.uint16)
    data = deep_png(with_alpha(values, colour_type), colour_type)
    assert np.array_equal(shown(data), np.broadcast_to(values >> 8, RGB.shape))
    assert decoded(data).bits == 16


@pytest.mark.parametrize("step", [256, 257])
def test_a_dark_picture_of_8_bits_in_16_is_that_picture(step: int) -> None:
    dark = RGB // 3
    data = deep_png(dark.astype(np.uint16) * step, 2)
    assert pixel_hash(decoded(data)) == pixel_hash(decoded(encoded(Image.fromarray(dark))))


def test_pictures_that_differ_in_low_bytes_alone_are_other_pixels() -> None:
    values = RGB.astype(np.uint16) * 11
    other = values.copy()
    other[9, 9, 0] += 1
    assert pixel_hash(decoded(deep_png(values, 2))) != pixel_hash(decoded(deep_png(other, 2)))


def test_the_transparent_colour_of_16_bits_is_that_colour_and_no_other_of_its_high_bytes() -> None:
    values = RGB.astype(np.uint16) * 200
    values[:20, :20], values[30:40, :20] = (60_000, 1_000, 60_001), (60_000, 1_000, 60_002)
    image = decoded(deep_png(values, 2, (b"tRNS", struct.pack(">HHH", 60_000, 1_000, 60_001))))
    alpha = np.asarray(image.pixels)[..., 3]
    assert np.array_equal(alpha == 0, (values == (60_000, 1_000, 60_001)).all(axis=2))


@pytest.mark.parametrize("colour_type", [2, 4])
def test_a_deep_png_is_turned_upright_with_its_low_bytes(colour_type: int) -> None:
    colours = TYPES[colour_type].astype(np.uint16) * 11
    turned = np.rot90(colours).copy()  # so that a clockwise turn, orientation 6, makes it upright
    values = np.concatenate([turned, np.full((*turned.shape[:2], 1), 65_535, np.uint16)], axis=2)
    body = values if colour_type == 4 else turned
    data = png(png_rows(body), turned.shape[1::-1], 16, colour_type, [(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))])
    assert np.abs(shown(data) - TYPES[colour_type]).mean() < 2


def test_significant_bits_at_the_lower_end_say_what_is_white() -> None:
    values = GREY.astype(np.uint16) * 2  # of 9 bits, of which the picture fills all
    bright = deep_png(values // 2 + 200, 0, (b"sBIT", b"\x09"))
    assert np.abs(shown(bright)[..., 0] - (GREY / 2 + 100)).max() <= 2
    assert declared_ends(bright, 511) == (0, 511)
    assert declared_ends(bright, 512) is None  # they are at the upper end, as PNG says
    assert declared_ends(deep_png(values, 0), 511) is None


def test_chunks_end_with_the_pixels_and_where_the_file_does() -> None:
    data = deep_png(RGB, 2, (b"tEXt", b"a\0b"), (b"sBIT", b"\x08\x08\x08"))
    assert [name for name, _ in chunks(data)] == [b"IHDR", b"tEXt", b"sBIT"]
    assert next(iter(chunks(data[:20])))[0] == b"IHDR"
    assert list(chunks(data[:8])) == []
