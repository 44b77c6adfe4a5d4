"""Calibrate: how well are edited copies of this lake's own images found, and which cut gives the precision asked for?

Reads: images, features, pairs, densities, clusters
Writes: quality
Kernels: comparing, decoding, edits, faiss_index, features, given_vectors, joins, vectors
Scale: calibrate.n_images objects are read once for each kind of edit; their copies are compared with every
embedding of the lake in one scan; the driver holds calibrate.neighbours rows per copy.

The copies are treated like images of the lake: they have rows of features, neighbours and densities, and their pairs
get evidence by the same code as in the step cluster.

A copy and its original are a true pair. A copy and any other image, also a copy of another one, are negatives. Pairs
with images in the cluster of the original are left out, as their truth is not known; where there are no clusters yet,
thumbnails say which images these are (shown.py). Copies in the lake that are found in neither way count as negatives,
so the measured precision is rather too low than too high.
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

from dedup_spark.commands.calibrate import calibration
from dedup_spark.commands.calibrate.edited_source import EditedCopies, edited_addresses
from dedup_spark.commands.calibrate.shown import shown_pictures
from dedup_spark.config import CalibrateSettings, Config
from dedup_spark.errors import ConfigError, TableError
from dedup_spark.kernels import edits
from dedup_spark.kernels.arrays import Float16, Int64
from dedup_spark.kernels.comparing.probability import MIN_GROUP_PROBABILITY, Prior, prior_of
from dedup_spark.kernels.vectors import from_bytes
from dedup_spark.models.registry import computes
from dedup_spark.sources import addresses
from dedup_spark.spark.draw import seeded_hash
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.evidence import EvidenceSettings, evidence_of, evidence_settings, with_prior
from dedup_spark.stages.extract.step import extract_features, task_settings
from dedup_spark.stages.match.floors import lowest_floor
from dedup_spark.stages.reading.inputs import is_read_by_spark
from dedup_spark.stages.reading.model_choice import held_models, require_one_model
from dedup_spark.stages.reading.read_ahead import TaskSettings
from dedup_spark.stages.representatives import representatives
from dedup_spark.stages.scoring import hamming_bits
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, FEATURES, IMAGES, QUALITY
from dedup_spark.vocabulary import Metric

log = logging.getLogger(__name__)

_NEIGHBOUR = "copy_id bigint, image_id bigint, similarity float"
_PAIR = ("image_id_a", "image_id_b")
UNKNOWN = Prior(-10.2, 27.8, -15.0, 4.0)
"""Where fitting begins for a model that was shipped without a prior: that of SSCD."""
_BLOCK_QUERIES = 4096
PULL, PULL_OF_UNKNOWN = 10.0, 1.0
"""How strongly the fitted prior stays near the shipped one, and near UNKNOWN, which is a place to begin and no
knowledge of that model: see `calibration.fit_logistic`."""


@dataclass(frozen=True)
class Calibrated:
    """The result for one lake: the prior that fits its images, and the operating point (a cut of the probability)."""

    prior: Prior
    point: calibration.OperatingPoint
    measured_on: str = "other images of the same lake"
    labels: str = ""  # which labelled pairs were used, in words


def sample_images(features: DataFrame, images: DataFrame, lake: str, settings: CalibrateSettings) -> DataFrame:
    """Rows of `images` for a seeded sample of the lake's representatives that have an embedding.

    The same rows whatever the partitions: those with the smallest seeded hash of their id.
    """
    small = F.col("width_px").cast("bigint") * F.col("height_px") <= settings.max_pixels
    usable = representatives(features).where(F.col("embedding").isNotNull() & small).select("image_id")
    here = images.where(F.col("lake") == lake).join(usable, "image_id", "left_semi")
    return here.orderBy(seeded_hash(settings.seed), "image_id").limit(settings.n_images)


def edited_copies(sample: DataFrame) -> DataFrame:
    """Addresses of every edit of the sampled images, with ids of their own, and `copy_of`."""
    copies = edited_addresses(sample.withColumn("copy_of", F.col("image_id")))
    return copies.withColumn("image_id", F.xxhash64("copy_of", "edit"))


def run(spark: SparkSession, config: Config, run: Run) -> Calibrated:
    """Make copies, find and label their neighbours, fit a prior, get evidence on all pairs with it, choose a cut."""
    tables, features = run.tables, run.tables.read(FEATURES)
    held = held_models(features)
    _require_own_vectors(held)
    task = task_settings(spark, config, run, held)
    require_one_model(held, task.model_id, run)
    _require_python_reaches(task)
    copies = make_copies(run, config, task)
    everything = lake_and_copies(features, copies)
    near = tables.stage("calibration_near", neighbours(copies, everything, config))
    known = prior_of(task.model_id, config.cluster.prior)
    start = evidence_settings(config, known or UNKNOWN)
    pictures = shown_pictures(tables, copies, everything, start, config.calibrate.neighbours)
    truth = tables.stage("calibration_truth", with_truth(near, copies, pictures))
    pairs = tables.stage("calibration_pairs", with_hamming(near, everything))
    densities = tables.read(DENSITIES).select("image_id", "similarities").unionByName(own_densities(near, config))

    prior = fitted_prior(pairs, densities, truth, start, PULL if known else PULL_OF_UNKNOWN)
    evidence = evidence_of(pairs, densities, everything, tables, evidence_settings(config, prior))
    found = labelled_pairs(truth, evidence, copies)
    tables.drop_staged()
    point = calibration.operating_point(found, config.cluster.target_precision, MIN_GROUP_PROBABILITY)
    write_quality(run, point, "on edited copies of the lake's own images")
    run.count(pairs=len(found.score), negatives=int((~found.is_copy).sum()))
    return Calibrated(prior, point)


def _require_own_vectors(held: list[str]) -> None:
    """Raise ConfigError where a copy cannot get a vector: the model is somewhere else."""
    others = [model_id for model_id in held if not computes(model_id)]
    if others:
        raise ConfigError(
            f"the vectors of model {others[0]} were not made here, so that edited copies cannot get any: calibrate by "
            "pairs that you have labelled, with --pairs FILE"
        )


def _require_python_reaches(task: TaskSettings) -> None:
    """Raise ConfigError where Spark reads this lake (extract.bytes_from) and Python cannot: copies are made in Python.

    The driver asks for the root of the lake, once.
    """
    if not is_read_by_spark(task):
        return
    root = task.source.root
    try:
        why = None if addresses.kind_of(root) else "it finds nothing there"
    except ConfigError as e:
        why = str(e)
    if why:
        raise ConfigError(
            f"edited copies are made of bytes that Python reads by fsspec, and it does not reach this lake, {root}, "
            f"which Spark reads ({why}): calibrate by pairs that you have labelled, with --pairs FILE"
        )


def make_copies(run: Run, config: Config, task: TaskSettings) -> DataFrame:
    """Rows of features for the edited copies of a sample, with `copy_of` and `edit`; staged on disk.

    Raises:
        ConfigError: The settings have no embeddings.
        TableError: `features` holds no image of this lake.
    """
    tables, settings, features = run.tables, config.calibrate, run.tables.read(FEATURES)
    if task.model is None:
        raise ConfigError(
            f"calibrate embeds edited copies of images, and extract.embedding={task.extract.embedding} has no model "
            "for that: name a model there, or measure on labelled pairs"
        )
    sample = sample_images(features, tables.read(IMAGES), task.source.root, settings)
    listed = tables.stage("calibration_listing", edited_copies(sample))
    n_copies = listed.count()
    if n_copies == 0:
        raise TableError(
            f"features holds no embedding of an image of {task.source.root}: run the steps up to extract first"
        )
    log.info("calibrate: %s edited copies of %s images", f"{n_copies:,}", f"{n_copies // len(edits.EDITS):,}")
    made = tables.stage("calibration_copies", extract_features(listed, copying(task, settings), n_copies))
    n_rejected = made.where("status = 'rejected'").count()
    run.count(copies=n_copies, rejected=n_rejected)
    return made.where("status = 'ok'").join(listed.select("image_id", "copy_of", "edit"), "image_id")


def copying(task: TaskSettings, settings: CalibrateSettings) -> TaskSettings:
    """The settings of extract's tasks, with edited copies in place of the objects.

    Edits of one photo are read by one task. With extract.reuse_embedding=near they would take each other's vectors, and
    recall would be measured on vectors that the copies do not have; `pixels` changes no vector.
    """
    limits = task.extract
    source = EditedCopies(
        task.source, settings.seed, settings.max_pixels, limits.max_object_bytes, limits.fetch_patience_seconds
    )
    return replace(task, source=source, extract=replace(limits, reuse_embedding="pixels"))


def lake_and_copies(features: DataFrame, copies: DataFrame) -> DataFrame:
    """(image_id, phash, embedding, thumbnail) of the lake's representatives and of the copies."""
    columns = ("image_id", "phash", "embedding", "thumbnail")
    return representatives(features).select(*columns).unionByName(copies.select(*columns))


