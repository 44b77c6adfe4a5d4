"""Groups around keepers: what should be kept, and members that are near it or near what is. Part of the step cluster.

Linkage finds which images belong together; this module finds what is kept of them. That is the first by rank. Every
member is within the bound of it, or of one supporting image that is within the bound of it and stays, too; what neither
reaches is a group of its own (kernels/clusters/keeping.py). Only direct evidence between two images counts; pairs that
match did not propose are measured where they could bind a member.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.config import Config
from dedup_spark.errors import TableError
from dedup_spark.kernels.arrays import Bools, Float32, Int64
from dedup_spark.kernels.clusters import keeping
from dedup_spark.kernels.clusters.pieces import rows_of_pieces
from dedup_spark.spark.arrow_groups import whole_groups
from dedup_spark.stages.cluster.removal import KEEPER_FACTS
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.vocabulary import DecidedBy, DistanceUnit

MEASURED = Columns(
    "similarity float, hamming_bits int, distance float, distance_unit string, bound float, decided_by string, "
    "copy_probability float, normalised_similarity float, agreement float, contested float, n_inliers int, "
    "covered_a float, covered_b float, changed float, two_sided float, colour_change string"
)
"""`distance` and `bound` are in `distance_unit`, one of DistanceUnit. From copy_probability on they are as in
`evidence`, and null for distances by likeness."""

_GROUPED = Columns(
    "representative_id bigint, keeper_image_id bigint, keeper_representative_id bigint, first_image_id bigint, "
    "supporting_image_id bigint, supporting_distance float, is_supporting boolean"
)
_ALIKE_BITS = 8
"""Of 64 in which the pHashes of a picture and its re-encoded or resized copy differ at most, as a rule."""
_ALIKE_DISTANCE = 0.05
_MISSING = "image_id_a bigint, image_id_b bigint, query_id bigint"


@dataclass(frozen=True)
class Bounds:
    """Largest distance to a keeper: 1 - cosine, or, without embeddings, the share of pHash bits that differ."""

    cosine: float
    phash: float


def bounds_of(config: Config) -> Bounds:
    """The bounds that the settings give."""
    return Bounds(1 - config.cluster.min_similarity, config.match.max_hamming_bits / 64)


def measure_likeness(pairs: DataFrame, unique: DataFrame, bounds: Bounds) -> DataFrame:
    """The distance of pairs by cosine, or by pHash where an embedding is missing, with its bound: the columns MEASURED.

    Rounded to six digits: two ways to add up one cosine differ by less.
    """
    scored = score_pairs(pairs, unique)
    by_cosine = F.col("similarity").isNotNull()
    distance = F.when(by_cosine, 1 - F.col("similarity").cast("double")).otherwise(F.col("hamming_bits") / 64)
    made = {
        "distance": F.greatest(F.round(distance, 6), F.lit(0.0)),
        "distance_unit": _unit(by_cosine),
        "bound": _bound(by_cosine, bounds),
        "decided_by": F.when(by_cosine, DecidedBy.COSINE).otherwise(DecidedBy.PHASH),
    }
    known = {name: F.col(name) for name in ("similarity", "hamming_bits")} | made
    columns = [known.get(name, F.lit(None)).cast(kind).alias(name) for name, kind in MEASURED.types.items()]
    return scored.select("image_id_a", "image_id_b", *columns)


def likeness_without_pair(bounds: Bounds) -> tuple[Column, Column]:
    """Unit and bound of a member that has no measured pair, by its model_id."""
    by_cosine = F.col("model_id").isNotNull()
    return _unit(by_cosine), _bound(by_cosine, bounds)


def _unit(by_cosine: Column) -> Column:
    return F.when(by_cosine, DistanceUnit.SIMILARITY).otherwise(DistanceUnit.HAMMING_BITS)


def _bound(by_cosine: Column, bounds: Bounds) -> Column:
    return F.round(F.when(by_cosine, bounds.cosine).otherwise(bounds.phash), 6).cast("float")


def pairs_to_measure(ranked: DataFrame, near: DataFrame, max_images: int) -> DataFrame:
    """(image_id_a, image_id_b, query_id): pairs not known to be near that could bind a member; lazy.

    They pair each group's member of the first rank, which is kept, and its member that is near most others, which may
    support them, with those that are not known to be near. See `group_around_keepers`.
    """
    rows = _by_label(_members(ranked), near)
    missing = rows.mapInArrow(functools.partial(_batches_to_measure, max_images=max_images), _MISSING)
    return missing.groupBy("image_id_a", "image_id_b").agg(F.min("query_id").alias("query_id"))


def group_around_keepers(ranked: DataFrame, near: DataFrame, max_images: int) -> DataFrame:
    """The columns _GROUPED for each representative of ranked members; lazy.

    The keeper is an image: of those with its representative's pixels the first by rank, and so is `first_image_id` for
    this representative. `supporting_image_id` with its distance is null for members near the keeper;
    `is_supporting` where another member needs this one.

    Args:
        ranked: (label, representative_id, image_id, rank).
        near: Distances.near, `pairs_to_measure` among them.
        max_images: Of a label; a larger one consists of equal vectors, and is grouped in pieces.
    Cost: two shuffles of 21 bytes per pair inside labels; tasks need 5 n squared bytes within a label.
    """
    rows = _by_label(_members(ranked), near)
    return rows.mapInArrow(functools.partial(_group_batches, max_images=max_images), _GROUPED.ddl)


def likely_alike(distance: Column, hamming_bits: Column | None = None) -> Column:
    """Whether one of a pair may be a mere re-encoding of the other: by its hashes, or by a distance of likeness."""
    return distance <= _ALIKE_DISTANCE if hamming_bits is None else hamming_bits <= _ALIKE_BITS


def _members(ranked: DataFrame) -> DataFrame:
    """(label, representative_id, rank, image_id): each representative with its first image by rank."""
    first = F.min(F.struct("rank", "image_id")).alias("first")
    members = ranked.groupBy("label", "representative_id").agg(first)
    return members.select("label", "representative_id", "first.*")


def _by_label(members: DataFrame, near: DataFrame) -> DataFrame:
    """Members as rows (label, a = b, rank, image_id) and near pairs inside labels, together and in order."""
    of_a, of_b = (members.select(F.col("representative_id").alias(c), F.col("label").alias(f"label_{c}")) for c in "ab")
    inside = near.join(of_a, "a").join(of_b, "b").where("label_a = label_b")
    rows = members.selectExpr("label", "representative_id AS a", "representative_id AS b", "rank", "image_id")
    pairs = inside.selectExpr("label_a AS label", "a", "b", "distance", "alike")
    together = rows.unionByName(pairs, allowMissingColumns=True).repartition("label")
    return together.sortWithinPartitions("label", "rank", "a", "b")


@dataclass(frozen=True)
class _Group:
    """One label: (n,) ids, images and ranks of the representatives; (n, n) how far two are from each other, inf where
    they are not known to be near, and whether they are alike."""

    ids: Int64
    images: Int64
    rank: Int64
    distance: Float32
    alike: Bools

    @property
    def near(self) -> Bools:
        return np.isfinite(self.distance)


def _read_groups(batches: Iterable[pa.RecordBatch], max_images: int) -> Iterator[_Group]:
    for rows in whole_groups(batches, "label"):
        single = rows.filter(rows["rank"].is_valid())
        pairs = rows.filter(rows["rank"].is_null())
        a, b = (pairs[c].to_numpy() for c in "ab")
        for number, mine in enumerate(rows_of_pieces(single["a"].to_numpy(), a, b, max_images)):
            yield _group_of(single.slice(number * max_images, max_images).sort_by("a"), pairs.take(mine))


def _group_of(single: pa.Table, pairs: pa.Table) -> _Group:
    """The members `single`, ascending, and the pairs between two of them."""
    ids = single["a"].to_numpy()
    i, j = (np.searchsorted(ids, pairs[c].to_numpy()) for c in "ab")
    distance, alike = np.full((len(ids),) * 2, np.inf, np.float32), np.eye(len(ids), dtype=bool)
    np.fill_diagonal(distance, 0)
    distance[i, j] = distance[j, i] = pairs["distance"].to_numpy()
    alike[i, j] = alike[j, i] = pairs["alike"].to_numpy(zero_copy_only=False)
    rank = single["rank"].to_numpy().astype(np.int64)
    return _Group(ids, single["image_id"].to_numpy(), rank, distance, alike)


def _batches_to_measure(batches: Iterable[pa.RecordBatch], max_images: int) -> Iterator[pa.RecordBatch]:
    """On executors: the pairs that could bind a member, and are not known to be near."""
    for group in _read_groups(batches, max_images):
        for candidate in {int(np.argmin(group.rank)), keeping.centre(group.near, group.rank)}:
            far = np.flatnonzero(~group.near[candidate])
            own = np.full(len(far), group.ids[candidate])
            columns = [np.minimum(own, group.ids[far]), np.maximum(own, group.ids[far]), own]
            yield pa.RecordBatch.from_arrays([pa.array(c) for c in columns], ["image_id_a", "image_id_b", "query_id"])


def _group_batches(batches: Iterable[pa.RecordBatch], max_images: int) -> Iterator[pa.RecordBatch]:
    """On executors: each representative's keeper, and what supports it."""
    for group in _read_groups(batches, max_images):
        kept = keeping.assign_keepers(group.distance, group.alike, group.rank)
        is_direct = kept.near == kept.keeper
        columns = [
            group.ids,
            group.images[kept.keeper],
            group.ids[kept.keeper],
            group.images,
            pa.array(group.images[kept.near], mask=is_direct),
            pa.array(group.distance[np.arange(len(group.ids)), kept.near], mask=is_direct),
            np.isin(np.arange(len(group.ids)), kept.near[~is_direct]),
        ]
        yield pa.RecordBatch.from_arrays([pa.array(c) for c in columns], _GROUPED.names)


