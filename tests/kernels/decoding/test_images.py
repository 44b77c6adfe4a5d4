from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from odd_bytes import encoded
from PIL import Image
from tiny_lake import TinyLake, build_tiny_lake

from dedup_spark.kernels.decoding import images, orientation
from dedup_spark.kernels.decoding.images import REJECT_REASONS, ImageRejected, decode_image, sniff_format
from dedup_spark.kernels.decoding.rendering import render, to_rgb

LIMITS = {"max_pixels": 400_000_000, "min_side_px": 16}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> TinyLake:
    return build_tiny_lake(tmp_path_factory.mktemp("lake"))


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    x = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(x.astype(np.uint8))


def test_every_readable_file_of_the_tiny_lake_decodes_to_pillows_own_size(lake: TinyLake) -> None:
    for path in lake.truth:
        image = decode_image((lake.folder / path).read_bytes(), **LIMITS)
        assert min(image.pixels.size) >= 16, path
        assert image.pixels.mode in ("RGB", "RGBA", "I;16"), path


def test_every_broken_file_of_the_tiny_lake_is_rejected_for_the_right_reason(lake: TinyLake) -> None:
    for path, reason in lake.rejects.items():
        with pytest.raises(ImageRejected) as rejected:
            decode_image((lake.folder / path).read_bytes(), **LIMITS)
        assert rejected.value.reason == reason, path
        assert rejected.value.reason in REJECT_REASONS


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_file_cut_at_any_tenth_is_decoded_or_rejected_but_never_raises_otherwise(
    image_format: str, tenth: int
) -> None:
    data = encoded(gradient(200, 150), image_format)
    try:
        decode_image(data[: len(data) * tenth // 10], **LIMITS)
    except ImageRejected as e:
        assert e.reason in ("truncated", "corrupt")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(gradient(), "JPEG", exif=exif)
    image = decode_image(data, **LIMITS)
    upright = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
               4: Image.Transpose.FLIP_TOP_BOTTOM,
               5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
               8: Image.Transpose.ROTATE_90}[orientation]  # fmt: skip
    stored = Image.open(io.BytesIO(data))
    assert image.exif_orientation == orientation
    assert np.array_equal(image.pixels, stored.transpose(upright) if upright is not None else stored)


def test_a_bomb_is_refused_before_its_pixels_exist() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    with pytest.raises(ImageRejected, match="too_many_pixels"):
        decode_image(bomb, **LIMITS)


def test_pixels_at_the_limit_pass_and_one_more_does_not() -> None:
    data = encoded(gradient(64, 48), "PNG")
    assert decode_image(data, max_pixels=64 * 48, min_side_px=48).pixels.size == (64, 48)
    with pytest.raises(ImageRejected, match="too_many_pixels"):
        decode_image(data, max_pixels=64 * 48 - 1, min_side_px=1)
    with pytest.raises(ImageRejected, match="too_small"):
        decode_image(data, max_pixels=64 * 48, min_side_px=49)


def test_opaque_alpha_is_no_alpha_and_real_alpha_is_shown_over_white() -> None:
    opaque = gradient().convert("RGBA")
    assert decode_image(encoded(opaque, "PNG"), **LIMITS).pixels.mode == "RGB"
    clear = Image.new("RGBA", (32, 32), (10, 20, 30, 0))
    image = decode_image(encoded(clear, "PNG"), **LIMITS)
    assert image.pixels.mode == "RGBA"
    assert to_rgb(image.pixels).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16))
    rgb = np.asarray(render(decode_image(encoded(deep, "PNG"), **LIMITS), 64))
    assert rgb.min() == 0
    assert rgb.max() == 255
    assert 120 < rgb.mean() < 135


def test_an_image_format_without_decoder_is_not_called_corrupt() -> None:
    with pytest.raises(ImageRejected, match="unsupported_format"):
        decode_image(b"gimp xcf file" + b"\0" * 100, **LIMITS)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_the_first_bytes_tell_the_format(image_format: str) -> None:
    assert sniff_format(encoded(gradient(), image_format)) == image_format


def test_text_is_no_image() -> None:
    assert sniff_format(b"<html><body>404</body></html>") is None


def test_the_file_name_is_not_asked(lake: TinyLake) -> None:
    path: Path = next(
        p
        for p in (lake.folder / "").rglob("*")
        if p.suffix == ".jpg" and p.is_file() and p.read_bytes()[:4] == b"\x89PNG"
    )
    assert decode_image(path.read_bytes(), **LIMITS).format == "PNG"


@pytest.mark.parametrize(("tag", "expected"), [(0, 1), (1, 1), (8, 8), (9, 1), ("upright", 1)])
def test_an_exif_orientation_that_is_none_is_upright(tag: object, expected: int) -> None:
    image = gradient()
    image.getexif()[0x0112] = tag
    assert orientation.exif_orientation(image) == expected


@pytest.mark.parametrize("error", [MemoryError(), OSError("decoder: Out of Memory"), OSError("Cannot allocate memory")])
def test_a_decoder_without_memory_names_the_setting(error: BaseException) -> None:
    rejection = images._rejection(b"", "PNG", error)
    assert rejection.reason == "too_many_pixels"
    assert "raise extract.decoder_memory_bytes" in rejection.message


def test_a_message_names_the_error_and_is_no_longer_than_a_column_needs() -> None:
    rejection = images._rejection(encoded(gradient(), "PNG"), "PNG", ValueError("x" * 600))
    assert rejection.message == "ValueError: " + "x" * 488