def neighbours(copies: DataFrame, everything: DataFrame, config: Config) -> DataFrame:
    """(copy_id, image_id, similarity): the nearest images of each copy, in the lake and among the copies; lazy.

    One scan of all embeddings against a broadcast matrix of the copies, 1 KB each.
    """
    columns = copies.select("image_id", "embedding").toArrow()
    if not len(columns):
        raise TableError(
            "no edited copy could be read: are the images of this lake still there, and does Python reach them (by "
            "fsspec, also where Spark reads the lake)? Otherwise calibrate by labelled pairs, with --pairs FILE"
        )
    queries = Queries(columns["image_id"].to_numpy(), from_bytes(columns["embedding"].to_pylist()))
    n = config.calibrate.neighbours
    search = functools.partial(
        _nearest_batches,
        queries=everything.sparkSession.sparkContext.broadcast(queries),
        n=n,
        floor=lowest_floor(config.match),
    )
    vectors = everything.where("embedding IS NOT NULL").select("image_id", "embedding")
    found = vectors.mapInArrow(search, _NEIGHBOUR)
    rank = F.row_number().over(Window.partitionBy("copy_id").orderBy(F.desc("similarity"), "image_id"))
    return found.withColumn("rank", rank).where(F.col("rank") <= n).drop("rank")


