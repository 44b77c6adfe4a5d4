"""Exact and perceptual hashes of one image."""

from __future__ import annotations

import hashlib

import imagehash
import numpy as np
from PIL import Image
from scipy import fftpack

from dedup_spark.kernels.arrays import Bools, Int32, Int64, expect
from dedup_spark.kernels.decoding.digests import picture_digest
from dedup_spark.kernels.decoding.films import contrast_of
from dedup_spark.kernels.decoding.images import DecodedImage
from dedup_spark.kernels.decoding.rendering import hashable
from dedup_spark.kernels.grey_square import grey_square

PIXEL_HASH_VERSION = 3
"""Raise, with `signature._PREPROCESSING`, when the same pixels would give another pixel_hash: hashes of two versions
are never equal, whatever the pixels. Version 1 added no prefix to what is hashed. Not raised when hashes began to cover
all bits of 10 to 16: those of 8 bits stayed, and rows made before decide no removal (`signature.OLDEST_DECIDING`)."""

_PHASH_SIDE, _PHASH_PX = 8, 32

BLANK_LEVELS = 2.0
"""Standard deviation, levels of 255, below which a frame shows nothing: its pHash would be that of noise."""


def content_hash(data: bytes) -> str:
    """SHA-256 of the bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def pixel_hash(image: DecodedImage) -> str:
    """SHA-256 of size, mode and visible pixels, hex; of several frames those of all, and how long each is shown.

    Lossless copies in other formats agree. See `digests.picture_digest` for what is visible, and `films.py` for the
    files too long to be decoded to their end.

    Of a JPEG that was scaled while it was decoded it begins with `scaled-4:`, is that of the scaled pixels and of what
    the file codes, and never equals one of all pixels. So scaled pixels that are equal by chance, as where fine print
    differs, make no two pictures the same; copies with other metadata are the same.
    """
    salt = f"version {PIXEL_HASH_VERSION}:"
    if image.reduction > 1:
        kind = f"scaled-{image.reduction}:"
        return kind + picture_digest(image, f"{salt}{kind}{image.size[0]}x{image.size[1]}:").hexdigest()
    if image.film is None:
        return picture_digest(image, salt).hexdigest()
    return hashlib.sha256(f"{salt}{image.film.digest}".encode()).hexdigest()


def digest_of(hashed: str) -> str:
    """The 64 hex digits of a `content_hash` or `pixel_hash`. What stands before those of scaled pixels is part of what
    was hashed, so the digits alone name them."""
    return hashed.rpartition(":")[2]


def phash(image: DecodedImage, rendered: Image.Image | None = None) -> int:
    """64-bit pHash as a signed integer; its bits are those of `imagehash.phash` of the upright image.

    From a shorter side of 1,536 px on the image is first reduced by a box filter (`rendering.render`): of 115 photos of
    2 to 14 megapixels 108 had imagehash's bits, and 7 differed in two of them. Where a person sees other pixels than
    those of the file, it is the pHash of what is seen: of transparent images over their ground, of images with a colour
    profile that is not sRGB, and of deep and rare modes, which imagehash would clip. Of several frames it is that of
    the described one. `rendered` is as of `hashable`.
    """
    return _phash(hashable(image, rendered))


def frame_phashes(image: DecodedImage) -> list[int] | None:
    """The pHash of each of `Film.moments`, 0 for a blank one; None for a single frame, and where not all are known."""
    if image.film is None or not image.film.moments:
        return None
    return [_phash_of_moment(small) for small in image.film.moments]


def dhash(image: DecodedImage) -> int:
    """64-bit dHash as a signed integer; its bits are those of `imagehash.dhash` of the upright image.

    A picture with a shorter side of 1,536 px or more is reduced first, as for `phash`.

    Each bit says whether a pixel of the 9 x 8 grey image is darker than its right neighbour. Cheaper than pHash, and
    less robust: it is for people who compare with other programs; no step uses it. Of what is seen, as for `phash`.
    """
    return _packed(imagehash.dhash(hashable(image)).hash)


def _phash_of_moment(small: Image.Image) -> int:
    return _phash(small) if contrast_of(small) >= BLANK_LEVELS else 0


def _phash(image: Image.Image) -> int:
    """As `imagehash.phash`, step by step, in less time: `np.median` takes as long there as both transforms do."""
    small = grey_square(image.convert("L"), _PHASH_PX)
    waves = fftpack.dct(fftpack.dct(small, axis=0), axis=1)[:_PHASH_SIDE, :_PHASH_SIDE]
    ordered = np.sort(waves, axis=None)
    return _packed(waves > np.mean(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1]))


def _packed(bits: Bools) -> int:
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big", signed=True)


def hamming_bits(a: Int64, b: Int64) -> Int32:
    """Bits in which the pHashes a (n,) int64 and b (n,) int64 differ, (n,) int32 in 0..64."""
    expect(a=(a, "n", np.int64), b=(b, "n", np.int64))
    return np.bitwise_count((a ^ b).view(np.uint64)).astype(np.int32)
