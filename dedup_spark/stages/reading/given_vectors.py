"""Gives images the vectors of a table of the user: for extract and embed, where `extract.embedding=table`.

One pass over that table per step, and only where an image lacks a vector. It is joined with the addresses of those
images by image_id or by address: what is shuffled is the vector in float16 (1 KB at 512 dimensions) and the address,
never the bytes of an image. The result waits in the order of reading, so that each slice reads its own part of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.errors import GuardError, TableError
from dedup_spark.kernels.given_vectors import VectorFault
from dedup_spark.models.registry import TABLE
from dedup_spark.sources import addresses, vector_table
from dedup_spark.stages.reading.model_choice import settings_of_tasks
from dedup_spark.stages.reading.read_ahead import ASKED_AGAIN, TaskSettings
from dedup_spark.stages.reading.slices import (
    broadcast_images,
    images_per_slice,
    in_slice,
    most_broadcast,
    reading_key,
    slice_bounds,
)
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES

log = logging.getLogger(__name__)

_EXAMPLES = 3
_IS_WAITING = "status = 'ok' AND model_id IS NULL"


def is_given(config: Config) -> bool:
    """Whether the embeddings are vectors of a table."""
    return config.extract.embedding == TABLE


def settings_of_given(spark: SparkSession, config: Config, run: Run) -> TaskSettings:
    """What all tasks of a stage share where the embeddings come from a table. Raises ConfigError."""
    return settings_of_tasks(spark, config, run, None, vector_table.open_vectors(spark, config.vectors).model_id)


@dataclass(frozen=True)
class Given:
    """The vectors of a step.

    `rows` are staged in the order of reading: image_id, reading_key and embedding, without images that have none.
    """

    rows: DataFrame
    model_id: str

    def within(self, low: int, high: int) -> Given:
        """Those whose reading_key is between the two: the part of a slice."""
        return replace(self, rows=self.rows.where(F.col("reading_key").between(low, high)))

    def beside(self, images: DataFrame) -> DataFrame:
        """`images` with `embedding` beside their columns; null where there is none."""
        return images.join(self.rows.select("image_id", "embedding"), "image_id", "left")

    def with_model_id(self) -> DataFrame:
        """image_id, model_id and embedding."""
        return self.rows.select("image_id", F.lit(self.model_id).alias("model_id"), "embedding")


def images_without_vector(run: Run, lake: str) -> DataFrame:
    """Images of this lake that a vector could serve: all but those that have one, or were rejected for good."""
    has_outcome = "model_id IS NOT NULL OR status = 'rejected'"
    again = F.coalesce(F.col("reject_reason").isin(*ASKED_AGAIN), F.lit(False))
    settled = run.tables.read(FEATURES).where(has_outcome).where(~again).select("image_id")
    here = run.tables.read(IMAGES).where(F.col("lake") == lake)
    return here.join(settled, "image_id", "left_anti").select("image_id", "uri", "member", reading_key())


def give_vectors(run: Run, settings: TaskSettings, images: DataFrame) -> Given | None:
    """The vectors for `images` (image_id, uri, member, reading_key) of the lake of this run; None where there are none.

    Raises:
        TableError: an image has several vectors that differ.
        GuardError: too many images of the lake would have none.
    """
    tables, config = run.tables, run.config.vectors
    model_id = settings.model_id
    assert model_id is not None  # the step asks only where vectors are given
    wanted = tables.stage("without_vector", images)
    n_wanted = wanted.count()
    if not n_wanted:
        return None
    table = vector_table.open_vectors(tables.spark, config)
    vectors = table.embeddings(vector_table.dimensions_of(model_id), addresses.folder_of(settings.source.root))
    found = tables.stage("given_vectors", _one_per_image(_joined(wanted, vectors)).orderBy("reading_key"))
    seen = found.agg(
        F.count("embedding").alias("given"), F.count_if("differ").alias("differ"),
        *[F.count_if(F.col("fault") == fault).alias(fault.name) for fault in VectorFault],
    ).first()  # fmt: skip
    assert seen is not None
    if seen["differ"]:
        raise TableError(
            f"vectors.table {config.table}: {seen['differ']:,} images have several vectors there that differ: "
            f"{_examples(found.where('differ'), wanted)}; keep one row per image"
        )
    _say_faults({fault: seen[fault.name] for fault in VectorFault}, found, wanted)
    run.count(vectors=seen["given"], unusable_vectors=sum(seen[fault.name] for fault in VectorFault))
    _guard(run, settings.source.root, n_wanted - seen["given"], wanted.join(found, "image_id", "left_anti"), table)
    return Given(found.where("embedding IS NOT NULL").select("image_id", "reading_key", "embedding"), model_id)


def give_late(run: Run, given: Given) -> None:
    """Give images that were read before their vector was there, and copies of equal objects, their vector now."""
    tables = run.tables
    waiting = tables.read(FEATURES).where(_IS_WAITING).select("image_id", _key())
    late = tables.stage("late", given.with_model_id().join(waiting, "image_id").orderBy("reading_key"))
    run.count(vectors_of_read_images=_set_vectors(run, late, given.model_id))


def finish(run: Run, settings: TaskSettings) -> None:
    """Share vectors between images of equal pixels; count and name the readable images of this lake that have none."""
    if settings.given_model_id is not None:
        _share_with_equals(run, settings.given_model_id)
        _say_missing(run, settings.source.root)


def _share_with_equals(run: Run, model_id: str) -> None:
    """Give images without a vector that of an image with the same pixels: a model would give both the same.

    So it is enough to embed one of several copies. Two columns of all images are shuffled; vectors are not where so few
    images wait that Spark broadcasts their ids.
    """
    tables = run.tables
    waiting = tables.read(FEATURES).where(_IS_WAITING).select("image_id", _key(), "pixel_hash")
    if waiting.isEmpty():
        return
    with_vector = tables.read(FEATURES).where(F.col("model_id") == model_id)
    first = with_vector.groupBy("pixel_hash").agg(F.min("image_id").alias("donor_id"))
    donors = tables.stage("donors", waiting.join(first, "pixel_hash").drop("pixel_hash"))  # of known size
    vectors = with_vector.select(F.col("image_id").alias("donor_id"), "model_id", "embedding")
    shared = tables.stage("shared", donors.join(vectors, "donor_id").drop("donor_id").orderBy("reading_key"))
    run.count(vectors_of_equal_pixels=_set_vectors(run, shared, model_id))


def _set_vectors(run: Run, vectors: DataFrame, model_id: str) -> int:
    """Give rows of features the `vectors` (staged: image_id, reading_key, model_id, embedding); returns how many.

    Slice by slice, so that vectors are broadcast (but for containers of more than `most_broadcast` images), and neither
    thumbnails nor the rest of a row are shuffled. Each slice
    is a commit of its own: after a kill the next run goes on with the rows that still wait.
    """
    n = vectors.count()
    n_dimensions = vector_table.dimensions_of(model_id)
    most = most_broadcast(n_dimensions)
    n_slice = broadcast_images(images_per_slice(run.tables.spark, run.config.extract), n_dimensions)
    for low, high in slice_bounds(vectors, n, n_slice):
        part = vectors.where(F.col("reading_key").between(low, high)).drop("reading_key")
        is_small = n <= most or part.count() <= most
        run.tables.update(FEATURES, F.broadcast(part) if is_small else part, where=in_slice(low, high, "old."))
    return n


def _key() -> Column:
    return F.coalesce("reading_key", "image_id").alias("reading_key")


def _say_missing(run: Run, lake: str) -> None:
    without = run.tables.read(FEATURES).where(_IS_WAITING).select("image_id")
    here = run.tables.read(IMAGES).where(F.col("lake") == lake).select("image_id", "uri", "member")
    missing = here.join(without, "image_id", "left_semi")
    n = missing.count()
    run.count(without_vector=n)
    if n:
        log.warning(
            "%s images have no vector in vectors.table: %s; they are compared by hashes, and get a vector in the next "
            "run that finds one", f"{n:,}", _examples(missing.select("image_id"), missing),
        )  # fmt: skip


def _joined(wanted: DataFrame, vectors: DataFrame) -> DataFrame:
    """image_id, reading_key, embedding and fault of the rows of the table that name one of the images."""
    if "image_id" in vectors.columns:
        rows = wanted.join(vectors, "image_id")
    else:
        same = (F.col("images.uri") == F.col("v.uri")) & F.col("images.member").eqNullSafe(F.col("v.member"))
        rows = wanted.alias("images").join(vectors.alias("v"), same)
    return rows.select("image_id", "reading_key", "embedding", "fault")


def _one_per_image(rows: DataFrame) -> DataFrame:
    """(image_id, reading_key, embedding, fault, differ): a fault counts only where the image has no vector to use."""
    hashed = F.when(F.col("embedding").isNotNull(), F.xxhash64("embedding"))  # so that one vector is shuffled, not two
    each = rows.withColumn("hashed", hashed).groupBy("image_id", "reading_key").agg(
        F.min("embedding").alias("embedding"), F.min("fault").alias("fault"),
        F.min("hashed").alias("least"), F.max("hashed").alias("most"),
    )  # fmt: skip
    fault = F.when(F.col("embedding").isNull(), F.col("fault"))
    differ = F.coalesce(F.col("least") != F.col("most"), F.lit(False))
    return each.select("image_id", "reading_key", "embedding", fault.alias("fault"), differ.alias("differ"))


def _say_faults(counts: dict[VectorFault, int], found: DataFrame, wanted: DataFrame) -> None:
    for fault, n in counts.items():
        if n:
            examples = _examples(found.where(F.col("fault") == fault), wanted)
            log.warning("vectors.table: %s images have no vector to use (%s): %s", f"{n:,}", fault, examples)


def _guard(run: Run, lake: str, n_missing: int, unnamed: DataFrame, table: vector_table.VectorTable) -> None:
    """Raise GuardError where too many images of the lake would have no vector: the key may be a wrong one."""
    settings, n_lake = run.config.vectors, run.tables.read(IMAGES).where(F.col("lake") == lake).count()
    if n_missing <= settings.max_missing_share * n_lake:
        return
    shown = _shown(unnamed.orderBy("image_id")) or "none"
    keys = [str(row["key"]) for row in table.rows.select("key").where("key IS NOT NULL").limit(_EXAMPLES).collect()]
    raise GuardError(
        f"vectors.table {settings.table} has no vector to use for {n_missing:,} of the {n_lake:,} images of the lake, "
        f"more than vectors.max_missing_share ({settings.max_missing_share:g}). Not named in it: {shown}; the first "
        f"keys in it: {', '.join(keys) or 'none'}. No image was read. Name another key by vectors.key_column, or "
        "allow it with --set vectors.max_missing_share=1"
    )


def _examples(some: DataFrame, images: DataFrame) -> str:
    ids = some.orderBy("image_id").limit(_EXAMPLES).select("image_id")
    return _shown(images.join(F.broadcast(ids), "image_id", "left_semi").orderBy("image_id"))


def _shown(images: DataFrame) -> str:
    rows = images.select("uri", "member").limit(_EXAMPLES).collect()
    return ", ".join(" ".join(filter(None, (row["uri"], row["member"]))) for row in rows)
