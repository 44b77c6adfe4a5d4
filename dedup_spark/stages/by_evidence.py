"""Groups by evidence: for embeddings whose model has a calibration. Part of the step cluster.

Pairs are weighed (verify.py), joined where they are copies with the precision asked for, cut, and cut again after the
leaders of each group were weighed against all its members. Keepers are then weighed the same way.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.kernels.probability import Prior
from dedup_spark.runs import Run
from dedup_spark.stages.bounds import Bounds, Weigh
from dedup_spark.stages.components import bounded_components
from dedup_spark.stages.cut import cut_settings, cut_weighed
from dedup_spark.stages.guards import trusted_pairs
from dedup_spark.stages.representatives import representatives
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.stages.verify import WeighSettings, edges_of, leader_pairs, weigh, weigh_settings
from dedup_spark.tables import DENSITIES, EVIDENCE, FEATURES, Tables

BOUND = 0.8
"""Largest distance, 1 - copy_probability, of a member to its keeper: nothing between the two says that they differ. Of
1,480 pairs of an original and an edited copy 99.9 % are nearer, of strangers in one frame 1 %."""


@dataclass(frozen=True)
class Groups:
    """What both ways to group give: labels, the edges that joined them, pairs known to be near, and how to weigh."""

    labels: DataFrame
    edges: DataFrame
    near: DataFrame
    weigh: Weigh
    bounds: Bounds


def weigh_candidates(pairs: DataFrame, densities: DataFrame, tables: Tables, config: Config, prior: Prior) -> DataFrame:
    """Rows of `evidence` for the pairs of representatives that match found."""
    candidates = pairs.where(~F.col("method").isin("same_bytes", "same_pixels"))
    return weigh(candidates, densities, _thumbnails(tables), tables, weigh_settings(config, prior))


def group_by_evidence(run: Run, config: Config, unique: DataFrame, guarded: DataFrame, prior: Prior) -> Groups:
    """Join what the table `evidence` says, cut, weigh leaders, cut again. Adds to `evidence`."""
    tables, settings, weighing = run.tables, config.cluster, weigh_settings(config, prior)
    evidence = tables.read(EVIDENCE)
    edges = tables.stage("edges", edges_of(trusted_pairs(evidence, guarded, config), settings.target_precision))
    components = bounded_components(edges, tables, settings.max_component_images, settings.max_driver_pairs)
    first = tables.stage("first_cut", cut_weighed(components, evidence, cut_settings(config)))
    leaders = tables.stage("leaders", leader_pairs(first, evidence))
    _weigh_more(leaders, unique, tables, weighing)
    groups = first.withColumnRenamed("cluster_label", "component_id")
    evidence = tables.read(EVIDENCE)
    labels = tables.stage("labels", cut_weighed(groups, evidence, cut_settings(config), settled=True))
    _count(run)
    near = evidence.where(F.col("copy_probability") >= 1 - BOUND)
    return Groups(
        labels,
        edges,
        near.select(F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b")),
        functools.partial(weigh_copies, unique=unique, tables=tables, settings=weighing),
        Bounds(BOUND, BOUND),
    )


def weigh_copies(pairs: DataFrame, unique: DataFrame, tables: Tables, settings: WeighSettings) -> DataFrame:
    """What the table `evidence` says of pairs; those that it lacks are weighed and added. See `bounds.Weigh`."""
    asked = tables.stage("pairs_asked", pairs)
    known = tables.read(EVIDENCE).select("image_id_a", "image_id_b")
    missing = tables.stage("pairs_missing", asked.join(known, ["image_id_a", "image_id_b"], "left_anti"))
    if not missing.isEmpty():
        _weigh_more(_with_centre(missing), unique, tables, settings)
    found = asked.join(tables.read(EVIDENCE), ["image_id_a", "image_id_b"])
    distance = F.round(1 - F.col("copy_probability").cast("double"), 6).cast("float")
    bound = F.lit(BOUND).cast("float").alias("bound")
    measure = F.col("decided_by").alias("measure")
    return found.select(
        "image_id_a", "image_id_b", "similarity", "hamming_bits", distance.alias("distance"), bound, measure
    )


def model_of(features: DataFrame) -> str | None:
    """The model of the embeddings; extract makes sure that there is one only."""
    row = features.where("model_id IS NOT NULL").select("model_id").first()
    return row["model_id"] if row else None


def _thumbnails(tables: Tables) -> DataFrame:
    return representatives(tables.read(FEATURES)).select("image_id", "thumbnail")


def _weigh_more(pairs: DataFrame, unique: DataFrame, tables: Tables, settings: WeighSettings) -> None:
    """Add to `evidence` pairs (image_id_a, image_id_b, centre) that it lacks."""
    scored = score_pairs(pairs.select("image_id_a", "image_id_b"), unique)
    asked = scored.join(pairs, ["image_id_a", "image_id_b"])
    weighed = weigh(asked, tables.read(DENSITIES), _thumbnails(tables), tables, settings)
    tables.append(EVIDENCE, tables.stage("more_evidence", weighed))


def _with_centre(pairs: DataFrame) -> DataFrame:
    """Add `centre`: the image that more of the pairs share."""
    of_a, of_b = (F.count("*").over(Window.partitionBy(f"image_id_{side}")) for side in "ab")
    return pairs.withColumn("centre", F.when(of_a >= of_b, F.col("image_id_a")).otherwise(F.col("image_id_b")))


def _count(run: Run) -> None:
    by = {r["decided_by"]: r["count"] for r in run.tables.read(EVIDENCE).groupBy("decided_by").count().collect()}
    run.count(**{f"decided_by_{k}": n for k, n in by.items() if k != "undecided"}, undecided=by.get("undecided", 0))
