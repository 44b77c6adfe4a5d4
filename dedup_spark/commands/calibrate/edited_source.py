"""A source of edited copies of a lake's images; a copy is made when it is fetched, so none is stored.

Calibration reads them through the same task code as real objects, so that a copy goes through every decoder, hash and
model as if it had been listed. The member names the edit: `#crop`, or `page1.jpg#crop` for an image in a container.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.kernels import edits
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.rendering import render
from dedup_spark.sources.base import Address, Listed, Source
from dedup_spark.sources.fetching import fetch_patiently
from dedup_spark.sources.limits import MOST_BYTES

_SEPARATOR = "#"
_WORKING_PX = 512
"""Originals are reduced towards three times this shorter side before they are edited. That is more than any hash or
model uses, and it bounds the memory of the edits that a task makes at once: one for each of extract.fetch_threads."""


@dataclass(frozen=True)
class EditedCopies(Listed):
    """Every image of `inner` once for each kind of edit; parameters follow from `seed` and the image's address."""

    inner: Source
    seed: int
    max_pixels: int
    max_object_bytes: int
    patience_seconds: float

    @property
    def root(self) -> str:
        """That of the lake whose images are edited."""
        return self.inner.root

    def list_images(self, spark: SparkSession) -> DataFrame:
        """The listing of `inner` with every edit of each object, sizes unknown."""
        return edited_addresses(self.inner.list_images(spark).where("passed_over IS NULL"))

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        """Reads the original and edits it. Raises ImageRejected when it cannot be read or decoded."""
        member, _, edit = (address.member or "").rpartition(_SEPARATOR)
        original = replace(address, member=member or None, size_bytes=None)
        data, _ = fetch_patiently(self.inner, original, self.patience_seconds, min(max_bytes, self.max_object_bytes))
        image = decode_image(data, max_pixels=self.max_pixels, min_side_px=1)
        photo = render(image, _WORKING_PX)
        named = hashlib.sha256(f"{original.uri}\0{member}".encode()).digest()
        rng = edits.copy_generator(self.seed, int.from_bytes(named[:8]), edits.EDITS.index(edit))
        return edits.edited_copy(photo, [edit], rng)


def edited_addresses(images: DataFrame) -> DataFrame:
    """One row per edit of rows with `uri` and `member`: `edit` is added, `member` names it, sizes are unknown."""
    each = images.withColumn("edit", F.explode(F.array(*map(F.lit, edits.EDITS))))
    member = F.concat(F.coalesce("member", F.lit("")), F.lit(_SEPARATOR), "edit")
    return each.withColumns({"member": member, "size_bytes": F.lit(None).cast("bigint")})
