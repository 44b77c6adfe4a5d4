"""Headers without a magic number: each field counts, and hostile ones cost no time."""

from __future__ import annotations

import gzip
import struct
import time
import zlib

import numpy as np
import pytest
from old_files import old_files

from dedup_spark.kernels.decoding.structures import format_by_structure, is_svg

BY_NAME = {file.name: file.data for file in old_files()}


def changed(name: str, at: int, layout: str, value: float) -> bytes:
    data = bytearray(BY_NAME[name])
    struct.pack_into(layout, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("at", "layout", "value"),
    [(0, "<I", 41), (4, "<i", 0), (4, "<i", -96), (8, "<i", 0), (12, "<H", 2), (14, "<H", 3), (16, "<I", 7)],
)
def test_a_bitmap_without_file_header_is_known_by_all_of_its_fields(at: int, layout: str, value: int) -> None:
    assert format_by_structure(BY_NAME["dib"]) == "DIB"
    assert format_by_structure(changed("dib", at, layout, value)) is None


@pytest.mark.parametrize(
    ("field", "value"), [(2, 0.0), (5, 3.0), (12, -1.0), (13, 1.5), (22, 7.0), (23, float("nan")), (12, float("inf"))]
)
def test_a_spider_file_is_known_by_numbers_that_agree(field: int, value: float) -> None:
    data = BY_NAME["spider"]
    order = "<" if struct.unpack_from("<f", data, 4 * 4)[0] == 1 else ">"
    swapped = np.frombuffer(data, "<f4").astype(">f4").tobytes()
    assert {format_by_structure(data), format_by_structure(swapped)} == {"SPIDER"}
    assert format_by_structure(changed("spider", 4 * (field - 1), order + "f", value)) is None


def test_a_brush_is_known_by_its_name_and_version() -> None:
    assert format_by_structure(BY_NAME["gbr"]) == "GBR"
    assert format_by_structure(changed("gbr", 4, ">I", 3)) is None
    assert format_by_structure(changed("gbr", 0, ">I", 20)) is None


def test_a_packed_drawing_or_volume_is_known_by_what_is_packed() -> None:
    assert format_by_structure(gzip.compress(b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 900)) == "SVG"
    assert format_by_structure(gzip.compress(bytes(344) + b"n+1\0" + bytes(9000))) == "NIfTI"
    assert format_by_structure(gzip.compress(b"words" * 99)) is None
    assert format_by_structure(gzip.compress(bytes(1 << 24))) is None
    assert format_by_structure(b"\x1f\x8b\x08" + bytes(60)) is None
    assert format_by_structure(zlib.compress(b"<svg/>" * 99)) is None


def test_a_bitmap_of_the_window_system_may_begin_with_comments() -> None:
    text = b"#define odd_width 9\n#define odd_height 9\nstatic unsigned char odd_bits[] = {\n 0x00 };"
    for start in (b"", b"/* made by hand */\n", b"\n/* one */ /* two **/\n"):
        assert format_by_structure(start + text) == "XBM"
    assert format_by_structure(b"int x; " + text) is None
    assert format_by_structure(text.replace(b"_bits", b"_bytes")) is None


@pytest.mark.parametrize("text", [b"/**/", b"/*", b"#define width 1 ", b"#define width 1 #define height 1 ", b"<?xml"])
def test_a_text_that_is_made_to_cost_time_costs_none(text: bytes) -> None:
    start = time.process_time()
    assert format_by_structure(text * 20_000) is None
    assert not is_svg(text * 20_000)
    assert time.process_time() - start < 1


def test_no_bytes_raise() -> None:
    draw = np.random.default_rng(17)
    for data in BY_NAME.values():
        for n in (0, 1, 17, 18, 40, 66, 107, 256, 2052):
            format_by_structure(data[:n])
    for _ in range(300):
        format_by_structure(draw.integers(0, 256, int(draw.integers(0, 400)), np.uint8).tobytes())
