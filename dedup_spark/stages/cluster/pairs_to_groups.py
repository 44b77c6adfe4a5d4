"""From pairs to groups: which representatives belong together, and how far one is from another.

There are two ways. By evidence, where the model has a calibration: scores, and the thumbnails where scores leave a
doubt, give each pair a probability that it is a copy (evidence.py). By likeness elsewhere, for hashes alone or, with
cluster.uncalibrated=cosine, a model without calibration: the cosine, or the pHash, decides by itself. Both give
`Groups` and `Distances`; what follows is the same. Part of the step cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.kernels.comparing.probability import Prior, prior_of
from dedup_spark.spark.needed_rows import only_needed
from dedup_spark.stages.cluster.components import bounded_components
from dedup_spark.stages.cluster.cut import cut_by_evidence, cut_by_likeness, cut_settings, require_linkage
from dedup_spark.stages.cluster.distances import ByEvidence, ByLikeness, Distances, EvidenceInputs
from dedup_spark.stages.cluster.evidence import joined_pairs
from dedup_spark.stages.cluster.guarded_images import FACTS, guarded_images, trusted_pairs
from dedup_spark.stages.cluster.keepers import bounds_of
from dedup_spark.stages.cluster.leaders import leader_pairs
from dedup_spark.stages.cluster.pictures import SIGNATURE, pictures_of
from dedup_spark.stages.cluster.several_frames import ByFrames, several_frames, with_agreeing_frames
from dedup_spark.stages.representatives import representatives
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import EVIDENCE, FEATURES, PAIRS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import IDENTICAL, ComparedFor


@dataclass(frozen=True)
class Groups:
    """Which images the pairs join.

    Attributes:
        labels: (image_id, cluster_label) of the representatives that some pair joins.
        edges: (a, b, similarity), the pairs that joined them.
        components: Rows of the table components: what was cut into those groups.
        guarded: (image_id, guard, n_neighbours), images that likeness alone does not join.
        pictures: pictures.COLUMNS of the images in components, and perhaps of others.
    """

    labels: DataFrame
    edges: DataFrame
    components: DataFrame
    guarded: DataFrame
    pictures: DataFrame


def group_pairs(run: Run, config: Config) -> tuple[Groups, Distances]:
    """By evidence where the model has a calibration, else by likeness."""
    tables = run.tables
    features = tables.read(FEATURES)
    model = model_of(features)
    require_linkage(config, model)
    prior = prior_of(model, config.cluster.prior)
    several = several_frames(features, tables)
    if prior is None:
        return _by_likeness(run, config, features, several)
    return _by_evidence(run, config, features, several, prior)


def model_of(features: DataFrame) -> str | None:
    """The model of the embeddings; extract makes sure that there is one only."""
    row = features.where("model_id IS NOT NULL").select("model_id").first()
    return row["model_id"] if row else None


def _by_likeness(run: Run, config: Config, features: DataFrame, several: DataFrame | None) -> tuple[Groups, Distances]:
    tables = run.tables
    near = with_agreeing_frames(near_pairs(tables.read(PAIRS), config.cluster), several)
    guarded = _guarded(tables, features, near, config.cluster)
    edges, components = _components(run, config, trusted_pairs(near, guarded, config), _likeness())
    pictures = pictures_of(components, features, tables)
    signatures = pictures.select(*SIGNATURE)
    vectors = only_needed(signatures, components.select("image_id"))
    labels = tables.stage("labels", cut_by_likeness(components, vectors, cut_settings(config)))
    cut = as_components(components, None, labels)
    measured = edges.select("a", "b", (1 - F.col("similarity")).cast("float").alias("distance"))
    distances = ByLikeness(signatures, bounds_of(config), measured)
    return Groups(labels, edges, cut, guarded, pictures), ByFrames(distances, several)


def _guarded(tables: Tables, features: DataFrame, pairs: DataFrame, settings: ClusterSettings) -> DataFrame:
    facts = representatives(features).select("image_id", *FACTS)
    return tables.stage("guarded", guarded_images(facts, pairs, settings))


def near_pairs(pairs: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Pairs of representatives that are near enough to share a cluster.

    Linkage joins two groups only where some pair reaches the cut, so weaker pairs cannot matter. Without
    embeddings the share of equal pHash bits stands for the similarity.
    """
    return pairs.where(~F.col("method").isin(*IDENTICAL) & (_likeness() >= settings.min_similarity))


def _likeness() -> Column:
    return F.coalesce("similarity", 1 - F.col("hamming_bits") / 64)


def _components(run: Run, config: Config, pairs: DataFrame, similarity: Column) -> tuple[DataFrame, DataFrame]:
    """Edges (a, b, similarity) of pairs, and their components, none larger than linkage can hold."""
    tables, settings = run.tables, config.cluster
    a, b = F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b")
    edges = tables.stage("edges", pairs.select(a, b, similarity.alias("similarity")))
    return edges, bounded_components(edges, tables, settings.max_component_images, settings.max_driver_pairs)


def _by_evidence(
    run: Run, config: Config, features: DataFrame, several: DataFrame | None, prior: Prior
) -> tuple[Groups, Distances]:
    """Components of likely pairs, a first cut, evidence on its leaders and all members, and a second cut."""
    tables, cutting = run.tables, cut_settings(config)
    found = with_agreeing_frames(tables.read(PAIRS).where(~F.col("method").isin(*IDENTICAL)), several)
    found_by_match = ByEvidence(EvidenceInputs.of(run, config, prior)).add(found, ComparedFor.MATCH)

    likely = joined_pairs(found_by_match.evidence, config.cluster)
    guarded = _guarded(tables, features, likely, config.cluster)
    trusted = trusted_pairs(likely, guarded, config)
    # Components too large are split by raising a threshold on this in even steps, and most probabilities are near 1.
    spread = 1 - F.pow(1 - F.col("copy_probability"), F.lit(0.25))
    edges, spread_components = _components(run, config, trusted, spread)
    components = spread_components.withColumn("raised_to", 1 - F.pow(1 - F.col("raised_to"), F.lit(4)))
    pictures = pictures_of(components, features, tables)
    distances: Distances = ByFrames(found_by_match.within(components, pictures), several)
    first = tables.stage("first_cut", cut_by_evidence(components, distances.inside, cutting))
    distances = distances.measure(leader_pairs(first, distances.inside), ComparedFor.LEADERS)
    groups = first.withColumnRenamed("cluster_label", "component_id")
    labels = tables.stage("labels", cut_by_evidence(groups, distances.inside, cutting, settled=True))
    return Groups(labels, edges, as_components(components, first, labels), guarded, pictures), distances


def as_components(components: DataFrame, first: DataFrame | None, labels: DataFrame) -> DataFrame:
    """Rows of the table components from (image_id, component_id, raised_to) and the labels of one cut or two."""
    last = labels.withColumnRenamed("cluster_label", "group_id")
    if first is None:
        return components.join(last, "image_id").withColumn("first_group_id", F.lit(None).cast("bigint"))
    return components.join(first.withColumnRenamed("cluster_label", "first_group_id"), "image_id").join(
        last, "image_id"
    )


def count_evidence(run: Run) -> dict[str, int]:
    """Pairs by what decided them; `undecided` is what cluster.max_verified_pairs left in doubt."""
    by = run.tables.read(EVIDENCE).groupBy("decided_by").count().collect()
    return {f"pairs_by_{r['decided_by']}": r["count"] for r in by}