def with_keepers(ranked: DataFrame, grouped: DataFrame) -> DataFrame:
    """Members of the final groups of two or more, with cluster_size, is_keeper, the keeper and its KEEPER_FACTS."""
    grouped_members = ranked.join(grouped, "representative_id")
    sizes = grouped_members.groupBy("keeper_image_id").agg(F.count("*").alias("cluster_size"))
    keepers = facts_of("keeper", ranked, KEEPER_FACTS)
    kept = grouped_members.join(sizes.where("cluster_size > 1").join(keepers, "keeper_image_id"), "keeper_image_id")
    return kept.withColumn("is_keeper", F.col("image_id") == F.col("keeper_image_id"))


def facts_of(who: str, ranked: DataFrame, facts: Iterable[str]) -> DataFrame:
    """The ids of images as `<who>_image_id`, and their facts as `<who>_<fact>`."""
    return ranked.select(F.col("image_id").alias(f"{who}_image_id"), *[F.col(c).alias(f"{who}_{c}") for c in facts])


def bridges(edges: DataFrame, grouped: DataFrame) -> DataFrame:
    """(representative_id): those with an edge to an image of another group. There a chain of near pairs was cut."""
    of_a, of_b = (
        grouped.select(F.col("representative_id").alias(c), F.col("keeper_image_id").alias(f"of_{c}")) for c in "ab"
    )
    cut = edges.join(of_a, "a", "left").join(of_b, "b", "left").where("NOT (of_a <=> of_b)")
    return cut.select(F.explode(F.array("a", "b")).alias("representative_id")).distinct()


def require_bound(clusters: DataFrame) -> None:
    """Raise TableError when a member is farther from what it is near than the bound, or that distance is not known."""
    columns = ("uri", "near_distance", "bound")
    far = clusters.where("near_distance IS NULL OR near_distance > bound").select(*columns).first()
    if far is not None:
        raise TableError(
            f"{far['uri']} is at distance {far['near_distance']} from the image that stands for it, beyond the bound "
            f"that clusters promise ({far['bound']}): a table changed while it was read; run again"
        )
