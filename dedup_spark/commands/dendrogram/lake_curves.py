"""The curves of precision and recall: of one component, of all pairs of the lake, of labelled pairs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dedup_spark.commands.dendrogram.curves import Curve, Scored, cuts_near_zero, even_cuts, points_of
from dedup_spark.commands.labelled_images import known_images
from dedup_spark.commands.labels import Labels, UsablePairs, usable_pairs
from dedup_spark.commands.last_settings import Settings, last_lake, least_probability
from dedup_spark.errors import ConfigError
from dedup_spark.kernels import vectors
from dedup_spark.kernels.arrays import Bools, Float64
from dedup_spark.kernels.clusters.trees import joined_at
from dedup_spark.stages.cluster.component_tree import ComponentTree
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.sql_tables import Given, SqlTables, first_row
from dedup_spark.vocabulary import ComparedFor, DistanceUnit, Metric

_STEPS = 10_000
"""Of 1 - copy_probability: so many numbers at most are fetched, whatever the lake holds."""
_STEPS_OF_LAKE = f"""\
SELECT ceil((1 - cast(copy_probability AS double)) * {_STEPS} - cast(0.001 AS double)) AS step,
       cast(copy_probability AS double) >= :least AS joins, count(*) AS n,
       sum(cast(copy_probability AS double)) AS copies, min(calibration) AS calibration
FROM $evidence WHERE compared_for = '{ComparedFor.MATCH}' GROUP BY 1, 2"""
"""How many pairs of each step; those that join are apart, so that the steps are exact at this cut."""
_AUDIT = f"""\
SELECT value FROM $quality WHERE metric = '{Metric.RECALL}' AND value IS NOT NULL ORDER BY run_id DESC LIMIT 1"""
_LABELLED = """\
SELECT g.image_id_a, g.image_id_b, g.is_copy, e.copy_probability,
       coalesce(ca.cluster_id = cb.cluster_id, false) AS together
FROM $given AS g
LEFT JOIN $evidence AS e ON e.image_id_a = g.image_id_a AND e.image_id_b = g.image_id_b
LEFT JOIN $clusters AS ca ON ca.image_id = g.image_id_a
LEFT JOIN $clusters AS cb ON cb.image_id = g.image_id_b"""
_CHUNK = 4096
"""Pairs whose vectors are compared at a time: 512 numbers of 4 bytes for each end."""
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


def curve_of_lake(tables: SqlTables, settings: Settings) -> list[Curve]:
    """Of all pairs that match found, by the cut that joins two images; none where no pair has a probability.

    Cost: one aggregate over evidence, and at most 10,002 rows of its answer.
    """
    sums = tables.ask(_STEPS_OF_LAKE, {"least": least_probability(settings)})
    if not len(sums):
        return []
    used = joining_cut(settings)
    steps, joined = sums["step"].to_numpy() / _STEPS, sums["joins"].to_numpy(zero_copy_only=False)
    height = np.where(joined, np.minimum(steps, used), np.maximum(steps, used + 1 / _STEPS))
    scored = Scored(height, sums["n"].to_numpy().astype(np.float64), sums["copies"].to_numpy().astype(np.float64))
    rests_on = (
        f"{_on_calibration(sums['calibration'][0].as_py(), settings)}. Recall is of the copies among the "
        f"{int(scored.n_pairs.sum()):,} pairs that match found{_recall_of_match(tables)}."
    )
    points = points_of(scored, cuts_near_zero(used))
    return [Curve("The lake: pairs that join images to components", _JOINING, rests_on, used, points)]


def _on_calibration(shipped: str, settings: Settings) -> str:
    """`shipped`: the version of the calibration that is in the package, which cluster.prior takes the place of."""
    if settings["cluster"]["prior"]:
        return _EXPECTED.format(calibration="cluster.prior, fitted to images of this lake")
    return (
        f"{_EXPECTED.format(calibration=shipped)}, and on the lake being like the images that it was fitted to; "
        "`dedup-spark calibrate` fits it to this lake"
    )


def joining_cut(settings: Settings) -> float:
    """The largest 1 - copy_probability of a pair that joins two images, by these settings."""
    return round(1 - least_probability(settings), 6)


def _recall_of_match(tables: SqlTables) -> str:
    """What the last audit says of the pairs that match did not find, as the end of a sentence."""
    last = first_row(tables.ask(_AUDIT))
    if last is None:
        return "; how many others there are was not measured"
    return f"; by the audit of the last match these are {last['value']:.1%} of the pairs that an exact search finds"


def curve_of_labelled_pairs(tables: SqlTables, labels: Labels, settings: Settings, unit: DistanceUnit) -> Curve:
    """Of pairs that somebody labelled, by their distance in the unit that decides in these tables.

    By probabilities a pair without evidence is joined by no cut. Cosines and hashes are taken of every pair, also of
    those that match did not find. Pairs of equal pixels are left out: each cut joins them.

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
        f"those in question. {_uncompared(int(np.isinf(height).sum()), unit)} The published "
        f"clusters hold {_shares(is_copy, together)}.",
        used,
        points_of(Scored.each(height, is_copy.astype(np.float64)), cuts),
    )


