"""Files of which a part is lost and which decoders read all the same, and whole files that look a little like them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.decoding.damage import has_lost_data
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.jpeg_structure import jpeg_structure
from dedup_spark.kernels.edits import encoded

END = b"\xff\xd9"


def photo() -> Image.Image:
    return load_sample_photo("coffee.png").convert("RGB").resize((320, 216))


def is_damaged(data: bytes) -> bool:
    image = decode_image(data, max_pixels=10**8, min_side_px=8)
    return has_lost_data(data, image, jpeg_structure(data) if image.format == "JPEG" else None)


def cut(data: bytes, share: float) -> bytes:
    """Cut off and closed, with zeros to the old length, as tools for recovery write it."""
    kept = data[: int(share * len(data))]
    return kept + END + bytes(len(data) - len(kept) - 2)


WAYS: dict[str, dict[str, Any]] = {
    "baseline": {}, "progressive": {"progressive": True}, "optimised": {"optimize": True},
    "restarts": {"restart_marker_rows": 1}, "4:4:4": {"subsampling": 0},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_whole_jpeg_is_not_damaged(way: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert not is_damaged(encoded(photo(), "JPEG", quality=90, exif=exif, **WAYS[way]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_jpeg_that_was_cut_off_and_closed_is_damaged(way: str, share: float) -> None:
    assert is_damaged(cut(encoded(photo(), "JPEG", quality=90, **WAYS[way]), share))


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_the_missing_end_is_looked_for_where_the_file_ends_and_not_the_upright_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert is_damaged(cut(encoded(photo(), "JPEG", quality=90, exif=exif), 0.5))


@pytest.mark.parametrize("way", ["baseline", "progressive"])
def test_a_sector_of_zeros_inside_is_damage(way: str) -> None:
    data = encoded(photo(), "JPEG", quality=95, **WAYS[way])
    at = int(0.85 * len(data)) if way == "baseline" else data.find(b"\xff\xda", len(data) // 5) + 40
    assert is_damaged(data[:at] + bytes(600) + data[at + 600 :])


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("way", WAYS)
def test_plain_pictures_are_whole_in_spite_of_long_runs_of_one_code(level: int, way: str) -> None:
    plain = Image.new("RGB", (640, 480), (level,) * 3)
    plain.paste(photo(), (0, 0))
    assert not is_damaged(encoded(plain, "JPEG", quality=80, **WAYS[way]))


def test_bytes_behind_the_picture_are_no_damage() -> None:
    assert not is_damaged(encoded(photo(), "JPEG") + bytes(5000) + b"a maker's trailer")


@pytest.mark.parametrize("name", ["WEBP", "AVIF"])
def test_a_lost_sector_in_other_compressed_formats_is_damage(name: str) -> None:
    data = encoded(photo(), name, quality=90)
    assert not is_damaged(data)
    at = len(data) // 2
    assert is_damaged(data[:at] + bytes(1024) + data[at + 1024 :])


@pytest.mark.parametrize("at", range(0, 700, 13))
def test_the_structure_of_a_mangled_jpeg_is_read_without_an_error(at: int) -> None:
    data = bytearray(encoded(photo(), "JPEG"))
    data[at : at + 3] = b"\xff\xff\x01"
    jpeg_structure(bytes(data))
    jpeg_structure(bytes(data[: at + 2]))


def test_a_file_of_empty_segments_costs_no_more_than_a_photo() -> None:
    assert jpeg_structure(b"\xff\xd8" + b"\xff\xe0\0\x02" * 1_000_000).scans == []


def test_tables_are_those_that_pillow_reads() -> None:
    data = encoded(photo(), "JPEG", quality=70)
    expected = Image.open(io.BytesIO(data)).quantization  # type: ignore[attr-defined]
    assert {k: v.tolist() for k, v in jpeg_structure(data).tables.items()} == expected
