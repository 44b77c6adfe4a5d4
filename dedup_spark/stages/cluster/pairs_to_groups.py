"""Which representatives belong together, and how far one is from another. Part of the step cluster.

Two ways to judge. By evidence, where the model has a calibration: scores, and the thumbnails where these leave a doubt,
give each pair a probability that it is a copy (evidence.py). By likeness elsewhere, for hashes alone or a model that
nobody calibrated: the cosine, or the pHash, decides by itself. Both come to a `Judgement`; what follows is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.kernels.clusters.probability import Prior
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.components import bounded_components
from dedup_spark.stages.cluster.cut import cut_components, cut_settings, cut_weighed
from dedup_spark.stages.cluster.evidence import joined_pairs, leader_pairs, prior_of, weigh, weigh_settings
from dedup_spark.stages.cluster.guards import FACTS, guarded_images, trusted_pairs
from dedup_spark.stages.cluster.keepers import Weigh, bound_without_pair, bounds_of, weigh_likeness
from dedup_spark.stages.representatives import representatives
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, EVIDENCE, FEATURES, PAIRS

_IDENTICAL = ("same_bytes", "same_pixels")
_BOUND = 0.8
"""By evidence, the largest distance (1 - copy_probability) to a keeper: nothing between the two says that they differ.
Of 1,480 pairs of an original and an edited copy 99.9 % are nearer, of different pictures in one frame 1 %."""


@dataclass(frozen=True)
class Judgement:
    """What both ways come to.

    Attributes:
        labels: (image_id, cluster_label) of the representatives that some pair joins.
        edges: (a, b, similarity), the pairs that joined them.
        near: (a, b), pairs known to be within the bound of each other; others may be, too.
        guarded: (image_id, guard, n_neighbours), images that likeness alone does not join.
        weigh: distance of any pairs; see bounds.Weigh.
        bound: largest distance to a keeper, for a member that nothing was weighed for.
        evidence: the rows of the table `evidence`; asked for last, because `weigh` may add some.
    """

    labels: DataFrame
    edges: DataFrame
    near: DataFrame
    guarded: DataFrame
    weigh: Weigh
    bound: Column
    evidence: Callable[[], DataFrame]


def judge(run: Run, config: Config) -> Judgement:
    """By evidence where it can be, else by likeness."""
    tables = run.tables
    features = tables.read(FEATURES)
    unique = tables.stage("unique", representatives(features).select("image_id", "phash", "embedding", *FACTS))
    prior = prior_of(model_of(features), config.cluster.prior)
    if prior is None:
        return _by_likeness(run, config, unique)
    return _by_evidence(run, config, unique, prior)


def model_of(features: DataFrame) -> str | None:
    """The model of the embeddings; extract makes sure that there is one only."""
    row = features.where("model_id IS NOT NULL").select("model_id").first()
    return row["model_id"] if row else None


def _by_likeness(run: Run, config: Config, unique: DataFrame) -> Judgement:
    tables, bounds = run.tables, bounds_of(config)
    near = near_pairs(tables.read(PAIRS), config.cluster)
    guarded = tables.stage("guarded", guarded_images(unique, near, config.cluster))
    edges, components = _components(run, config, trusted_pairs(near, guarded, config), _likeness())
    labels = tables.stage("labels", cut_components(components, unique, cut_settings(config)))
    measure = functools.partial(weigh_likeness, unique=unique, bounds=bounds)
    none = functools.partial(local_relation, unique.sparkSession, [], EVIDENCE.schema)
    return Judgement(labels, edges, edges, guarded, measure, bound_without_pair(bounds), none)


def near_pairs(pairs: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Pairs of representatives that are near enough to share a cluster.

    Linkage joins two groups only where some pair reaches the cut, so weaker pairs cannot matter. Without
    embeddings the share of equal pHash bits stands for the similarity.
    """
    return pairs.where(~F.col("method").isin(*_IDENTICAL) & (_likeness() >= settings.min_similarity))


def _likeness() -> Column:
    return F.coalesce("similarity", 1 - F.col("hamming_bits") / 64)


