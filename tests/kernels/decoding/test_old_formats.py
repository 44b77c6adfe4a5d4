"""Formats of old programs: each is told by its bytes and shows what was put in."""

from __future__ import annotations

import numpy as np
import pytest
from odd_bytes import encoded
from odd_files import picture
from old_files import OldFile, old_files
from PIL import Image

from dedup_spark.kernels.decoding import pillow_plugins
from dedup_spark.kernels.decoding.formats import sniff_format
from dedup_spark.kernels.decoding.images import DecodedImage, ImageRejected, decode_image
from dedup_spark.kernels.decoding.rendering import to_rgb

LIMITS = {"max_pixels": 4_000_000, "min_side_px": 16}
FILES = old_files()
each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)


def decoded(file: OldFile) -> DecodedImage:
    return decode_image(file.data, **LIMITS)


@each_file
def test_the_first_bytes_tell_the_format(file: OldFile) -> None:
    assert sniff_format(file.data) == file.format


@each_file
def test_an_old_format_shows_what_was_put_in(file: OldFile) -> None:
    image = decoded(file)
    assert (image.format, image.size, image.n_frames) == (file.format, file.size, file.n_frames)
    if file.pixels is not None:
        assert np.array_equal(np.asarray(image.pixels), file.pixels)
    else:
        shown = np.asarray(to_rgb(image.pixels).resize((96, 64), Image.Resampling.BOX)).astype(int)
        assert np.abs(shown - picture()).mean() < file.like


@each_file
def test_a_file_cut_at_any_tenth_is_decoded_or_rejected_with_a_reason(file: OldFile) -> None:
    for tenth in range(1, 10):
        try:
            decode_image(file.data[: len(file.data) * tenth // 10], **LIMITS)
        except ImageRejected as e:
            assert e.reason in ("truncated", "corrupt", "unsupported_format", "not_an_image"), tenth


@each_file
def test_a_file_with_more_pixels_than_allowed_is_refused(file: OldFile) -> None:
    with pytest.raises(ImageRejected, match="too_many_pixels"):
        decode_image(file.data, max_pixels=6_000, min_side_px=1)


def test_every_plugin_that_reads_an_old_format_has_a_file() -> None:
    ordinary = {"JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PSD", "PPM", "DDS", "QOI"}
    assert {file.format for file in FILES} == set(pillow_plugins.READ_BY) - ordinary


def targa(alpha: int, attributes: int) -> bytes:
    image = Image.fromarray(picture())
    image.putalpha(alpha)
    data = bytearray(encoded(image, "TGA"))
    data[17] = data[17] & 0xF0 | attributes
    return bytes(data)


@pytest.mark.parametrize(
    ("alpha", "attributes", "mode"),
    [(0, 0, "RGB"), (0, 8, "RGBA"), (128, 0, "RGBA"), (255, 0, "RGB"), (128, 8, "RGBA")],
)
def test_a_targa_file_without_bits_of_alpha_is_opaque(alpha: int, attributes: int, mode: str) -> None:
    image = decode_image(targa(alpha, attributes), **LIMITS)
    assert image.pixels.mode == mode
    assert np.array_equal(np.asarray(image.pixels)[..., :3], picture())


def test_the_same_deep_values_are_the_same_in_fits_and_png() -> None:
    values = next(file.pixels for file in FILES if file.name == "fits 16")
    of_fits, of_png = (
        decode_image(data, **LIMITS).pixels
        for data in (next(f.data for f in FILES if f.name == "fits 16"), encoded(Image.fromarray(values), "PNG"))
    )
    assert of_fits.mode == of_png.mode
    assert of_fits.tobytes() == of_png.tobytes()


@each_file
def test_a_file_with_odd_bytes_in_its_head_is_decoded_or_rejected(file: OldFile) -> None:
    draw = np.random.default_rng(len(file.data))
    for _ in range(15):
        data = bytearray(file.data)
        for at in draw.integers(0, min(200, len(data)), 3):
            data[at] = draw.integers(0, 256)
        try:
            decode_image(bytes(data), max_pixels=800_000, min_side_px=8)
        except ImageRejected as e:
            assert e.message
