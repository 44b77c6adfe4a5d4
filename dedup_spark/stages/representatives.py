"""One image stands for all images of equal pixels while matching: the representative, the first that a run read.

Shared by index, match and cluster, so that the three agree. A million copies of a placeholder cost one row. Of those
that one run read it is the one of smallest image_id. As a later copy never takes its place, a night in which somebody
copies a folder of the lake costs as much as the copies, and their originals are not compared again. It follows from
`features` alone, so that steps that are done anew choose the same. Ids of runs begin with their time; where somebody
names runs otherwise, "first" is by the order of these names.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_READ_ORDER = ("run_id", "image_id")
"""As `FIRST_READ` of store/schema.py; the least struct has null first, too."""


def with_representative(features: DataFrame) -> DataFrame:
    """Readable rows of features: image_id, hashes, model_id and `representative_id`. Two shuffles by pixel_hash."""
    return images_of(features, _first_of_each(features.where("status = 'ok'")))


def representatives_with(features: DataFrame, *columns: Column) -> DataFrame:
    """One row per picture: pixel_hash, `image_id` of the representative, its `columns`, and `n_equal`, the number of
    images of equal pixels. Rows are sorted by pixel_hash before and after the one shuffle, which moves one row per
    picture and task.

    `columns` are computed first, so that what they are made of (embeddings) is neither sorted nor shuffled.
    """
    narrow = features.where("status = 'ok'").select(*_READ_ORDER, "pixel_hash", F.struct(*columns).alias("its_own"))
    own = F.min_by("its_own", F.struct(*_READ_ORDER)).alias("its_own")
    groups = _first_of_each(narrow, own, F.count("*").alias("n_equal"))
    return groups.select("pixel_hash", F.col("representative_id").alias("image_id"), "its_own.*", "n_equal")


def images_of(features: DataFrame, pictures: DataFrame) -> DataFrame:
    """Readable rows of features: image_id, hashes, model_id and the columns of `pictures`, by their pixel_hash."""
    return _readable(features).join(pictures, "pixel_hash")


def copies(features: DataFrame, with_copies: DataFrame) -> DataFrame:
    """Readable rows that are not their own representative: image_id, hashes, model_id and columns of `with_copies`.

    `with_copies`: pixel_hash, `representative_id` and more, of the pictures that have more than one image.
    """
    return _readable(features).join(with_copies, "pixel_hash").where("image_id <> representative_id")


def representatives(features: DataFrame) -> DataFrame:
    """The rows of features that are representatives, all columns."""
    first = _first_of_each(features.where("status = 'ok'")).select(F.col("representative_id").alias("image_id"))
    return features.join(first, "image_id", "left_semi")


def set_hash(vector_hash: Column) -> Column:
    """Aggregate over rows with image_id: a hash of the set of images with an embedding, given the xxhash64 of each
    embedding; null where no image has one."""
    return F.bit_xor(F.when(vector_hash.isNotNull(), F.xxhash64("image_id", vector_hash)))


def set_name(n: int, hashed: int | None) -> str:
    """The `built_from` of an index: number and `set_hash` of the representatives with an embedding."""
    return f"{n}:{(hashed or 0) & (1 << 64) - 1:016x}"


def _readable(features: DataFrame) -> DataFrame:
    return features.where("status = 'ok'").select("image_id", "content_hash", "pixel_hash", "model_id")


def _first_of_each(rows: DataFrame, *more: Column) -> DataFrame:
    """(pixel_hash, representative_id) and further aggregates."""
    first = F.min(F.struct(*_READ_ORDER)).image_id.alias("representative_id")
    return rows.groupBy("pixel_hash").agg(first, *more)
