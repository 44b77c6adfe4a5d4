"""The curves of precision and recall: of one component, of all pairs of the lake, of labelled pairs."""

from __future__ import annotations

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.commands.dendrogram.curves import Curve, Scored, cuts_near_zero, even_cuts, points_of
from dedup_spark.commands.labelled_images import known_images
from dedup_spark.commands.labels import Labels, UsablePairs, usable_pairs
from dedup_spark.commands.last_settings import Settings, last_lake, least_probability
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Bools, Float64
from dedup_spark.kernels.clusters.trees import joined_at
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.component_tree import ComponentTree
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.schema import CLUSTERS, EVIDENCE, FEATURES, QUALITY
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import ComparedFor, DistanceUnit, Metric

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


def curve_of_labelled_pairs(tables: Tables, labels: Labels, settings: Settings, unit: DistanceUnit) -> Curve:
    """Of pairs that somebody labelled, by their distance in the unit that decides in these tables.

    A pair without evidence is joined by no cut. Pairs of equal pixels are left out: each cut joins them.

    Raises:
        ConfigError: no pair can be used.
    """
    known = known_images(tables, labels, last_lake(tables, "dendrogram"), embedded=unit != DistanceUnit.HAMMING_BITS)
    found, counts = usable_pairs(labels, known)
    if not len(found.a):
        raise ConfigError(f"--pairs {labels.file}: {counts.in_words(labels.file)}")
    is_copy, height, together = _with_distances(tables, found, unit)
    used, cuts, axis = _cuts(settings, unit)
    return Curve(
        "Labelled pairs",
        axis,
        f"{counts.in_words(labels.file)} They say of the lake what they are chosen for: choose them at random among "
        f"those in question. {int(np.isinf(height).sum()):,} of them are no pair that was compared, so that no cut "
        f"joins them. The published clusters hold {_shares(is_copy, together)}.",
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


def _with_distances(tables: Tables, found: UsablePairs, unit: DistanceUnit) -> tuple[Bools, Float64, Bools]:
    """Of each pair whether it is a copy, its distance (infinite where it has none), and whether it is published."""
    rows = zip(found.a.tolist(), found.b.tolist(), found.is_copy.tolist(), strict=True)
    asked = local_relation(tables.spark, list(rows), "image_id_a bigint, image_id_b bigint, is_copy boolean")
    ends = asked.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id")).distinct()
    cluster = tables.read(CLUSTERS).select("image_id", "cluster_id").join(F.broadcast(ends), "image_id")
    measured = asked.join(_measured(tables, asked, unit), ["image_id_a", "image_id_b"], "left")
    for side in "ab":
        of_side = cluster.select(
            F.col("image_id").alias(f"image_id_{side}"), F.col("cluster_id").alias(f"cluster_{side}")
        )
        measured = measured.join(of_side, f"image_id_{side}", "left")
    is_together = F.coalesce(F.col("cluster_a") == F.col("cluster_b"), F.lit(False)).alias("together")
    table = measured.select("is_copy", F.coalesce("distance", F.lit(np.inf)).alias("distance"), is_together).toArrow()
    is_copy, distance, together = (table[name].to_numpy() for name in table.column_names)
    return is_copy.astype(bool), distance.astype(np.float64), together.astype(bool)


def _measured(tables: Tables, asked: DataFrame, unit: DistanceUnit) -> DataFrame:
    """(image_id_a, image_id_b, distance) of pairs of representatives, in the unit of the curve."""
    ids = ["image_id_a", "image_id_b"]
    pairs = asked.select(*ids)
    if unit == DistanceUnit.COPY_PROBABILITY:
        compared = tables.read(EVIDENCE).join(F.broadcast(pairs), ids, "left_semi")
        return compared.select(*ids, (1 - F.col("copy_probability").cast("double")).alias("distance"))
    signatures = tables.read(FEATURES).select("image_id", "phash", "embedding")
    by: Column = 1 - F.col("similarity").cast("double") if unit == DistanceUnit.SIMILARITY else F.col("hamming_bits")
    return score_pairs(F.broadcast(pairs), signatures).select(*ids, by.cast("double").alias("distance"))
