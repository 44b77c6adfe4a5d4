"""TIFF of every width, sign and number of samples: seen as the picture that was put in, whatever its layout."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from odd_bytes import STRIPS, tiff, tiff_tags
from odd_files import picture
from PIL import Image, ImageCms

from dedup_spark.kernels.decoding.images import DecodedImage, ImageRejected, decode_image
from dedup_spark.kernels.decoding.rendering import render

RGB = picture()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
HEIGHT, WIDTH = GREY.shape
LIMITS = {"max_pixels": 10**6, "min_side_px": 8}


def decoded(data: bytes) -> DecodedImage:
    return decode_image(data, **LIMITS)


def shown(data: bytes) -> np.ndarray:
    return np.asarray(render(decoded(data), 256)).astype(int)


def is_seen_as(data: bytes, expected: np.ndarray, levels: float = 2.5) -> bool:
    """Whether the mean difference is within so many levels; a range that was spread moves each a little."""
    whole = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    return bool(np.abs(shown(data) - whole).mean() <= levels)


def written(values: np.ndarray, byteorder: Any = "<", **how: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, metadata=None, byteorder=byteorder, **how)
    return out.getvalue()


def planes(values: np.ndarray, planarconfig: str) -> np.ndarray:
    return values if planarconfig == "contig" else np.moveaxis(values, 2, 0).copy()


GREYS = {
    "8 bits": GREY, "16 bits": GREY.astype(np.uint16) * 257, "12 bits in 16": GREY.astype(np.uint16) * 9,
    "32 bits": GREY.astype(np.uint32) * 16_843_009, "16 bits in 32": GREY.astype(np.uint32) * 257,
    "64 bits": GREY.astype(np.uint64) << 56, "signed 8": (GREY.astype(int) - 128).astype(np.int8),
    "signed 16": GREY.astype(np.int16) * 16 - 1024, "signed 32": GREY.astype(np.int32) * 999_999 - 77,
    "half": (GREY / 255).astype(np.float16), "single": (GREY / 255).astype(np.float32), "double": GREY / 25.5 - 3,
}  # fmt: skip


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("name", GREYS)
def test_grey_of_every_width_and_sign_is_seen(name: str, byteorder: str, compression: str | None) -> None:
    how = {"byteorder": byteorder, "compression": compression}
    values = GREYS[name]
    assert is_seen_as(written(values, photometric="minisblack", **how), GREY)
    highest = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 0
    negative = highest - values if values.dtype.kind == "u" else -1 - values
    assert is_seen_as(written(negative, photometric="miniswhite", **how), GREY)


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_colours_of_every_layout_are_seen(byteorder: str, planarconfig: str, compression: Any, tile: Any) -> None:
    how = {"byteorder": byteorder, "planarconfig": planarconfig, "compression": compression, "tile": tile}
    for values in (
        RGB, RGB.astype(np.uint16) * 257, RGB.astype(np.uint16) * 11, RGB.astype(np.uint32) * 16_843_009,
        RGB.astype(np.int16) * 11 - 500, (RGB / 255).astype(np.float32),
    ):  # fmt: skip
        assert is_seen_as(written(planes(values, planarconfig), photometric="rgb", **how), RGB)


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("n_bands", [3, 4, 5, 13])
def test_of_many_bands_the_first_three_are_seen(n_bands: int, planarconfig: str, photometric: str) -> None:
    bands = np.concatenate([RGB] + [255 - RGB[..., :1]] * (n_bands - 3), axis=2)
    extra = (0,) * (n_bands - (3 if photometric == "rgb" else 1))
    how = {"planarconfig": planarconfig, "photometric": photometric, "extrasamples": extra}
    for values in (bands, bands.astype(np.uint16) * 11, bands.astype(np.float64) / 2_000):
        assert is_seen_as(written(planes(values, planarconfig), **how), RGB)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_other_colours_of_16_bits_are_seen(planarconfig: str) -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    signed = np.asarray(ImageCms.applyTransform(Image.fromarray(RGB), to_lab))
    unsigned = signed.copy()
    unsigned[..., 1:] ^= 128
    for values, photometric, expected in (
        (np.asarray(cmyk), "separated", np.asarray(cmyk.convert("RGB"))), (signed, "cielab", RGB),
        (unsigned, "icclab", RGB),
    ):  # fmt: skip
        for stored in (values, values.astype(np.uint16) << 8):
            data = written(planes(stored, planarconfig), photometric=photometric, planarconfig=planarconfig)
            assert is_seen_as(data, expected)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("kind", [1, 2])
def test_alpha_of_16_bits_is_alpha_whether_multiplied_in_or_not(kind: int, planarconfig: str) -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 200, np.uint8)
    alpha[:20] = 0
    for colours in (RGB, GREY[..., None]):
        stored = colours * (alpha / 255.0) if kind == 1 else colours
        values = (np.concatenate([stored, alpha], axis=2) * 257.0).round().astype(np.uint16)
        photometric = "rgb" if colours is RGB else "minisblack"
        how = {"photometric": photometric, "planarconfig": planarconfig, "extrasamples": (kind,)}
        image = decoded(written(planes(values, planarconfig), **how))
        found = np.asarray(image.alpha) if image.alpha is not None else np.asarray(image.pixels)[..., 3]
        assert np.array_equal(found, alpha[..., 0])
        on_white = colours * (200 / 255) + 255 * (55 / 255)
        assert np.abs(np.asarray(render(image, 256)).astype(int)[20:] - on_white[20:]).mean() < 4


def test_a_fourth_band_that_nobody_calls_alpha_is_one_only_where_it_is_opaque_somewhere() -> None:
    near_infrared = 255 - RGB[..., :1]
    bands = np.concatenate([RGB, near_infrared], axis=2).astype(np.uint16)
    fourth = tiff_tags(WIDTH, HEIGHT, 2, 16, 4)
    assert is_seen_as(tiff((fourth, (bands * 11).tobytes(), STRIPS)), RGB)
    bands[..., 3] = 255
    image = decoded(tiff((fourth, (bands * 257).tobytes(), STRIPS)))
    assert np.array_equal(np.asarray(image.pixels), RGB)
    half = bands.copy()
    half[:20, :, 3] = 0
    image = decoded(tiff((fourth | {338: (3, [2])}, (half * 16).tobytes(), STRIPS)))  # 12 bits, the alpha too
    assert np.array_equal(np.asarray(image.pixels)[..., 3], half[..., 3])


def packed(values: np.ndarray, n_bits: int) -> bytes:
    bits = values[..., None].astype(np.int64) >> np.arange(n_bits)[::-1] & 1
    return np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


@pytest.mark.parametrize("order", ["II*\0", "MM\0*"])
@pytest.mark.parametrize("n_bits", [10, 12, 14])
def test_bits_that_fill_no_byte_are_unpacked_and_scaled_by_their_number(n_bits: int, order: str) -> None:
    values = GREY.astype(np.uint16) << (n_bits - 8)
    head = order.encode() + bytes(4)
    for photometric in (0, 1):
        stored = (1 << n_bits) - 1 - values if photometric == 0 else values
        data = tiff((tiff_tags(WIDTH, HEIGHT, photometric, n_bits, 1), packed(stored, n_bits), STRIPS), head=head)
        assert np.array_equal(np.asarray(decoded(data).pixels), values)
        assert np.array_equal(shown(data)[..., 0], GREY)
    colours = RGB.astype(np.uint16) << (n_bits - 8)
    data = tiff((tiff_tags(WIDTH, HEIGHT, 2, n_bits, 3), packed(colours, n_bits), STRIPS), head=head)
    assert np.array_equal(shown(data), RGB)


def differences(values: np.ndarray, order: str) -> bytes:
    """By the second predictor, in rows of pixels of samples."""
    first = np.zeros_like(values[:, :1])
    return np.diff(values, axis=1, prepend=first).astype(values.dtype.newbyteorder(order)).tobytes()


def float_differences(values: np.ndarray) -> bytes:
    """By the third predictor: bytes of equal weight together, then the differences of each to the sample before."""
    n_rows, _, n_samples = values.shape
    parts = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(n_rows, -1, values.dtype.itemsize)
    rows = parts.transpose(0, 2, 1).reshape(n_rows, -1, n_samples)
    return np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1])).tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_predictors_are_undone(order: str) -> None:
    head = (b"II*\0" if order == "<" else b"MM\0*") + bytes(4)
    whole = RGB.astype(np.uint16) * 257
    tags = tiff_tags(WIDTH, HEIGHT, 2, 16, 3, 8) | {317: (3, [2])}
    assert np.array_equal(shown(tiff((tags, zlib.compress(differences(whole, order)), STRIPS), head=head)), RGB)
    for dtype in (np.float16, np.float32, np.float64):
        shares = (RGB / 255).astype(dtype)
        bits = 8 * shares.dtype.itemsize
        tags = tiff_tags(WIDTH, HEIGHT, 2, bits, 3, 8) | {317: (3, [3]), 339: (3, [3] * 3)}
        data = tiff((tags, zlib.compress(float_differences(shares)), STRIPS), head=head)
        assert np.abs(shown(data) - RGB).max() <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "tiff_deflate"])
def test_every_compression_of_bytes_is_read(compression: str) -> None:
    out = io.BytesIO()
    values = GREY.astype(np.uint16) * 9
    Image.fromarray(values).save(out, "TIFF", compression=compression)
    assert np.array_equal(np.asarray(decoded(out.getvalue()).pixels), values)


def test_what_another_program_writes_in_16_bits_is_seen() -> None:
    for values in (RGB.astype(np.uint16) * 257, RGB.astype(np.uint16) * 9):
        _, data = cv2.imencode(".tiff", values[..., ::-1])  # LZW, with differences
        assert is_seen_as(data.tobytes(), RGB)


def test_strips_of_any_height_a_reversed_order_of_bits_and_a_segment_left_out_are_read() -> None:
    values = GREY.astype(np.uint16) * 9
    for rows_per_strip in (1, 7, 64, 2**32 - 1):
        data = bytearray(written(values, photometric="minisblack", rowsperstrip=min(rows_per_strip, 64)))
        assert np.array_equal(np.asarray(decoded(bytes(data)).pixels), values)
    turned = bytes(int(f"{b:08b}"[::-1], 2) for b in values.tobytes())
    data = tiff((tiff_tags(WIDTH, HEIGHT, 1, 16, 1) | {266: (3, [2])}, turned, STRIPS))
    assert np.array_equal(np.asarray(decoded(data).pixels), values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_page_is_turned_upright(orientation: int) -> None:
    from odd_files import stored_for

    for rgb in (RGB, np.repeat(GREY[..., None], 3, axis=2)):
        stored = np.asarray(stored_for(orientation, rgb)).astype(np.uint16) * 257
        grey = rgb is not RGB
        tag = (274, 3, 1, orientation, True)
        photometric = "minisblack" if grey else "rgb"
        data = written(stored[..., 0].copy() if grey else stored, photometric=photometric, extratags=[tag])
        assert is_seen_as(data, rgb, 0)
        assert (decoded(data).exif_orientation, decoded(data).size) == (orientation, (WIDTH, HEIGHT))


def test_the_greatest_number_that_a_file_declares_is_white() -> None:
    values = GREY.astype(np.uint16) * 4  # of 10 bits, of which the picture fills more than half
    bright = values[:, : WIDTH // 2].copy()
    data = written(bright, photometric="minisblack", extratags=[(281, 3, 1, 1023, True)])
    assert np.abs(shown(data)[..., 0] - GREY[:, : WIDTH // 2]).max() <= 1


def test_palettes_of_8_bits_in_the_place_of_16_are_colours() -> None:
    colours = Image.fromarray(RGB).quantize(64)
    palette = np.array(colours.getpalette("RGB"), np.uint16).reshape(-1, 3)
    table = np.zeros((3, 256), np.uint16)
    table[:, : len(palette)] = palette.T
    for scale in (1, 257):
        data = written(np.asarray(colours), photometric="palette", colormap=table * scale)
        assert is_seen_as(data, np.asarray(colours.convert("RGB")), 0)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_chroma_of_fewer_pixels_is_widened_in_plain_bytes_too(subsampling: tuple[int, int]) -> None:
    across, down = subsampling
    smooth = np.asarray(Image.fromarray(RGB).resize((6, 4)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    luma, *chroma = np.moveaxis(np.asarray(Image.fromarray(smooth).convert("YCbCr")), 2, 0)
    units = luma.reshape(HEIGHT // down, down, WIDTH // across, across).transpose(0, 2, 1, 3)
    units = units.reshape(HEIGHT // down, WIDTH // across, -1)
    means = [c.reshape(HEIGHT // down, down, WIDTH // across, across).mean(axis=(1, 3)).round() for c in chroma]
    stored = np.concatenate([units, *(m[..., None] for m in means)], axis=2).astype(np.uint8)
    tags = tiff_tags(WIDTH, HEIGHT, 6, 8, 3) | {530: (3, [across, down])}
    assert is_seen_as(tiff((tags, stored.tobytes(), STRIPS)), smooth, 4)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_deep_page_that_is_cut_is_truncated_or_corrupt_and_never_half_a_picture(compression: str | None) -> None:
    values = RGB.astype(np.uint16) * 9
    pixels = zlib.compress(values.tobytes()) if compression else values.tobytes()
    data = tiff((tiff_tags(WIDTH, HEIGHT, 2, 16, 3, 8 if compression else 1), pixels, STRIPS))
    at = struct.unpack_from("<I", data, 4)[0]
    n_bytes = len(data) - at
    front = bytearray(data[at:])  # the directory in front, so that it stays whole
    for place in range(2, len(front) - 12, 12):
        tag, _, count = struct.unpack_from("<HHI", front, place)
        if tag == 273 or (tag == 258 and count > 2):
            old = struct.unpack_from("<I", front, place + 8)[0]
            struct.pack_into("<I", front, place + 8, old + n_bytes if tag == 273 else old - at + 8)
    data = data[:4] + struct.pack("<I", 8) + bytes(front) + data[8:at]
    assert is_seen_as(data, RGB)
    for share in (0.5, 0.9):
        with pytest.raises(ImageRejected, match=r"truncated|corrupt"):
            decoded(data[: round(len(data) * share)])


def test_pages_that_differ_in_their_low_bytes_alone_are_other_pixels() -> None:
    from dedup_spark.kernels.features.hashing import pixel_hash

    values = RGB.astype(np.uint16) * 11
    other = values.copy()
    other[5, 5, 1] += 1
    one, two, again = (pixel_hash(decoded(written(v, photometric="rgb"))) for v in (values, other, values))
    assert one == again != two
    wide = GREY.astype(np.float64) / 7
    almost = wide + 1e-12
    assert pixel_hash(decoded(written(wide, photometric="minisblack"))) != pixel_hash(
        decoded(written(almost, photometric="minisblack"))
    )


def test_what_whole_16_bit_colours_show_are_their_high_bytes_as_before() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 65_536, (HEIGHT, WIDTH, 3), np.uint16)
    image = decoded(written(values, photometric="rgb"))
    assert np.array_equal(np.asarray(image.pixels), values >> 8)
    assert image.bits == 16
