from __future__ import annotations

import struct

import pytest
from odd_bytes import DNG, encoded, psd, raw_file
from odd_files import DNG_CAMERA, OddFile, odd_files, picture
from PIL import Image

from dedup_spark.kernels.decoding import openers
from dedup_spark.kernels.decoding.endings import is_cut_off, is_raw_cut_off
from dedup_spark.kernels.decoding.images import ImageRejected, decode_image

LIMITS = {"max_pixels": 400_000_000, "min_side_px": 8}
NOISE = Image.effect_noise((96, 64), 80)
WHOLE_TO_THE_LAST_BYTE = {
    "psd": psd(picture()),
    "qoi": encoded(Image.fromarray(picture()), "QOI"),
    "dds": encoded(Image.fromarray(picture()), "DDS"),
    "ico": encoded(Image.fromarray(picture()), "ICO", sizes=[(64, 64)]),
    "tiff, directory last": encoded(NOISE, "TIFF", compression="tiff_lzw"),
    "tiff, fax": encoded(NOISE.convert("1"), "TIFF", compression="group4"),
    "jpeg": encoded(NOISE, "JPEG"),
    "png": encoded(NOISE, "PNG"),
    "webp": encoded(NOISE.convert("RGB"), "WEBP", lossless=True),
}
"""Pictures that need all of their bytes; what is cut from them is picture or directory."""


