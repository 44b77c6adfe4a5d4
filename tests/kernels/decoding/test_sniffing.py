"""Formats whose first bytes say little: every field counts, and one that does not fit makes it no image."""

from __future__ import annotations

import pytest

from dedup_spark.kernels.decoding.formats import sniff_format


def made(n_bytes: int, fields: dict[int, int]) -> bytes:
    data = bytearray(n_bytes)
    for at, value in fields.items():
        data[at] = value
    return bytes(data)


FIELDS = {
    "SGI": ({0: 1, 1: 0xDA, 2: 1, 3: 2}, [(1, 0xDB), (2, 2), (3, 3), (3, 0)]),
    "PCX": ({0: 10, 1: 5, 2: 1, 3: 8, 64: 9, 65: 4}, [(0, 11), (1, 1), (1, 6), (2, 2), (3, 3), (65, 5)]),
    "FLI": ({4: 0x11, 5: 0xAF, 9: 1, 11: 1, 12: 1}, [(4, 0x13), (9, 0), (11, 0)]),
    "TGA": (
        {2: 2, 13: 1, 15: 1, 16: 24},
        [(1, 1), (2, 4), (2, 0), (3, 1), (7, 1), (13, 0), (15, 0), (16, 23), (17, 0x40)],
    ),
    "TGA mapped": ({1: 1, 2: 1, 7: 24, 13: 1, 15: 1, 16: 8}, [(1, 0), (2, 2), (7, 23), (16, 24)]),
    "TGA grey": ({2: 3, 13: 1, 15: 1, 16: 8}, [(16, 24)]),
}


@pytest.mark.parametrize("name", FIELDS)
def test_old_formats_are_known_by_all_of_their_fields(name: str) -> None:
    (fields, wrong), image_format = FIELDS[name], name.split()[0]
    assert sniff_format(made(66, fields)) == image_format
    for at, value in wrong:
        assert sniff_format(made(66, fields | {at: value})) is None, (at, value)
    n_bytes = 18 if image_format == "TGA" else 66
    assert sniff_format(made(n_bytes, {at: v for at, v in fields.items() if at < n_bytes})) == image_format
    cut = n_bytes - 1
    assert sniff_format(made(cut, {at: v for at, v in fields.items() if at < cut})) is None, "too short for a header"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(128) + b"DICM", "DICOM"),
        (bytes(128) + b"DICM and more", "DICOM"),
        (bytes(70) + b"TRUEVISION-XFILE.\0", "TGA"),
        (b"II\x1a\0\0\0HEAPCCDR", "CRW"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"\0\0\1\0\0\1", "ICO"),
        (b"\0\0\1\0\0\0", None),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "BMP"),
        (b"BM" + bytes(12) + b"\x29\0\0\0", None),
        (b"P6 1 1", "PPM"),
        (b"P6x", None),
        (b"#define a_width 9\n#define a_height 9\nstatic char a_bits[] = {" + bytes(30), "XBM"),
    ],
)
def test_other_first_bytes(data: bytes, expected: str | None) -> None:
    assert sniff_format(data) == expected


@pytest.mark.parametrize("depth", [1, 8, 16])
def test_a_grey_tga_has_one_of_three_depths(depth: int) -> None:
    assert sniff_format(made(66, {2: 3, 13: 1, 15: 1, 16: depth})) == "TGA"


@pytest.mark.parametrize("depth", [15, 16, 24, 32])
def test_a_colour_tga_has_one_of_four_depths(depth: int) -> None:
    assert sniff_format(made(66, {2: 2, 13: 1, 15: 1, 16: depth})) == "TGA"
