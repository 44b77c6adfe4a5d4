"""The curves of precision and recall: of one component, of all pairs of the lake, of labelled pairs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.commands.dendrogram.curves import Curve, Scored, cuts_near_zero, even_cuts, points_of
from dedup_spark.commands.labelled_pairs import with_ids
from dedup_spark.commands.last_settings import Settings, least_probability
from dedup_spark.kernels.clusters.trees import joined_at
from dedup_spark.stages.cluster.component_tree import ComponentTree
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.schema import CLUSTERS, EVIDENCE, FEATURES, QUALITY
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import ComparedFor, DistanceUnit, FeatureStatus, Metric

_STEPS = 10_000
"""Of 1 - copy_probability: so many numbers at most come to the driver, whatever the lake holds."""
_JOINING = "1 - copy probability of a pair, up to which it joins its two images"
_EXPECTED = (
    "Expected, not counted: of pairs with copy probability p a share p is taken to be copies. That rests on the "
    "calibration ({calibration})"
)


def curve_of_component(tree: ComponentTree) -> Curve:
    """Of the pairs with evidence inside one component, by the height at which its tree brings them together."""
    p = tree.pairs
    a, b = np.minimum(p.a, p.b), np.maximum(p.a, p.b)
    scored = Scored.each(joined_at(tree.merges, a, b), p.probability)
    return Curve(
        "This component: pairs that are in one group",
        "1 - copy probability up to which two groups merge",
        _EXPECTED.format(calibration="cluster.prior, or the one shipped with the model")
        + f". Counted are the {len(p.a):,} pairs of the component that were weighed; pairs that nobody compared are in "
        "neither number.",
        tree.cut,
        points_of(scored, even_cuts(1.0, tree.cut)),
    )


def curve_of_lake(tables: Tables, settings: Settings) -> list[Curve]:
    """Of all pairs that match found, by the cut that joins two images; none where no pair has a probability.

    Cost: one aggregate over evidence, and at most 10,001 rows on the driver.
    """
    found = tables.read(EVIDENCE).where(F.col("compared_for") == ComparedFor.MATCH)
    probability = F.col("copy_probability").cast("double")
    step = F.ceil((1 - probability) * _STEPS - 1e-3).alias("step")
    joins = (probability >= least_probability(settings)).alias("joins")  # so that the steps are exact at this cut
    sums = found.groupBy(step, joins).agg(F.count("*").alias("n"), F.sum("copy_probability").alias("copies"),
                                   F.first("calibration").alias("calibration")).toArrow()  # fmt: skip
    if not len(sums):
        return []
    used = joining_cut(settings)
    steps, joined = sums["step"].to_numpy() / _STEPS, sums["joins"].to_numpy(zero_copy_only=False)
    height = np.where(joined, np.minimum(steps, used), np.maximum(steps, used + 1 / _STEPS))
    scored = Scored(height, sums["n"].to_numpy().astype(np.float64), sums["copies"].to_numpy().astype(np.float64))
    rests_on = (
        f"{_EXPECTED.format(calibration=sums['calibration'][0].as_py())}, and on the lake being like the images that "
        f"it was fitted to; `dedup-spark calibrate` fits it to this lake. Recall is of the copies among the "
        f"{int(scored.n_pairs.sum()):,} pairs that match found{_recall_of_match(tables)}."
    )
    points = points_of(scored, cuts_near_zero(used))
    return [Curve("The lake: pairs that join images to components", _JOINING, rests_on, used, points)]


def joining_cut(settings: Settings) -> float:
    """The largest 1 - copy_probability of a pair that joins two images, by these settings."""
    return round(1 - least_probability(settings), 6)


def _recall_of_match(tables: Tables) -> str:
    """What the last audit says of the pairs that match did not find, as the end of a sentence."""
    audits = tables.read(QUALITY).where((F.col("metric") == Metric.RECALL) & F.col("value").isNotNull())
    last = audits.orderBy(F.desc("run_id")).first()
    if last is None:
        return "; how many others there are was not measured"
    return f"; by the audit of the last match these are {last['value']:.1%} of the pairs that an exact search finds"


def curve_of_labelled_pairs(tables: Tables, labelled: pa.Table, settings: Settings, unit: DistanceUnit) -> Curve:
    """Of pairs that somebody labelled, by their distance in the unit that decides in these tables.

    A pair without evidence is joined by no cut, and a pair of equal pixels by each.
    """
    pairs = with_ids(tables, labelled)
    rows = _distances(tables, pairs, unit).toArrow()
    height = rows["distance"].to_numpy(zero_copy_only=False).astype(np.float64)
    is_copy = rows["is_copy"].to_numpy(zero_copy_only=False)
    height = np.where(np.isnan(height), np.inf, height)
    together = rows["together"].to_numpy(zero_copy_only=False)
    used, cuts, axis = _cuts(settings, unit)
    return Curve(
        "Labelled pairs",
        axis,
        f"Counted on {len(is_copy):,} labelled pairs, {int(is_copy.sum()):,} of them copies; it says of the lake "
        "what these pairs say of it: choose them at random among those in question. "
        f"{int(np.isinf(height).sum()):,} of them are no pair that was weighed, so that no cut joins them. The "
        f"published clusters hold {_shares(is_copy, together)}.",
        used,
        points_of(Scored.each(height, is_copy.astype(np.float64)), cuts),
    )


def _shares(is_copy: np.ndarray, together: np.ndarray) -> str:
    n_right = int((is_copy & together).sum())
    return (
        f"{n_right:,} of the {int(is_copy.sum()):,} copies, and {int(together.sum()) - n_right:,} of the "
        f"{int((~is_copy).sum()):,} pairs that are none"
    )


def _cuts(settings: Settings, unit: DistanceUnit) -> tuple[float, list[float], str]:
    if unit == DistanceUnit.COPY_PROBABILITY:
        used = joining_cut(settings)
        return used, cuts_near_zero(used), _JOINING
    if unit == DistanceUnit.SIMILARITY:
        used = round(1 - settings["cluster"]["min_similarity"], 6)
        return used, even_cuts(1.0, used), "1 - cosine of a pair, up to which it joins its two images"
    used = float(settings["match"]["max_hamming_bits"])
    return used, even_cuts(20.0, used), "bits of 64 that differ in a pair, up to which it joins its two images"


def _distances(tables: Tables, pairs: DataFrame, unit: DistanceUnit) -> DataFrame:
    """(is_copy, distance, together): the distance of the representatives of each pair, and whether it is published."""
    features = tables.read(FEATURES).where(F.col("status") == FeatureStatus.OK)
    ends = pairs.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id")).distinct()
    shown = features.select("image_id", "pixel_hash").join(F.broadcast(ends), "image_id")
    first = features.join(F.broadcast(shown.select("pixel_hash").distinct()), "pixel_hash", "left_semi")
    stands_for = first.groupBy("pixel_hash").agg(F.min("image_id").alias("stands_for"))
    named = shown.join(stands_for, "pixel_hash").select("image_id", "stands_for")
    cluster = tables.read(CLUSTERS).select("image_id", "cluster_id").join(F.broadcast(ends), "image_id", "left_semi")
    known = pairs
    for side in "ab":
        of_side = named.join(cluster, "image_id", "left").select(
            F.col("image_id").alias(f"image_id_{side}"),
            F.col("stands_for").alias(f"stands_for_{side}"),
            F.col("cluster_id").alias(f"cluster_{side}"),
        )
        known = known.join(of_side, f"image_id_{side}", "left")
    asked = known.select(
        F.least("stands_for_a", "stands_for_b").alias("image_id_a"),
        F.greatest("stands_for_a", "stands_for_b").alias("image_id_b"),
        "is_copy",
        F.coalesce(F.col("cluster_a") == F.col("cluster_b"), F.lit(False)).alias("together"),
    )
    distance = F.when(F.col("image_id_a") == F.col("image_id_b"), 0.0).otherwise(F.col("distance")).alias("distance")
    measured = _measured(tables, asked, unit)
    return asked.join(measured, ["image_id_a", "image_id_b"], "left").select("is_copy", distance, "together")


def _measured(tables: Tables, asked: DataFrame, unit: DistanceUnit) -> DataFrame:
    """(image_id_a, image_id_b, distance) of pairs of representatives, in the unit of the curve."""
    ids = ["image_id_a", "image_id_b"]
    pairs = asked.where("image_id_a < image_id_b").select(*ids).distinct()
    if unit == DistanceUnit.COPY_PROBABILITY:
        weighed = tables.read(EVIDENCE).join(F.broadcast(pairs), ids, "left_semi")
        return weighed.select(*ids, (1 - F.col("copy_probability").cast("double")).alias("distance"))
    signatures = tables.read(FEATURES).select("image_id", "phash", "embedding")
    by: Column = 1 - F.col("similarity").cast("double") if unit == DistanceUnit.SIMILARITY else F.col("hamming_bits")
    return score_pairs(F.broadcast(pairs), signatures).select(*ids, by.cast("double").alias("distance"))