@pytest.mark.parametrize("name", WHOLE_TO_THE_LAST_BYTE)
@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_file_without_its_end_is_truncated_and_not_corrupt(name: str, tenth: int) -> None:
    data = WHOLE_TO_THE_LAST_BYTE[name]
    with pytest.raises(ImageRejected, match=r"^truncated"):
        decode_image(data[: max(12, len(data) * tenth // 10)], **LIMITS)


@pytest.mark.parametrize("file", odd_files(), ids=lambda f: f.name)
def test_a_whole_file_of_any_format_is_not_cut_off(file: object) -> None:
    data, image_format = file.data, file.format  # type: ignore[attr-defined]
    assert not is_cut_off(data, image_format)


@pytest.mark.parametrize("file", [f for f in odd_files() if f.decoder.startswith("rawpy")], ids=lambda f: f.name)
def test_camera_raw_without_the_end_of_its_sensor_data_is_truncated(file: OddFile) -> None:
    """LibRaw would show black for what is missing, or the preview in front of it."""
    assert not is_raw_cut_off(file.data, file.format)
    for tenth in range(1, 10):
        with pytest.raises(ImageRejected, match=r"^truncated"):
            decode_image(file.data[: len(file.data) * tenth // 10], **LIMITS)


def test_a_lost_preview_behind_the_sensor_data_leaves_the_picture_whole() -> None:
    preview = encoded(Image.fromarray(picture()), "JPEG")
    data = raw_file(picture(), DNG_CAMERA, preview, more=DNG)
    length = struct.pack("<HHII", 514, 4, 1, len(preview))
    assert data.count(length) == 1
    longer = data.replace(length, struct.pack("<HHII", 514, 4, 1, 12_000))  # the sensor data are 12,288
    assert is_cut_off(longer, "DNG")
    assert not is_raw_cut_off(longer, "DNG")
    assert decode_image(longer, **LIMITS).decoder.startswith("rawpy")


def test_a_tiff_whose_compression_this_libtiff_lacks_is_unsupported_and_not_corrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damaged = bytearray(encoded(NOISE, "TIFF", compression="zstd"))
    damaged[20:40] = bytes(20)
    with pytest.raises(ImageRejected, match=r"^corrupt"):
        decode_image(bytes(damaged), **LIMITS)
    monkeypatch.setattr(openers, "_has_tiff_codec", lambda codec: False)
    with pytest.raises(ImageRejected, match=r"^unsupported_format: TIFF compressed by zstd"):
        decode_image(bytes(damaged), **LIMITS)


def test_whether_libtiff_has_a_compression_is_found_by_trying() -> None:
    assert openers._has_tiff_codec("lzma")
    assert not openers._has_tiff_codec("tiff_thunderscan")  # which libtiff only reads


def classic_tiff(*entries: tuple[int, int]) -> bytes:
    """Little-endian, the directory last and without a pointer to the next: (tag, value) of 32 bits each."""
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + directory


def big_tiff(*entries: tuple[int, int]) -> bytes:
    directory = b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in entries)
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", len(entries)) + directory


def icon(n: int, *entries: tuple[int, int]) -> bytes:
    """(size, offset) of each picture; n may promise more."""
    listed = b"".join(bytes(8) + struct.pack("<II", *entry) for entry in entries)
    return b"\0\0\1\0" + struct.pack("<H", n) + listed


def raf(*places: int) -> bytes:
    return b"FUJIFILMCCD-RAW" + bytes(84 - 15) + struct.pack(">6I", *places)


TO_THE_BYTE = {
    "WEBP": b"RIFF" + struct.pack("<I", 4 + 90) + b"WEBP" + bytes(90),
    "BMP": b"BM" + struct.pack("<I", 2**24 + 54) + bytes(2**24 + 48),
    "DDS": b"DDS " + bytes(124),
    "QOI": b"qoif" + bytes(2) + bytes(7) + b"\1",
    "ICO": icon(1, (10, 22)) + bytes(10),
    "ICO of two": icon(2, (1, 0), (1, 0)),
    "PSD": b"8BPS\0\1" + bytes(20) + bytes(12) + bytes(3),
    "PSD of sections": b"8BPS\0\1" + bytes(20) + (b"\0\0\0\5" + bytes(5)) * 3 + bytes(3),
    "PSD large": b"8BPS\0\2" + bytes(20) + bytes(16) + bytes(3),
    "RAF preview": raf(108, 30, 0, 1, 0, 1) + bytes(30),
    "RAF sensor": raf(0, 1, 108, 30, 0, 1) + bytes(30),
    "RAF data": raf(0, 1, 0, 1, 108, 30) + bytes(30),
    "TIFF directory": classic_tiff((256, 96), (257, 64)),
    "TIFF directory big": big_tiff((256, 96), (257, 64)),
    "TIFF strips": classic_tiff((273, 34), (279, 20)) + bytes(20),
    "TIFF tiles": classic_tiff((324, 34), (325, 20)) + bytes(20),
    "TIFF old jpeg": big_tiff((513, 64), (514, 20)) + bytes(20),
    "JPEG": b"\xff\xd9" + bytes(62),
    "PNG": b"IEND",
    "GIF": b"GIF89a;",
    "HEIF": b"\0\0\0\x0cftypheic" + b"\0\0\0\x10mdat" + bytes(8),
    "JPEG2000": b"\xff\x4f\xff\x51" + bytes(30) + b"\xff\xd9",
}
"""Files as short as their format allows: one byte less is cut off. Of a JPEG the end must lie in the last 64 bytes."""


@pytest.mark.parametrize("name", TO_THE_BYTE)
def test_a_file_is_cut_off_from_the_first_byte_that_is_missing(name: str) -> None:
    data, image_format = TO_THE_BYTE[name], name.split()[0]
    assert not is_cut_off(data, image_format)
    assert is_cut_off(data + b"\0" if image_format == "JPEG" else data[:-1], image_format)


def test_zeros_may_follow_the_end_of_a_gif_and_64_bytes_that_of_a_jpeg_or_png() -> None:
    assert not is_cut_off(b"GIF89a;" + bytes(100), "GIF")
    assert is_cut_off(b"GIF89a;x", "GIF")
    assert not is_cut_off(bytes(9) + b"IEND" + bytes(60), "PNG")
    assert is_cut_off(bytes(9) + b"IEND" + bytes(61), "PNG")


def test_a_tiff_without_a_tag_is_cut_off() -> None:
    assert is_cut_off(classic_tiff(), "TIFF")


@pytest.mark.parametrize(("code", "name"), [(34925, "lzma"), (50000, "zstd"), (50001, "webp")])
def test_compressions_that_a_build_of_libtiff_may_lack_are_known_by_their_code(
    monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    data = classic_tiff((259, code))
    monkeypatch.setattr(openers, "_has_tiff_codec", lambda codec: False)
    assert openers.missing_tiff_codec(data) == name
    assert openers.missing_tiff_codec(classic_tiff((259, 5))) is None  # LZW, which every build has
    monkeypatch.setattr(openers, "_has_tiff_codec", lambda codec: True)
    assert openers.missing_tiff_codec(data) is None