def own_densities(near: DataFrame, config: Config) -> DataFrame:
    """Rows (image_id, similarities) for the copies, as `densities` has them for the lake."""
    nearest = F.slice(F.sort_array(F.collect_list("similarity"), asc=False), 1, max(1, config.match.neighbours))
    return near.groupBy(F.col("copy_id").alias("image_id")).agg(nearest.alias("similarities"))


def with_hamming(near: DataFrame, everything: DataFrame) -> DataFrame:
    """Each pair once, as (image_id_a, image_id_b, similarity, hamming_bits, query_id); the copy is the query image.

    The centre is the query image of spatial verification, and its other pairs give the supporting images, which decide
    what a frame is. Only the copies have all their neighbours here: were an image of the lake the query image, the
    copies of one picture would be the majority of its supporting images.
    """
    ids = ("copy_id", "image_id")
    sides = (F.least(*ids).alias("image_id_a"), F.greatest(*ids).alias("image_id_b"))
    queried = near.select(*sides, "similarity", F.col("copy_id").alias("query_id"))
    once = queried.groupBy(*_PAIR).agg(F.max("similarity").alias("similarity"), F.min("query_id").alias("query_id"))
    a, b = (everything.select(F.col("image_id").alias(f"image_id_{s}"), F.col("phash").alias(s)) for s in "ab")
    joined = once.join(a, "image_id_a").join(b, "image_id_b")
    bits = hamming_bits("a", "b").alias("hamming_bits")
    return joined.select(*_PAIR, "similarity", bits, "query_id")


@dataclass(frozen=True)
class Queries:
    """The copies whose neighbours are searched: ids (n,) and vectors (n, d)."""

    ids: Int64
    vectors: Float16


def _nearest_batches(
    batches: Iterable[pa.RecordBatch], queries: Broadcast[Queries], n: int, floor: float
) -> Iterator[pa.RecordBatch]:
    """On executors: the `n` rows of the task nearest to each query that reach `floor`; no row is its own neighbour.

    Memory: 12 n bytes per query, and 50 MB for one batch against one block of queries.
    """
    ids = queries.value.ids
    vectors = queries.value.vectors.astype(np.float32)
    nearest = np.full((len(ids), n), -np.inf, np.float32)
    nearest_ids = np.zeros((len(ids), n), np.int64)
    for batch in batches:
        rows = batch["image_id"].to_numpy()
        others = from_bytes(batch["embedding"].to_pylist()).astype(np.float32).T
        for start in range(0, len(ids), _BLOCK_QUERIES):
            block = slice(start, start + _BLOCK_QUERIES)
            cosine = vectors[block] @ others
            cosine[ids[block, None] == rows[None, :]] = -np.inf
            values = np.hstack([nearest[block], cosine])
            names = np.hstack([nearest_ids[block], np.broadcast_to(rows, cosine.shape)])
            best = np.argpartition(-values, n - 1, axis=1)[:, :n]
            nearest[block], nearest_ids[block] = (np.take_along_axis(x, best, 1) for x in (values, names))
    near = nearest >= floor
    copy_ids = np.broadcast_to(ids[:, None], near.shape)[near]
    yield pa.RecordBatch.from_arrays(
        [pa.array(c) for c in (copy_ids, nearest_ids[near], nearest[near])], ["copy_id", "image_id", "similarity"]
    )


