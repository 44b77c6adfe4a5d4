"""Guarded images show too little to be joined by likeness: blank, placeholder, text, hub. Part of the step cluster.

White pages, "no image available", pages of print and empty forms are near a great many images that have nothing to do
with them; one of them is enough to chain unrelated images. They join clusters by equal pixels and, except blank ones,
where two methods that err differently agree, the embedding and the pHash, or where their thumbnails were laid over each
other and show the same: a picture and its copy in another format are never kept apart by a guard.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.vocabulary import Guard

FACTS = ("luma_stddev", "entropy_bits", "sharpness")
"""Columns of features by which images are guarded."""

_STROKES = 3.5
"""Sharpness over the square of luma_stddev, which contrast does not change: 20 for white noise. Of 80 rendered pages of
text 79 % are above it with an entropy below 5.5 bits, or are placeholders; of 480 photos, memes and screenshots none
is. A photo of a starry sky comes nearest, with 3.2."""


_MAX_CHANGED, _MAX_TWO_SIDED = 0.05, 0.01
"""Shares of the common area that may differ where thumbnails show the same: what strong compression makes of
strokes."""


def guarded_images(unique: DataFrame, pairs: DataFrame, settings: ClusterSettings) -> DataFrame:
    """(image_id, guard, n_neighbours) of the representatives that are not joined by likeness alone.

    `unique` has image_id and FACTS, `pairs` the pairs that likeness proposes. One shuffle of ids.
    """
    ends = pairs.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id"))
    counts = ends.groupBy("image_id").agg(F.count("*").alias("n_neighbours"))
    known = unique.select("image_id", *FACTS).join(counts, "image_id", "left").fillna(0, ["n_neighbours"])
    return known.select("image_id", _guard(settings).alias("guard"), "n_neighbours").where("guard IS NOT NULL")


def _guard(settings: ClusterSettings) -> Column:
    strokes = F.col("sharpness") > _STROKES * F.col("luma_stddev") * F.col("luma_stddev")
    return (
        F.when(F.col("luma_stddev") < settings.min_luma_stddev, Guard.BLANK)
        .when(F.col("entropy_bits") < settings.min_entropy_bits, Guard.PLACEHOLDER)
        .when((F.col("entropy_bits") < settings.max_text_entropy_bits) & strokes, Guard.TEXT)
        .when(F.col("n_neighbours") > settings.max_hub_neighbours, Guard.HUB)
    )


def trusted_pairs(pairs: DataFrame, guarded: DataFrame, config: Config) -> DataFrame:
    """The pairs whose evidence is enough for the two images that they join."""
    of_a, of_b = (guarded.select(F.col("image_id").alias(f"image_id_{c}"), F.col("guard").alias(c)) for c in "ab")
    marked = pairs.join(of_a, "image_id_a", "left").join(of_b, "image_id_b", "left")
    free = F.col("a").isNull() & F.col("b").isNull()
    blank = F.coalesce(F.col("a") == Guard.BLANK, F.lit(False)) | F.coalesce(F.col("b") == Guard.BLANK, F.lit(False))
    agreed = F.col("similarity").isNotNull() & (F.col("hamming_bits") <= config.match.max_hamming_bits)
    return marked.where(free | (~blank & (agreed | _shows_the_same(pairs)))).select(pairs.columns)


def _shows_the_same(pairs: DataFrame) -> Column:
    """Whether the thumbnails of a pair were laid over each other and hardly differ; false without such evidence."""
    if "changed" not in pairs.columns:
        return F.lit(False)
    same = (F.col("changed") <= _MAX_CHANGED) & (F.col("two_sided") <= _MAX_TWO_SIDED)
    return F.coalesce(same, F.lit(False))
