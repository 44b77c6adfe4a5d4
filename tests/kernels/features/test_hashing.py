from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from odd_bytes import encoded
from PIL import Image, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.features import hashing

LIMITS = {"max_pixels": 10**9, "min_side_px": 1}


def as_hex(phash: int) -> str:
    return f"{phash & (2**64 - 1):016x}"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "LA", "CMYK"])
@pytest.mark.parametrize("photo", ["chelsea.png", "coffee.png", "astronaut.png"])
def test_phash_is_that_of_imagehash_bit_for_bit(photo: str, mode: str) -> None:
    data = encoded(load_sample_photo(photo).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    expected = str(imagehash.phash(Image.open(io.BytesIO(data))))
    assert as_hex(hashing.phash(decode_image(data, **LIMITS))) == expected


def test_phash_is_that_of_the_upright_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(load_sample_photo("chelsea.png"), "JPEG", exif=exif)
    expected = str(imagehash.phash(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert as_hex(hashing.phash(decode_image(data, **LIMITS))) == expected


def test_hashes_of_a_fixed_image_never_change() -> None:
    """Golden values: a change here means that every table must be extracted again."""
    x, y = np.meshgrid(np.arange(96), np.arange(64))
    pixels = np.stack([x * 2, y * 3, (x * y) % 251], axis=2).astype(np.uint8)
    image = decode_image(encoded(Image.fromarray(pixels), "PNG"), **LIMITS)
    assert hashing.pixel_hash(image) == "0a5742aec86bd48ed6d34e59c1609812695c48185eae0c358338122511b82576"
    assert as_hex(hashing.phash(image)) == "8000071f3f1f3f3f"


def test_lossless_copies_share_the_pixel_hash_whatever_the_format() -> None:
    photo = load_sample_photo("coffee.png")
    copies = [encoded(photo, image_format) for image_format in ("PNG", "TIFF", "BMP")]
    copies += [encoded(photo, "WEBP", lossless=True), encoded(photo.convert("RGBA"), "PNG")]
    assert len({hashing.pixel_hash(decode_image(c, **LIMITS)) for c in copies}) == 1


def test_what_shows_other_colours_has_another_pixel_hash() -> None:
    photo = load_sample_photo("coffee.png")
    one_pixel = photo.copy()
    one_pixel.putpixel((5, 5), (1, 2, 3))
    clear = photo.convert("RGBA")
    clear.putpixel((5, 5), (*photo.getpixel((5, 5)), 0))
    adobe = load_sample_photo("rocket.jpg").info["icc_profile"]
    variants = [
        encoded(photo, "PNG"),
        encoded(one_pixel, "PNG"),
        encoded(clear, "PNG"),
        encoded(photo, "PNG", icc_profile=adobe),
    ]
    assert len({hashing.pixel_hash(decode_image(v, **LIMITS)) for v in variants}) == 4


def test_same_pixels_in_another_shape_are_another_image() -> None:
    flat = np.zeros((20, 40, 3), np.uint8)
    wide, tall = (decode_image(encoded(Image.fromarray(a), "PNG"), **LIMITS) for a in (flat, flat.reshape(40, 20, 3)))
    assert hashing.pixel_hash(wide) != hashing.pixel_hash(tall)


def test_a_content_hash_is_sha_256_in_hex() -> None:
    assert hashing.content_hash(b"abc").startswith("ba7816bf8f01cfea")
    assert len(hashing.content_hash(b"")) == 64


def test_hamming_bits_are_those_of_python() -> None:
    a = np.array([0, -1, 2**62, -(2**63), 5], np.int64)
    b = np.array([0, 0, 1, 2**62, 6], np.int64)
    assert hashing.hamming_bits(a, b).tolist() == [0, 64, 2, 2, 2]
    with pytest.raises(ValueError, match=r"b: expected int64 of shape \(n\), n = 5; found int64 of shape \(4,\)"):
        hashing.hamming_bits(a, b[:4])
