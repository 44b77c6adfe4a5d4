from __future__ import annotations

import pytest
from odd_bytes import encoded, psd
from odd_files import odd_files, picture
from PIL import Image

from dedup_spark.kernels.decoding import openers
from dedup_spark.kernels.decoding.endings import is_cut_off
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