def _uncompared(n: int, unit: DistanceUnit) -> str:
    if unit == DistanceUnit.COPY_PROBABILITY:
        return f"{n:,} of them are no pair that was compared, so that no cut joins them."
    return f"{n:,} of them have no distance. Pairs that match did not find are measured too: recall is of all of them."


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


def _with_distances(tables: SqlTables, found: UsablePairs, unit: DistanceUnit) -> tuple[Bools, Float64, Bools]:
    """Of each pair whether it is a copy, its distance (infinite where it has none), and whether it is published."""
    rows = list(zip(found.a.tolist(), found.b.tolist(), found.is_copy.tolist(), strict=True))
    pairs = tables.ask(_LABELLED, given=Given("image_id_a bigint, image_id_b bigint, is_copy boolean", rows))
    if unit == DistanceUnit.COPY_PROBABILITY:
        distance = 1 - _float64(pairs["copy_probability"])
    else:
        distance = _measured(tables, pairs, unit)
    is_copy, together = (pairs[name].to_numpy().astype(bool) for name in ("is_copy", "together"))
    return is_copy, np.where(np.isnan(distance), np.inf, distance), together


def _float64(column: pa.ChunkedArray) -> Float64:
    """NaN for null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _measured(tables: SqlTables, pairs: pa.Table, unit: DistanceUnit) -> Float64:
    """1 - cosine, or the bits of pHash that differ, of pairs of representatives; NaN where one of them has none."""
    ends = [pairs[f"image_id_{side}"].to_numpy() for side in "ab"]
    column = "embedding" if unit == DistanceUnit.SIMILARITY else "phash"
    held = tables.rows(FEATURES, np.unique(np.concatenate(ends)).tolist(), ["image_id", column])
    held = held.filter(held[column].is_valid()).sort_by("image_id")
    ids = held["image_id"].to_numpy()
    distance = np.full(len(pairs), np.nan)
    known = np.flatnonzero(np.isin(ends[0], ids) & np.isin(ends[1], ids))
    for start in range(0, len(known), _CHUNK):
        chunk = known[start : start + _CHUNK]
        a, b = (held[column].take(pa.array(np.searchsorted(ids, end[chunk]))).to_pylist() for end in ends)
        if unit == DistanceUnit.SIMILARITY:
            distance[chunk] = 1 - vectors.cosines(vectors.from_bytes(a), vectors.from_bytes(b)).astype(np.float64)
        else:
            distance[chunk] = [((x ^ y) & (2**64 - 1)).bit_count() for x, y in zip(a, b, strict=True)]
    return distance
