"""Evidence: how likely each pair is a copy, by its scores, and where these are in doubt by its thumbnails.

Part of the step cluster. Scores give a prior (kernels/comparing/probability.py). The pairs in doubt are gathered into
query images with their candidates, and tasks that get each thumbnail once per part compare them by spatial
verification. What costs most, to find the keypoints of a thumbnail, is done once for each image before that. No object
of the lake is read again. Pairs that `cluster.max_verified_pairs` leaves out keep their prior and are marked undecided.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.kernels.comparing import probability
from dedup_spark.kernels.comparing.query_images import (
    KEY_DIGITS,
    MAX_CANDIDATES,
    NEIGHBOUR_SIMILARITY,
    NEIGHBOURS,
    is_query,
)
from dedup_spark.spark.needed_rows import only_needed
from dedup_spark.spark.progress import Progress
from dedup_spark.stages.cluster.evidence_task import DESCRIBED, VERIFIED, describe_batches, verify_batches
from dedup_spark.store.schema import EVIDENCE
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import ComparedFor, DecidedBy

log = logging.getLogger(__name__)

_PART_PAIRS = 1_000
"""Pairs of one part at most: 2 to 6 seconds, and 40 to 70 MB of thumbnails with their keypoints."""
_FEW_PAIRS = 100
"""A part has no fewer pairs than that only to occupy another core: its task would take longer to start than to end."""
_DESCRIBING = 2
"""Tasks that describe images, for each part that is compared. By their number progress tells the two stages apart: the
tasks that read the queries belong to the stage that describes."""
_VALUE_STEPS = 10_000
_SCORES = ("prior", "hamming_bits", "is_sure")


@dataclass(frozen=True)
class EvidenceSettings:
    """The prior of the model, the least cosine and the neighbours that match looked for, the budget of pairs, and
    whether another colour counts against a pair."""

    prior: probability.Prior
    floor_similarity: float
    neighbours: int
    max_verified_pairs: int
    join_recoloured: bool = False


def evidence_settings(config: Config, prior: probability.Prior) -> EvidenceSettings:
    """The part of the settings that `evidence_of` needs."""
    m, c = config.match, config.cluster
    return EvidenceSettings(prior, m.floor_similarity, m.neighbours, c.max_verified_pairs, c.join_recoloured)


def evidence_of(
    pairs: DataFrame,
    densities: DataFrame,
    pictures: DataFrame,
    tables: Tables,
    settings: EvidenceSettings,
    compared_for: ComparedFor = ComparedFor.MATCH,
    asked: DataFrame | None = None,
) -> DataFrame:
    """Rows of `evidence` for pairs (image_id_a, image_id_b, similarity, hamming_bits) of representatives.

    `densities` (image_id, similarities) and `pictures` (image_id, pixel_hash, thumbnail) hold the images of the pairs.
    With a column `query_id`, one of the two images, that one is the query image of all its pairs, and thumbnails are
    compared whatever the prior is; members are compared with a keeper in this way, and no `pixel_hash` is needed. With
    `asked` (image_id_a, image_id_b) only these pairs have rows; the others say which images support them. Stages
    intermediate rows; on one core about 20 ms for each image, and 2 (strangers) to 6 ms for each pair in doubt.
    """
    scored = tables.stage("scored", with_prior(pairs, densities, settings))
    wanted = scored if asked is None else scored.join(asked, ["image_id_a", "image_id_b"], "left_semi")
    valued = within_budget(wanted.where(in_doubt()), settings.max_verified_pairs)
    doubtful = tables.stage("doubtful", valued if "query_id" in valued.columns else with_query_id(valued, pictures))
    n_doubtful = doubtful.count()
    n_parts = parts_for(n_doubtful, tables.spark.sparkContext.defaultParallelism)
    log.info("cluster: the thumbnails of %s pairs in doubt are compared in %d parts", f"{n_doubtful:,}", n_parts)
    queries = tables.stage("queries", in_parts(queries_of(doubtful, scored), n_parts))
    n_describing = _DESCRIBING * n_parts
    described = Progress("cluster", "parts of the images described", n_describing)
    weighed = Progress("cluster", "pairs in doubt", n_doubtful)
    with (
        described.watching(tables.spark, 0, n_describing, is_counted=lambda n_tasks: n_tasks >= n_describing),
        weighed.watching(tables.spark, 0, n_doubtful, is_counted=lambda n_tasks: n_tasks == n_parts),
    ):
        verified = tables.stage("verified", verify_queries(queries, pictures, n_parts, settings))
    return as_evidence(wanted, verified, compared_for)


def with_prior(pairs: DataFrame, densities: DataFrame, settings: EvidenceSettings) -> DataFrame:
    """Add normalised_similarity, prior, and is_dense: whether one of the two has a dense neighbourhood."""
    floor = F.lit(settings.floor_similarity).cast("float")
    sixteenth = F.get("similarities", F.lit(probability.DENSITY_RANK - 1))
    last = F.get("similarities", F.lit(settings.neighbours - 1))
    density = densities.select(
        "image_id",
        F.greatest(F.coalesce(sixteenth, floor), floor).alias("density"),
        F.coalesce(last >= probability.DENSE_SIMILARITY, F.lit(False)).alias("is_dense"),
    )
    given = [c for c in ("query_id",) if c in pairs.columns]
    for side in "ab":
        named = density.select(*[F.col(c).alias(f"{c}_{side}") for c in density.columns])
        pairs = pairs.join(named, f"image_id_{side}", "left")
    mean_density = (F.coalesce("density_a", floor) + F.coalesce("density_b", floor)) / 2
    scored = pairs.withColumn("normalised_similarity", (F.col("similarity") - mean_density).cast("float"))
    is_dense = (F.coalesce("is_dense_a", F.lit(False)) | F.coalesce("is_dense_b", F.lit(False))).alias("is_dense")
    return scored.select(
        "image_id_a", "image_id_b", "similarity", "normalised_similarity", "hamming_bits",
        _prior(settings.prior).alias("prior"), is_dense, F.lit(bool(given)).alias("always"), *given,
    )  # fmt: skip


def with_query_id(pairs: DataFrame, pictures: DataFrame) -> DataFrame:
    """Add query_id, the query image of each pair, chosen by the pixels of the two. Two joins of ids and numbers.

    `pictures` has image_id and pixel_hash.
    """
    number = F.conv(F.substring("pixel_hash", -KEY_DIGITS, KEY_DIGITS), 16, 10).cast("bigint")
    for side in "ab":
        keys = pictures.select(F.col("image_id").alias(f"image_id_{side}"), number.alias(f"key_{side}"))
        pairs = pairs.join(keys, f"image_id_{side}", "left")
    of_a = F.when(is_query(F.col("key_a"), F.col("key_b")), F.col("image_id_a")).otherwise(F.col("image_id_b"))
    return pairs.withColumn("query_id", of_a).drop("key_a", "key_b")


def _prior(p: probability.Prior) -> Column:
    s = F.col("similarity").cast("double")
    logit = p.bias + p.cosine * s + p.cosine_squared * s * s + p.normalised * F.col("normalised_similarity")
    by_hash = 1 - F.col("hamming_bits") * probability.HASH_ONLY_LOSS
    return F.coalesce(1 / (1 + F.exp(-logit)), by_hash)


def in_doubt() -> Column:
    """Whether thumbnails should be compared, for rows of `with_prior`: as `probability.in_doubt`, but a Column."""
    likely = F.col("prior") >= probability.DOUBT_FROM
    return F.col("similarity").isNotNull() & (likely | F.col("is_dense") | F.col("always"))


def is_sure() -> Column:
    """Whether cosine and pHash leave no doubt about the layout: as `probability.is_sure`, but a Column."""
    p = probability
    return (F.col("similarity") >= p.SURE_SIMILARITY) & (F.col("hamming_bits") <= p.SURE_HAMMING_BITS)


def within_budget(doubtful: DataFrame, max_pairs: int) -> DataFrame:
    """At most `max_pairs` of them: those whose prior is the least certain, as the thumbnails change their result most.

    Values are counted in steps, and the pairs of the first step that does not fit are all left out, so that no global
    sort is needed.
    """
    doubt = 1 - F.abs(2 * F.col("prior") - 1)
    spread = F.pmod(F.xxhash64("image_id_a", "image_id_b"), F.lit(1000)) / 1000  # splits many equal values
    step = F.floor((0.99 * doubt + 0.01 * spread) * _VALUE_STEPS).cast("int")
    valued = doubtful.withColumn("step", step)
    total, lowest = 0, _VALUE_STEPS + 1
    for row in sorted(valued.groupBy("step").count().collect(), key=lambda r: -r["step"]):
        total += row["count"]
        if total > max_pairs:
            break
        lowest = row["step"]
    return valued.where(F.col("step") >= lowest).drop("step")


def queries_of(doubtful: DataFrame, scored: DataFrame) -> DataFrame:
    """(label, query_id, chunk, candidates, scores, neighbours): each doubtful pair once, at its query image.

    `scores` has prior, hamming_bits and is_sure of each candidate. `label` is the smallest image near the query image:
    queries of one picture share it, so that sorting by it brings them together.
    """
    a, b = F.col("image_id_a"), F.col("image_id_b")
    other = F.when(F.col("query_id") == a, b).otherwise(a).alias("other")
    turned = doubtful.select("query_id", other, "similarity", "prior", "hamming_bits", is_sure().alias("is_sure"))
    place = F.row_number().over(Window.partitionBy("query_id").orderBy(F.desc("similarity"), "other")) - 1
    chunked = turned.withColumn("chunk", F.floor(place / MAX_CANDIDATES).cast("int"))
    pairs = F.sort_array(F.collect_list(F.struct(-F.col("similarity"), "other", F.struct(*_SCORES).alias("scores"))))
    queries = chunked.groupBy("query_id", "chunk").agg(pairs.alias("pairs"))
    named = queries.select(
        "query_id", "chunk", F.col("pairs.other").alias("candidates"), F.col("pairs.scores").alias("scores")
    )
    return named.join(_neighbours(scored), "query_id", "left").select(
        F.coalesce("label", "query_id").alias("label"), "query_id", "chunk", "candidates", "scores",
        F.coalesce("neighbours", F.array().cast("array<bigint>")).alias("neighbours"),
    )  # fmt: skip


def _neighbours(scored: DataFrame) -> DataFrame:
    """(query_id, label, neighbours): the nearest images of each, the nearest first."""
    near = scored.where(F.col("similarity") >= NEIGHBOUR_SIMILARITY)
    a, b = F.col("image_id_a"), F.col("image_id_b")
    forth, back = (near.select(x.alias("query_id"), y.alias("other"), "similarity") for x, y in ((a, b), (b, a)))
    place = F.row_number().over(Window.partitionBy("query_id").orderBy(F.desc("similarity"), "other"))
    nearest = forth.unionByName(back).withColumn("place", place).where(F.col("place") <= NEIGHBOURS)
    ordered = F.sort_array(F.collect_list(F.struct("place", "other"))).alias("nearest")
    label = F.least(F.col("query_id"), F.min("other")).alias("label")
    grouped = nearest.groupBy("query_id").agg(ordered, label)
    return grouped.select("query_id", "label", F.col("nearest.other").alias("neighbours"))


def parts_for(n_pairs: int, n_cores: int) -> int:
    """How many parts so many pairs are compared in: one for each core, if there are pairs enough, and more of many
    pairs. As keypoints are found before, that an image is in several parts costs little."""
    return max(1, -(-n_pairs // _PART_PAIRS), min(n_cores, n_pairs // _FEW_PAIRS))


def in_parts(queries: DataFrame, n_parts: int) -> DataFrame:
    """Add `part`, about equally many queries in each, those with the same label beside each other."""
    return queries.repartitionByRange(n_parts, "label", "query_id", "chunk").withColumn("part", F.spark_partition_id())


def verify_queries(queries: DataFrame, thumbnails: DataFrame, n_parts: int, settings: EvidenceSettings) -> DataFrame:
    """Rows of VERIFIED; lazy. Keypoints are found once for each image, and go with its thumbnail once to each part that
    needs it; no other thumbnail moves."""
    seen = _described(_wanted(queries), thumbnails, n_parts)
    rows = seen.unionByName(queries, allowMissingColumns=True)  # a thumbnail has no label and no query_id
    order = ("part", F.asc_nulls_first("label"), "query_id", "chunk", "image_id")
    verify = functools.partial(verify_batches, join_recoloured=settings.join_recoloured)
    return rows.repartition(n_parts, "part").sortWithinPartitions(*order).mapInArrow(verify, VERIFIED.ddl)


def _wanted(queries: DataFrame) -> DataFrame:
    """(image_id, parts, is_aligned): each image once, and whether keypoints are needed in any case.

    Pairs that are sure need none if they fit as they are, and neighbours none if the candidates support each other.
    """
    unsure = F.array_compact(F.zip_with("candidates", "scores", lambda image, of: F.when(~of["is_sure"], image)))
    aligned = F.when(F.size("unsure") > 0, F.array_append("unsure", F.col("query_id"))).otherwise(F.col("unsure"))
    everyone = F.array_union(F.array_append("candidates", F.col("query_id")), "neighbours")
    needed = queries.withColumn("unsure", unsure).select(
        "part", aligned.alias("aligned"), F.explode(everyone).alias("image_id")
    )
    is_aligned = F.bool_or(F.array_contains("aligned", F.col("image_id"))).alias("is_aligned")
    return needed.groupBy("image_id").agg(F.collect_set("part").alias("parts"), is_aligned)


def _described(wanted: DataFrame, thumbnails: DataFrame, n_parts: int) -> DataFrame:
    """(part, image_id, thumbnail, keypoints)."""
    pictures = only_needed(thumbnails.select("image_id", "thumbnail"), wanted.select("image_id"))
    once = pictures.join(wanted, "image_id").repartition(_DESCRIBING * n_parts, "image_id")
    described = once.mapInArrow(describe_batches, DESCRIBED.ddl)
    return described.select(F.explode("parts").alias("part"), "image_id", "thumbnail", "keypoints")


def as_evidence(scored: DataFrame, verified: DataFrame, compared_for: ComparedFor) -> DataFrame:
    """Rows of the table `evidence`: thumbnails decide where they are conclusive, else the scores.

    One shuffle of the pairs in doubt; the others, most of them, stay where they are.
    """
    doubted = F.coalesce(in_doubt(), F.lit(False))
    weighed = scored.where(doubted).join(verified, ["image_id_a", "image_id_b"], "left")
    rows = weighed.unionByName(scored.where(~doubted), allowMissingColumns=True)
    decided_by = (
        F.when(F.col("conclusive"), DecidedBy.GEOMETRY)
        .when(F.col("similarity").isNull(), DecidedBy.PHASH)
        .when(in_doubt() & ~is_sure() & F.col("conclusive").isNull(), DecidedBy.UNDECIDED)
        .otherwise(DecidedBy.COSINE)
    )
    made = {
        "copy_probability": F.coalesce("copy_probability", "prior").cast("float"),
        "decided_by": decided_by,
        "calibration": F.lit(probability.VERSION),
        "compared_for": F.lit(compared_for),
    }
    return rows.select(*[made.get(c, F.col(c)).alias(c) for c in EVIDENCE.column_names])


def joined_pairs(evidence: DataFrame, settings: ClusterSettings) -> DataFrame:
    """The pairs of `evidence` that are copies with the precision of cluster.target_precision.

    A cut that was measured on the lake (cluster.min_copy_probability) takes precedence over the one shipped.
    """
    cut = settings.min_copy_probability or probability.cut_for(settings.target_precision)
    return evidence.where(F.col("copy_probability") >= cut)
