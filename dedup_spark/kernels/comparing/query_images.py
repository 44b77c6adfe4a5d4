"""Which image of a pair is the query image, on which the other one is laid, and how many vote beside it.

Which of two thumbnails is aligned to the other, and whose neighbours vote, changes a few decisions near the cut. By ids
a look-up could not choose as the run does: nobody knows the id of an image that is in no table yet. Its pixels are
known in both places.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dedup_spark.kernels.arrays import Int64, UInt8, expect

MAX_CANDIDATES, NEIGHBOURS, NEIGHBOUR_SIMILARITY = 40, 12, 0.3
"""Candidates of a query image that vote on each other, and further images, of this cosine at least, that may support a
pair."""
KEY_DIGITS = 15
"""Hex digits of a content key, the last ones of `pixel_hash`: 60 bits, whose sums are below 2^63."""


def is_query(key: Any, other: Any) -> Any:
    """Whether the image with this content key is the query image of its pair with the `other` one.

    Of two different keys exactly one is, in whichever order they are asked. Keys are parts of a SHA-256, so each image
    is the query image of about half of its pairs. Of two equal keys none is.

    Args:
        key, other: Whole numbers, arrays of them, or Columns of Spark: a run and a look-up choose by this one line.
    """
    return ((key + other) % 2 == 0) == (key < other)


def content_keys(digests: UInt8) -> Int64:
    """(n,) the content keys of images whose pixel hashes have these digests, (n, 32)."""
    expect(digests=(digests, "n 32", np.uint8))
    words = np.ascontiguousarray(digests[:, -8:]).view(">u8")[:, 0]
    return (words & np.uint64((1 << 4 * KEY_DIGITS) - 1)).astype(np.int64)


def content_key(pixel_hash: str) -> int:
    """That of one image, from `features.pixel_hash`."""
    return int(pixel_hash[-KEY_DIGITS:], 16)
