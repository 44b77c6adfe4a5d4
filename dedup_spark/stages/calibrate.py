"""Calibrate: how well are edited copies of this lake's own images found, and which cut gives the precision asked for?

Reads: images, features, clusters
Writes: quality
Kernels: ann, calibration, edits
Scale: calibrate.n_images objects are read once for each kind of edit; their copies are compared with every
embedding of the lake in one scan; the driver holds calibrate.neighbours rows a copy.

A copy and its original are a true pair. A copy and any other image, also a copy of another one, are strangers; pairs
with images that `clusters` puts beside the original are left out, as nobody knows what they are. Copies that the
lake holds unknown to `clusters` count as strangers, so the precision is rather too low than too high.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup_spark.config import CalibrateSettings, Config
from dedup_spark.errors import ConfigError, TableError
from dedup_spark.kernels import ann, calibration, edits
from dedup_spark.runs import Run
from dedup_spark.sources.edited import EditedCopies, edited_addresses
from dedup_spark.stages.extract import extract_features, task_settings
from dedup_spark.stages.extract_task import TaskSettings
from dedup_spark.stages.model_choice import held_models, require_one_model
from dedup_spark.stages.representatives import representatives
from dedup_spark.tables import CLUSTERS, FEATURES, IMAGES

log = logging.getLogger(__name__)

_NEIGHBOUR = "copy_id bigint, image_id bigint, similarity float"
_SIGNATURE = ("image_id", "phash", "embedding")


def sample_images(features: DataFrame, images: DataFrame, lake: str, settings: CalibrateSettings) -> DataFrame:
    """Rows of `images` for a seeded sample of the lake's representatives that have an embedding.

    The same rows whatever the partitions: those with the smallest seeded hash of their id.
    """
    small = F.col("width_px").cast("bigint") * F.col("height_px") <= settings.max_pixels
    usable = representatives(features).where(F.col("embedding").isNotNull() & small).select("image_id")
    here = images.where(F.col("lake") == lake).join(usable, "image_id", "left_semi")
    return here.orderBy(F.xxhash64("image_id", F.lit(settings.seed)), "image_id").limit(settings.n_images)


def edited_copies(sample: DataFrame) -> DataFrame:
    """Addresses of every edit of the sampled images, with ids of their own, and `copy_of`."""
    copies = edited_addresses(sample.withColumn("copy_of", F.col("image_id")))
    return copies.withColumn("image_id", F.xxhash64("copy_of", "edit"))


def run(spark: SparkSession, config: Config, run: Run) -> calibration.OperatingPoint:
    """Copies, their neighbours, what these are, the operating point; written to `quality`."""
    tables, settings = run.tables, config.calibrate
    features, images = tables.read(FEATURES), tables.read(IMAGES)
    held = held_models(features)
    task = task_settings(spark, config, run, held)
    if task.model_id is None:
        raise ConfigError("calibrate needs embeddings: extract.embedding is off")
    require_one_model(held, task.model_id, run)
    sample = tables.stage("calibration_sample", sample_images(features, images, task.source.root, settings))
    listed = tables.stage("calibration_listing", edited_copies(sample))
    n_copies = listed.count()
    if n_copies == 0:
        raise TableError(f"features holds no embedded image of {task.source.root}: run the steps up to extract first")
    log.info("calibrate: %s edited copies of %s images", f"{n_copies:,}", f"{n_copies // len(edits.EDITS):,}")
    made = tables.stage("calibration_copies", extract_features(listed, copying(task, settings), n_copies))
    copies = made.where("status = 'ok'").join(listed.select("image_id", "copy_of", "edit"), "image_id")
    lake = representatives(features).select(*_SIGNATURE)
    near = tables.stage("calibration_near", neighbours(spark, copies, lake, settings))
    labelled = with_truth(near, copies, tables.read(CLUSTERS))
    pairs = judged(labelled, copies)
    tables.drop_staged()
    point = calibration.operating_point(pairs, config.cluster.target_precision)
    run.count(copies=n_copies, pairs=len(pairs.score), strangers=int((~pairs.is_copy).sum()))
    return point


def copying(task: TaskSettings, settings: CalibrateSettings) -> TaskSettings:
    """The settings of extract's tasks, with edited copies in the place of the objects."""
    limits = task.extract
    source = EditedCopies(
        task.source, settings.seed, settings.max_pixels, limits.max_object_bytes, limits.fetch_attempts
    )
    return replace(task, source=source)


