"""Images drawn at random: which ones depends on image_id and seed alone, not on the order of rows or partitions."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

_PLACES = 1 << 30


def seeded_hash(seed: int) -> Column:
    """A 64-bit hash of image_id that differs from seed to seed: the first n by it, then by image_id, are a sample."""
    return F.xxhash64("image_id", F.lit(seed))


def seeded_place(seed: int) -> Column:
    """In [0, 1), uniform: those below a share are a sample of about that share."""
    return F.pmod(seeded_hash(seed), F.lit(_PLACES)) / F.lit(float(_PLACES))
