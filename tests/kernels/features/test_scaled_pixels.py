"""extract.pixels=scaled: JPEGs decoded at a part of their size, and what is and is not the same then."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.decoding import memory
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.decoding.jpeg_structure import coded_digest
from dedup_spark.kernels.features.hashing import hamming_bits
from dedup_spark.kernels.features.signature import PartsSettings, SignatureSettings, parts_of_image, sign_image

FULL = SignatureSettings(max_pixels=10**9, min_side_px=16, thumbnail_px=256, thumbnail_quality=80, input_px=256)
SCALED = replace(FULL, pixels="scaled")


def photo(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    return load_sample_photo("astronaut.png").convert("RGB").resize(size, Image.Resampling.BICUBIC).convert(mode)


def jpeg(image: Image.Image, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **{"quality": 90, **how})
    return out.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("size", "reduction"),
    [((500, 375), 1), ((1400, 1022), 1), ((1401, 1023), 2), ((1025, 3001), 2), ((2047, 2611), 4), ((4201, 4089), 8)],
)
def test_a_jpeg_keeps_twice_what_is_made_of_it(size: tuple[int, int], reduction: int) -> None:
    data = jpeg(photo(size))
    image = SCALED.decode(data)
    assert image.size == size
    assert image.reduction == reduction
    assert image.pixels.size == tuple(-(-side // reduction) for side in size)
    assert min(image.pixels.size) >= 512 or reduction == 1
    assert FULL.decode(data).reduction == 1


def test_a_small_jpeg_and_other_formats_are_read_as_ever() -> None:
    out = io.BytesIO()
    photo((2000, 1500)).save(out, "PNG", compress_level=1)
    for data in (jpeg(photo((640, 480))), out.getvalue()):
        full, scaled = sign_image(data, FULL), sign_image(data, SCALED)
        np.testing.assert_array_equal(full.model_input, scaled.model_input)
        assert replace(full, model_input=None, signature_version="") == replace(
            scaled, model_input=None, signature_version=""
        )
        assert full.signature_version != scaled.signature_version


HOW: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("RGB", {}),
    "progressive": ("RGB", {"progressive": True}),
    "4:4:4": ("RGB", {"subsampling": 0}),
    "4:1:1": ("RGB", {"subsampling": "4:1:1"}),
    "restart markers": ("RGB", {"restart_marker_rows": 1}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
    "turned": ("RGB", {"exif": turned(6)}),
}


@pytest.mark.parametrize("kind", HOW)
def test_what_is_made_of_scaled_pixels_is_near_to_what_is_made_of_all(kind: str) -> None:
    mode, how = HOW[kind]
    data = jpeg(photo((1300, 1030), mode), **how)
    full, scaled = sign_image(data, FULL), sign_image(data, SCALED)
    assert (scaled.width_px, scaled.height_px) == (full.width_px, full.height_px)
    assert scaled.exif_orientation == full.exif_orientation
    assert scaled.mode == full.mode
    assert scaled.is_damaged == full.is_damaged is False
    assert scaled.jpeg_quality == full.jpeg_quality
    assert scaled.pixel_hash.startswith("scaled-2:")
    assert hamming_bits(np.array([full.phash]), np.array([scaled.phash]))[0] <= 2
    assert np.abs(full.model_input.astype(int) - scaled.model_input).mean() < 3  # type: ignore[union-attr, operator]
    thumbnails = [Image.open(io.BytesIO(s.thumbnail)).convert("RGB") for s in (full, scaled)]
    assert np.abs(np.subtract(*(thumbnail.size for thumbnail in thumbnails))).max() <= 1  # a side is rounded up
    same_size = [np.asarray(thumbnail.resize((128, 128))).astype(int) for thumbnail in thumbnails]
    assert np.abs(same_size[0] - same_size[1]).mean() < 3
    assert scaled.block_sample is None
    assert scaled.earlier_jpeg_quality is None


def test_copies_with_other_metadata_are_the_same_and_lossless_ones_are_not() -> None:
    picture = photo((1300, 1030))
    plain, commented = jpeg(picture), jpeg(picture, comment="taken on a sunny day", exif=turned(1))
    assert plain != commented
    out = io.BytesIO()
    Image.open(io.BytesIO(plain)).save(out, "PNG", compress_level=1)
    scaled = [sign_image(data, SCALED).pixel_hash for data in (plain, commented, out.getvalue())]
    full = [sign_image(data, FULL).pixel_hash for data in (plain, commented, out.getvalue())]
    assert scaled[0] == scaled[1] != scaled[2]
    assert full[0] == full[1] == full[2] == scaled[2]


def test_pictures_that_differ_in_fine_detail_alone_are_not_the_same() -> None:
    """Their means over blocks of 8 x 8 are equal, and so the pixels at an eighth of the size."""
    grey = np.full((4200, 4200), 128, np.uint8)
    left, right = grey.copy(), grey.copy()
    left[2000:2048:8, 2000:2048:8] = right[2003:2051:8, 2003:2051:8] = 160
    files = [jpeg(Image.fromarray(values).convert("RGB"), quality=95) for values in (left, right)]
    images = [SCALED.decode(data) for data in files]
    assert images[0].reduction == 8
    assert images[0].pixels.tobytes() == images[1].pixels.tobytes()
    assert len({sign_image(data, SCALED).pixel_hash for data in files}) == 2


def test_what_is_coded_is_the_same_whatever_metadata_say() -> None:
    picture = photo((400, 300))
    plain = jpeg(picture)
    for same in (jpeg(picture, comment="a word"), jpeg(picture, exif=turned(1)), plain + b"behind the end"):
        assert coded_digest(same) == coded_digest(plain)
    for other in (jpeg(picture, quality=91), jpeg(picture, progressive=True), plain[:-500], b""):
        assert coded_digest(other) != coded_digest(plain)


def test_parts_are_those_of_a_signature() -> None:
    data = jpeg(photo((1300, 1030)))
    signature, parts = sign_image(data, SCALED), parts_of_image(data, PartsSettings(("pixel_hash", "phash"), SCALED))
    assert parts == {"pixel_hash": signature.pixel_hash, "phash": signature.phash}


@pytest.mark.parametrize("settings", [FULL, SCALED], ids=["full", "scaled"])
def test_a_cut_off_file_is_rejected_and_a_filled_one_damaged(settings: SignatureSettings) -> None:
    data = jpeg(photo((1300, 1030)))
    with pytest.raises(ImageRejected, match="truncated"):
        sign_image(data[: len(data) // 2], settings)
    assert sign_image(data[: len(data) // 2] + b"\xff\xd9", settings).is_damaged


def test_the_memory_that_is_asked_for_is_that_of_scaled_pixels_and_of_what_progressive_files_hold() -> None:
    baseline, progressive = (jpeg(photo((2000, 1600)), progressive=p) for p in (False, True))
    asked = {}
    for name, data, settings in (
        ("full", baseline, FULL), ("scaled", baseline, SCALED), ("progressive", progressive, SCALED),
    ):  # fmt: skip
        with memory.allowed(1 << 30) as allowance:
            settings.decode(data)
        asked[name] = allowance.asked_bytes
    assert asked["scaled"] * 4 <= asked["full"] * 1.01
    assert asked["scaled"] < asked["progressive"] <= asked["full"]
