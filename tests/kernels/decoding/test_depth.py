"""Bits that a picture needs, by its numbers, and those that a header declares."""

from __future__ import annotations

import io

import numpy as np
import pytest
from odd_bytes import encoded, png, png_rows
from odd_files import picture
from PIL import Image

from dedup_spark.kernels.decoding.depth import bits_needed
from dedup_spark.kernels.decoding.headers import avif_bits, jxl_bits
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.features.hashing import pixel_hash

GREY = np.asarray(Image.fromarray(picture()).convert("L"))
DEEP = GREY.astype(np.uint16) * 256 + np.arange(GREY.size, dtype=np.uint16).reshape(GREY.shape) % 251


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        (GREY, 8), (DEEP, 16), (GREY.astype(np.uint16), 8), (GREY.astype(np.uint16) * 257, 8),
        (GREY.astype(np.uint16) * 256, 8), (GREY.astype(np.int32), 8), (DEEP.astype(np.int32), 16),
        (-DEEP.astype(np.int32) // 2, 16), (DEEP.astype(np.int32) * 300, 32), (GREY.astype(np.float32), 8),
        (DEEP.astype(np.float32), 16), (DEEP.astype(np.float32) / 7, 32),
    ],
)  # fmt: skip
def test_as_many_bits_count_as_the_numbers_need_whatever_their_type(values: np.ndarray, bits: int) -> None:
    assert bits_needed([Image.fromarray(values)]) == bits


def test_what_is_no_number_needs_no_bits() -> None:
    values = GREY.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    assert bits_needed([Image.fromarray(values)]) == 8


def test_16_bit_colours_are_other_pixels_than_their_high_bytes_and_those_that_hold_8_bits_are_not() -> None:
    rgb = picture()
    size = rgb.shape[1::-1]
    deep = rgb.astype(np.uint16) * 256 + np.arange(rgb.size, dtype=np.uint16).reshape(rgb.shape) % 251
    kinds = [png(png_rows(values), size, 16, 2, ()) for values in (deep, rgb.astype(np.uint16) * 257)]
    found = [decode_image(data, max_pixels=10**6, min_side_px=8) for data in (*kinds, encoded(Image.fromarray(rgb)))]
    assert [image.bits for image in found] == [16, 8, 8]
    hashes = [pixel_hash(image) for image in found]
    assert hashes[0] != hashes[1] == hashes[2]


def test_avif_and_jpeg_xl_declare_their_bits() -> None:
    data = io.BytesIO()
    Image.fromarray(picture()).save(data, "AVIF")
    eight = data.getvalue()
    at = eight.index(b"av1C") + 6
    assert avif_bits(eight) == 8
    assert [avif_bits(eight[:at] + bytes([flags]) + eight[at + 1 :]) for flags in (0x40, 0x60)] == [10, 12]
    assert avif_bits(eight[:at]) == avif_bits(b"") == 0
    small = 0b1 | 4 << 1 | 1 << 6  # 40 px high, as wide as high
    plain, of_12, of_16 = (small | bits << 9 for bits in (0b1, 0b10000, 0b0 | 0b110 << 2 | 15 << 5))
    assert [jxl_bits(b"\xff\x0a" + bits.to_bytes(16, "little")) for bits in (plain, of_12, of_16)] == [8, 12, 16]