def neighbours(spark: SparkSession, copies: DataFrame, lake: DataFrame, settings: CalibrateSettings) -> DataFrame:
    """(copy_id, image_id, similarity): the nearest images of each copy, in the lake and among the copies; lazy.

    One scan of the lake's embeddings against a broadcast matrix of all copies, 1 KB each.
    """
    columns = copies.select("image_id", "embedding").toArrow()
    queries = _Queries(columns["image_id"].to_numpy(), ann.from_bytes(columns["embedding"].to_pylist()))
    everything = lake.select("image_id", "embedding").unionByName(copies.select("image_id", "embedding"))
    search = functools.partial(
        _nearest_batches,
        queries=spark.sparkContext.broadcast(queries),
        n=settings.neighbours,
        floor=settings.floor_similarity,
    )
    found = everything.where("embedding IS NOT NULL").mapInArrow(search, _NEIGHBOUR)
    rank = F.row_number().over(Window.partitionBy("copy_id").orderBy(F.desc("similarity"), "image_id"))
    return found.withColumn("rank", rank).where(F.col("rank") <= settings.neighbours).drop("rank")


@dataclass(frozen=True)
class _Queries:
    ids: ann.Ids
    vectors: ann.Halves


def _nearest_batches(
    batches: Iterable[pa.RecordBatch], queries: Broadcast[_Queries], n: int, floor: float
) -> Iterator[pa.RecordBatch]:
    """On executors: of all rows of the task, the `n` nearest of each query that reach `floor`."""
    copies = queries.value
    vectors = copies.vectors.astype(np.float32)
    best = np.full((len(vectors), n), -np.inf, np.float32)
    ids = np.zeros((len(vectors), n), np.int64)
    for batch in batches:
        rows = batch["image_id"].to_numpy()
        cosine = vectors @ ann.from_bytes(batch["embedding"].to_pylist()).astype(np.float32).T
        cosine[copies.ids[:, None] == rows[None, :]] = -np.inf  # itself
        best, ids = _best_of(np.hstack([best, cosine]), np.hstack([ids, np.broadcast_to(rows, cosine.shape)]), n)
    near = best >= floor
    copy_ids = np.broadcast_to(copies.ids[:, None], near.shape)[near]
    yield pa.RecordBatch.from_arrays([copy_ids, ids[near], best[near]], ["copy_id", "image_id", "similarity"])


def _best_of(values: np.ndarray, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.argpartition(-values, n - 1, axis=1)[:, :n]
    return np.take_along_axis(values, chosen, 1), np.take_along_axis(ids, chosen, 1)


def with_truth(near: DataFrame, copies: DataFrame, clusters: DataFrame) -> DataFrame:
    """Add copy_of, edit and `is_copy` to pairs of a copy and an image; pairs of unknown truth are left out."""
    picture = clusters.select(F.col("image_id").alias("shown_id"), "cluster_id")

    def named(rows: DataFrame, shown: Column, name: str) -> DataFrame:
        joined = rows.withColumn("shown_id", shown).join(picture, "shown_id", "left")
        return joined.withColumn(name, F.coalesce("cluster_id", "shown_id")).drop("cluster_id", "shown_id")

    known = copies.select(F.col("image_id").alias("copy_id"), "copy_of", "edit")
    others = copies.select("image_id", F.col("copy_of").alias("other_of"))
    pairs = near.join(known, "copy_id").join(others, "image_id", "left")
    pairs = named(pairs, F.col("copy_of"), "picture")
    pairs = named(pairs, F.coalesce("other_of", "image_id"), "other_picture")
    is_copy = F.col("image_id") == F.col("copy_of")
    known_truth = is_copy | (F.col("picture") != F.col("other_picture"))
    return pairs.where(known_truth).select(
        "copy_id", "image_id", "copy_of", "edit", "similarity", is_copy.alias("is_copy")
    )


def judged(labelled: DataFrame, copies: DataFrame) -> calibration.JudgedPairs:
    """To the driver, with one pair for each copy whose original was not among its neighbours."""
    lost = copies.join(
        labelled.where("is_copy").select(F.col("copy_id").alias("image_id")), "image_id", "left_anti"
    ).select("copy_of", "edit", F.lit(None).cast("float").alias("similarity"), F.lit(True).alias("is_copy"))
    rows = labelled.select(lost.columns).unionByName(lost).toArrow()
    score = rows["similarity"].to_numpy().astype(np.float64)
    edit = np.array([edits.EDITS.index(name) for name in rows["edit"].to_pylist()], np.int64)
    return calibration.JudgedPairs(
        rows["copy_of"].to_numpy(), edit, rows["is_copy"].to_numpy(zero_copy_only=False),
        np.where(np.isnan(score), -np.inf, score),
    )  # fmt: skip
