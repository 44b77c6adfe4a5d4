"""Exact and perceptual hashes of one image."""

from __future__ import annotations

import hashlib

import imagehash
import numpy as np
from PIL import Image

from dedup_spark.kernels.arrays import Bools, Int32, Int64, expect
from dedup_spark.kernels.decoding.images import DecodedImage
from dedup_spark.kernels.decoding.rendering import is_srgb, strips, to_8_bit

PIXEL_HASH_VERSION = 1
"""Raise, with `signature._PREPROCESSING`, when the same pixels would give another pixel_hash: hashes of two versions
are never equal, whatever the pixels. Version 1 adds no prefix to what is hashed."""

_IMAGEHASH_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"})


def content_hash(data: bytes) -> str:
    """SHA-256 of the bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def pixel_hash(image: DecodedImage) -> str:
    """SHA-256 of size, mode and decoded pixels, hex.

    Lossless copies in other formats agree. A colour profile other than sRGB is part of it: the same numbers
    under another profile show other colours. Cost: one pass over the pixels, about 1.5 GB/s with SHA-NI.
    """
    pixels = image.pixels
    salt = f"version {PIXEL_HASH_VERSION}:" if PIXEL_HASH_VERSION > 1 else ""
    digest = hashlib.sha256(f"{salt}{pixels.width}x{pixels.height}:{pixels.mode}:".encode())
    if image.icc_profile and not is_srgb(image.icc_profile):
        digest.update(image.icc_profile)
    for strip in strips(pixels):  # a copy of all pixels would be the largest allocation in decoding an image
        digest.update(strip.tobytes())
    return digest.hexdigest()


def phash(image: DecodedImage) -> int:
    """64-bit pHash as a signed integer; its bits are those of `imagehash.phash` of the upright image.

    Deep and rare modes, which imagehash would clip, are hashed by their 8-bit rendering.
    """
    return _packed(imagehash.phash(_hashable(image)))


def dhash(image: DecodedImage) -> int:
    """64-bit dHash as a signed integer; its bits are those of `imagehash.dhash` of the upright image.

    Each bit says whether a pixel of the 9 x 8 grey image is darker than its right neighbour. Cheaper than pHash, and
    less robust: it is for people who compare with other programs; no step uses it. Modes as for `phash`.
    """
    return _packed(imagehash.dhash(_hashable(image)))


def _hashable(image: DecodedImage) -> Image.Image:
    return image.source if image.source.mode in _IMAGEHASH_MODES else to_8_bit(image.pixels)


def _packed(found: imagehash.ImageHash) -> int:
    bits: Bools = found.hash.ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def hamming_bits(a: Int64, b: Int64) -> Int32:
    """Bits in which the pHashes a (n,) int64 and b (n,) int64 differ, (n,) int32 in 0..64."""
    expect(a=(a, "n", np.int64), b=(b, "n", np.int64))
    return np.bitwise_count((a ^ b).view(np.uint64)).astype(np.int32)
