"""The facts of EXIF blocks: of cameras, of editors, broken and hostile ones."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from PIL import ExifTags, Image

from dedup_spark.kernels.features.exif import ExifFacts, clean_text, exif_facts


def block(time: str = "2024:05:01 12:30:05", offset: str | None = None, **texts: str) -> bytes:
    exif = Image.Exif()
    for name, text in texts.items():
        exif[ExifTags.Base[name]] = text
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.DateTimeOriginal] = time
    inner[ExifTags.Base.MakerNote] = b"notes of the maker"
    if offset:
        inner[ExifTags.Base.OffsetTimeOriginal] = offset
    return exif.tobytes()


def test_a_cameras_block_gives_time_camera_and_firmware() -> None:
    found = exif_facts(block(Make="Canon", Model="Canon EOS R6", Software="Firmware 1.8"))
    assert found == ExifFacts(datetime(2024, 5, 1, 12, 30, 5, tzinfo=UTC), "Canon EOS R6", "Firmware 1.8", True)
    assert exif_facts(block(Make="Apple", Model="iPhone 14")).camera == "Apple iPhone 14"


@pytest.mark.parametrize(("offset", "hour"), [("+02:00", 10), ("-05:30", 18), ("nonsense", 12)])
def test_the_offset_of_the_time_is_applied(offset: str, hour: int) -> None:
    taken = exif_facts(block(offset=offset)).captured_at
    assert taken is not None
    assert taken.hour == hour


@pytest.mark.parametrize(("fraction", "microsecond"), [("25", 250_000), ("0437219", 43_721), ("", 0), ("-1", 0)])
def test_the_fraction_of_a_second_tells_the_shots_of_a_burst(fraction: str, microsecond: int) -> None:
    exif = Image.Exif()
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.DateTimeOriginal] = "2024:05:01 12:30:05"
    inner[ExifTags.Base.SubsecTimeOriginal] = fraction
    assert exif_facts(exif.tobytes()).captured_at == datetime(2024, 5, 1, 12, 30, 5, microsecond, tzinfo=UTC)


@pytest.mark.parametrize("time", ["0000:00:00 00:00:00", "2019:02:30 10:00:00", "    ", "now", "9999:99:99 99:99:99"])
def test_a_time_that_no_calendar_has_is_no_time(time: str) -> None:
    assert exif_facts(block(time)).captured_at is None


def test_texts_are_cut_and_cleaned() -> None:
    assert clean_text(b"  a\x07b\x1b[31m\n\0rest") == "ab[31m"
    assert clean_text(b"\0\0") is None
    assert clean_text("é".encode() * 500) == "é" * 100
    assert exif_facts(block(Make="M" * 300, Model="x" * 300)).camera == "M" * 100


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_hostile_block_is_read_at_once(order: str) -> None:
    entries = b"".join(struct.pack(order + "HHII", 305, 2, 2**32 - 1, 8) for _ in range(5_000))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 65_535)
    assert exif_facts(head + entries).has_maker_note is False
    loop = head[:8] + struct.pack(order + "HHHII", 1, 34665, 4, 1, 8)
    assert exif_facts(loop) == ExifFacts()


@pytest.mark.parametrize("length", range(0, 150, 7))
def test_a_block_that_was_cut_off_is_no_error(length: int) -> None:
    exif_facts(block(Make="Canon")[:length])
