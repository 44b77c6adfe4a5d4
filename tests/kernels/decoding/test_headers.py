"""What headers claim, on bytes made by hand."""

from __future__ import annotations

import struct

import pytest

from dedup_spark.kernels.decoding.headers import box, claimed_size, ico_entries, jxl_orientation, tiff_directories


def tiff_chain(n: int) -> bytes:
    """n directories of one tag each, the width."""
    data = b"II*\0" + struct.pack("<I", 8)
    for i in range(n):
        after = len(data) + 18 if i < n - 1 else 0
        data += struct.pack("<HHHIII", 1, 256, 4, 1, i + 1, after)
    return data


def one_tag(kind: int, layout: str, value: int) -> bytes:
    entry = struct.pack("<HHQ", 254, kind, 1) + struct.pack(layout, value).ljust(8, b"\0")
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", 1) + entry


def test_of_a_chain_of_directories_the_first_32_are_read() -> None:
    found = [tags[256][0] for tags in tiff_directories(tiff_chain(40))]
    assert found == list(range(1, 33))


@pytest.mark.parametrize(
    ("kind", "layout"), [(1, "<B"), (2, "<B"), (3, "<H"), (4, "<I"), (7, "<B"), (13, "<I"), (16, "<Q"), (18, "<Q")]
)
def test_every_kind_of_whole_number_is_read(kind: int, layout: str) -> None:
    assert next(tiff_directories(one_tag(kind, layout, 77)))[254] == (77,)
    assert 254 not in next(tiff_directories(one_tag(17, "<Q", 77)))


def test_a_tile_larger_than_its_image_counts() -> None:
    tags = [(256, 90), (257, 60), (322, 5_000), (323, 4_000)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert claimed_size(data, "TIFF") == (5_000, 4_000)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0\0\0\x0cftyp" + bytes(4), (8, 12)),
        (b"\0\0\0\0mdat" + bytes(30), (8, 38)),
        (b"\0\0\0\1mdat" + struct.pack(">Q", 20) + bytes(4), (16, 20)),
        (b"\0\0\0\7mdat" + bytes(4), (8, 13)),
        (b"\0\0\0\1mdat" + struct.pack(">Q", 15) + bytes(4), (16, 21)),
        (b"\0\0\0\0mda", (8, 8)),
        (b"\0\0\0\0mdat", (8, 8)),
    ],
    ids=[
        "plain",
        "to the end",
        "64 bits",
        "shorter than its head",
        "64 bits and shorter",
        "cut in its head",
        "empty to the end",
    ],
)
def test_where_a_box_begins_and_ends(data: bytes, expected: tuple[int, int]) -> None:
    assert box(data, 0) == expected


def test_of_an_icon_only_whole_entries_are_read() -> None:
    data = b"\0\0\1\0\2\0" + bytes(8) + struct.pack("<II", 10, 38) + bytes(8) + struct.pack("<II", 20, 48)
    assert ico_entries(data) == [(38, 10), (48, 20)]
    assert ico_entries(data[:-1]) == [(38, 10)]


def test_without_a_header_a_jxl_file_is_upright() -> None:
    assert jxl_orientation(b"") == jxl_orientation(b"\xff\x0a") == 1
    assert claimed_size(b"", "JXL") is None