def _components(run: Run, config: Config, pairs: DataFrame, similarity: Column) -> tuple[DataFrame, DataFrame]:
    """Edges (a, b, similarity) of pairs, and their components, none larger than linkage can hold."""
    tables, settings = run.tables, config.cluster
    a, b = F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b")
    edges = tables.stage("edges", pairs.select(a, b, similarity.alias("similarity")))
    return edges, bounded_components(edges, tables, settings.max_component_images, settings.max_driver_pairs)


def _by_evidence(run: Run, config: Config, unique: DataFrame, prior: Prior) -> Judgement:
    """Components of sure pairs, a first cut, its leaders weighed against all members, and a second cut."""
    tables, cutting = run.tables, cut_settings(config)
    judged = _Evidence(run, config, unique, prior)
    judged.weigh(tables.read(PAIRS).where(~F.col("method").isin(*_IDENTICAL)))

    likely = joined_pairs(judged.rows(), config.cluster)
    guarded = tables.stage("guarded", guarded_images(unique, likely, config.cluster))
    trusted = trusted_pairs(likely, guarded, config)
    # Components too large are split by raising a threshold on this in even steps, and probabilities crowd below 1.
    spread = 1 - F.pow(1 - F.col("copy_probability"), F.lit(0.25))
    edges, components = _components(run, config, trusted, spread)
    first = tables.stage("first_cut", cut_weighed(components, judged.rows(), cutting))
    judged.add(leader_pairs(first, judged.rows()))
    groups = first.withColumnRenamed("cluster_label", "component_id")
    labels = tables.stage("labels", cut_weighed(groups, judged.rows(), cutting, settled=True))

    near = judged.rows().where(_distance() <= _as_float(_BOUND))
    ends = near.select(F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b"))
    return Judgement(labels, edges, ends, guarded, judged.distances, _as_float(_BOUND), judged.rows)


class _Evidence:
    """Rows of the table `evidence`, which grow by the pairs that are asked about; staged until the step writes them."""

    def __init__(self, run: Run, config: Config, unique: DataFrame, prior: Prior) -> None:
        self._tables, self._unique, self._settings = run.tables, unique, weigh_settings(config, prior)
        self._densities = run.tables.read(DENSITIES)
        self._thumbnails = run.tables.read(FEATURES).select("image_id", "thumbnail")
        self._parts: list[DataFrame] = []

    def rows(self) -> DataFrame:
        """All that was weighed so far."""
        return functools.reduce(DataFrame.unionByName, self._parts)

    def weigh(self, pairs: DataFrame) -> None:
        """Weigh scored pairs, none of which was weighed before."""
        weighed = weigh(pairs, self._densities, self._thumbnails, self._tables, self._settings)
        self._parts.append(self._tables.stage(f"evidence-{len(self._parts)}", weighed))

    def add(self, pairs: DataFrame) -> None:
        """Weigh those pairs (image_id_a, image_id_b, query_id) that were not weighed before."""
        ids = ["image_id_a", "image_id_b"]
        asked = pairs.join(self.rows(), ids, "left_anti").select(*ids, "query_id")
        new = self._tables.stage(f"unweighed-{len(self._parts)}", asked)
        if not new.isEmpty():
            self.weigh(score_pairs(new, self._unique).join(new, ids))

    def distances(self, pairs: DataFrame) -> DataFrame:
        """As bounds.Weigh: how unlikely each pair is a copy."""
        if "query_id" in pairs.columns:
            self.add(pairs)
        known = pairs.select("image_id_a", "image_id_b").join(self.rows(), ["image_id_a", "image_id_b"])
        return known.select(
            "image_id_a", "image_id_b", "similarity", "hamming_bits",
            _distance().alias("distance"),
            _as_float(_BOUND).alias("bound"),
            F.col("decided_by").alias("measure"),
        )  # fmt: skip


def _distance() -> Column:
    return (1 - F.col("copy_probability")).cast("float")


def _as_float(value: float) -> Column:
    return F.lit(value).cast("float")


def count_evidence(run: Run) -> dict[str, int]:
    """Pairs by what decided them; `undecided` is what cluster.max_verified_pairs left in doubt."""
    by = run.tables.read(EVIDENCE).groupBy("decided_by").count().collect()
    return {f"pairs_by_{r['decided_by']}": r["count"] for r in by}
