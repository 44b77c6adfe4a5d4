"""Colours of a PNG that it describes by numbers: gAMA, cHRM and cICP, and which of them counts."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from odd_bytes import icc_profile, png, png_chunk, png_rows
from odd_files import picture
from PIL import Image, ImageCms

from dedup_spark.kernels.decoding import png_colours
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.rendering import colours_of_picture, render
from dedup_spark.kernels.features.hashing import pixel_hash

RGB = picture()
SIZE = (RGB.shape[1], RGB.shape[0])
BT709, P3 = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
SRGB = (b"sRGB", b"\0")


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def primaries(values: tuple[float, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in values))


def coded(*values: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes(values)


def light(rgb: np.ndarray) -> np.ndarray:
    """Linear light 0 to 1 of sRGB."""
    v = rgb / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def made(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    colour_type = 0 if values.ndim == 2 else 2
    return png(png_rows(values), SIZE, 8 * values.dtype.itemsize, colour_type, chunks)


def shown(data: bytes) -> np.ndarray:
    return np.asarray(render(decode_image(data, max_pixels=10**6, min_side_px=8), 256)).astype(int)


@pytest.mark.parametrize("value", [0.35, 0.55, 0.7, 1.0])
def test_a_gamma_without_a_profile_is_applied(value: float) -> None:
    for rgb in (RGB, RGB[..., 1]):
        numbers = (255 * light(rgb) ** value).round().astype(np.uint8)
        assert np.abs(shown(made(numbers, gamma(value))) - (rgb if rgb.ndim == 3 else rgb[..., None])).mean() < 3
        deep = (65_535 * light(rgb) ** value).round().astype(np.uint16)
        assert np.abs(shown(made(deep, gamma(value))) - (rgb if rgb.ndim == 3 else rgb[..., None])).mean() < 3


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(0.45455)], [gamma(0.45)], [gamma(0.45455), primaries(BT709)], [primaries(P3)], [gamma(0)],
        [gamma(40_000)], [SRGB, gamma(1.0)], [coded(1, 13, 0, 1), gamma(1.0)], [coded(1, 1, 0, 1)],
        [coded(9, 16, 0, 1)], [gamma(0.45455), primaries((0.3127, 0.0, *P3[2:]))],
        [gamma(0.45455), primaries((0.3, 0.3) * 4)],
    ],
)  # fmt: skip
def test_what_is_nearly_srgb_or_makes_no_sense_changes_nothing(chunks: list[tuple[bytes, bytes]]) -> None:
    data = made(RGB, *chunks)
    assert np.array_equal(shown(data), RGB)
    one, plain = (decode_image(d, max_pixels=10**6, min_side_px=8) for d in (data, made(RGB)))
    assert pixel_hash(one) == pixel_hash(plain)


def test_wide_primaries_make_the_same_numbers_more_colourful() -> None:
    wide = shown(made(RGB, gamma(0.45455), primaries(P3)))
    assert np.array_equal(wide, shown(made(RGB, coded(12, 13, 0, 1))))
    chroma = [np.ptp(v, axis=2).mean() for v in (RGB.astype(int), wide, shown(made(RGB, coded(9, 13, 0, 1))))]
    assert chroma[0] + 2 < chroma[1] < chroma[2]


def test_light_by_its_code_is_shown_as_such() -> None:
    linear = (65_535 * light(RGB)).round().astype(np.uint16)
    assert np.abs(shown(made(linear, coded(1, 8, 0, 1))) - RGB).mean() < 3


def test_a_code_goes_before_a_profile_and_a_profile_before_a_gamma() -> None:
    linear = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile("RGB"))).tobytes()
    image = Image.fromarray(RGB)
    out = io.BytesIO()
    image.save(out, "PNG", icc_profile=linear)
    data = out.getvalue()
    with_gamma = data[:33] + png_chunk(*gamma(1.0)) + data[33:]
    with_code = data[:33] + png_chunk(*coded(1, 13, 0, 1)) + data[33:]
    assert np.array_equal(shown(with_gamma), shown(data))
    assert np.array_equal(shown(with_code), RGB)


def test_the_profile_that_is_made_has_the_primaries_that_are_asked_for() -> None:
    pairs = tuple(zip(P3[::2], P3[1::2], strict=True))
    found = png_colours._made(pairs, None)
    assert found is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(found)).profile
    assert profile.red_colorant[0] == pytest.approx((0.5151, 0.2412, -0.0011), abs=2e-4)  # Display P3, published
    assert profile.green_colorant[0] == pytest.approx((0.2920, 0.6922, 0.0419), abs=2e-4)
    assert profile.blue_colorant[0] == pytest.approx((0.1571, 0.0666, 0.7841), abs=2e-4)


def test_other_files_keep_their_profile() -> None:
    out = io.BytesIO()
    Image.fromarray(RGB).save(out, "JPEG", icc_profile=icc_profile("RGB"))
    image = decode_image(out.getvalue(), max_pixels=10**6, min_side_px=8)
    assert colours_of_picture(image) is not None