def with_truth(near: DataFrame, copies: DataFrame, clusters: DataFrame) -> DataFrame:
    """Each pair once: (image_id_a, image_id_b, copy_id, image_id, copy_of, edit, is_copy); lazy.

    Pairs of unknown truth are left out. Of two copies that found each other, the one with the smaller id is `copy_id`.
    """
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
    ids = ("copy_id", "image_id")
    sides = (F.least(*ids).alias("image_id_a"), F.greatest(*ids).alias("image_id_b"))
    labelled = F.struct("copy_id", "image_id", "copy_of", "edit", is_copy.alias("is_copy"))
    once = pairs.where(known_truth).groupBy(*sides).agg(F.min(labelled).alias("labelled"))
    return once.select(*_PAIR, "labelled.*")


def fitted_prior(
    pairs: DataFrame, densities: DataFrame, truth: DataFrame, settings: EvidenceSettings, pull: float = PULL
) -> Prior:
    """The prior fitted to the scores of half of the images, and pulled towards the prior of `settings`."""
    known = settings.prior
    scored = with_prior(pairs, densities, settings).select(*_PAIR, "similarity", "normalised_similarity")
    rows = truth.join(scored, [*_PAIR]).select("copy_of", "is_copy", "similarity", "normalised_similarity").toArrow()
    if not len(rows):
        return known
    cosine, normalised = (rows[c].to_numpy().astype(np.float64) for c in ("similarity", "normalised_similarity"))
    fit = calibration.first_half(rows["copy_of"].to_numpy())
    features = np.column_stack([cosine, cosine**2, normalised])
    start = calibration.Logistic((known.cosine, known.cosine_squared, known.normalised), known.bias)
    is_copy = rows["is_copy"].to_numpy(zero_copy_only=False)
    model = calibration.fit_logistic(features[fit], is_copy[fit], start, pull)
    return Prior(model.bias, *model.weights)


def labelled_pairs(truth: DataFrame, evidence: DataFrame, copies: DataFrame) -> calibration.LabelledPairs:
    """On the driver: pairs of known truth with their probability; originals that were no candidates have -inf."""
    scored = truth.join(evidence.select(*_PAIR, "copy_probability"), [*_PAIR])
    columns = ("copy_of", "edit", "is_copy", "copy_probability")
    proposed = scored.where("is_copy").select(F.col("copy_id").alias("image_id"))
    lost = copies.join(proposed, "image_id", "left_anti").select(
        "copy_of", "edit", F.lit(True).alias("is_copy"), F.lit(-np.inf).cast("float").alias("copy_probability")
    )
    rows = scored.select(*columns).unionByName(lost).toArrow()
    return calibration.LabelledPairs(
        rows["copy_of"].to_numpy(),
        np.array([edits.EDITS.index(name) for name in rows["edit"].to_pylist()], np.int64),
        rows["is_copy"].to_numpy(zero_copy_only=False),
        rows["copy_probability"].to_numpy().astype(np.float64),
    )


def write_quality(run: Run, point: calibration.OperatingPoint, measured_on: str) -> None:
    """Replace what an earlier run of this name measured."""
    rows = quality_rows(run.tables.spark, point, run.run_id, measured_on)
    run.tables.delete(QUALITY, rows.select("run_id", "metric").distinct())
    run.tables.append(QUALITY, rows)


def quality_rows(spark: SparkSession, point: calibration.OperatingPoint, run_id: str, measured_on: str) -> DataFrame:
    """Rows of `quality`: precision, recall and the recall of each edit at the cut."""
    shares = {Metric.CALIBRATED_PRECISION: point.precision, Metric.CALIBRATED_RECALL: point.recall}
    shares |= {Metric.recall_of(edits.EDITS[edit]): share for edit, share in point.edit_recall.items()}
    note = f"at copy_probability {point.cut:.4f}, {measured_on}"
    rows = [
        {"run_id": run_id, "metric": metric, "n_queries": share.n_images, "n_true": share.n_pairs,
         "n_found": share.n_hits, "value": share.value, "low": share.low, "high": share.high, "note": note}
        for metric, share in shares.items()
    ]  # fmt: skip
    return local_relation(spark, [tuple(row.get(c) for c in QUALITY.column_names) for row in rows], QUALITY.schema)
