"""The tree of merges inside one component, made anew from the tables by the functions that cut it.

The step cluster cuts a component twice where probabilities decide (kernels/clusters/grouping.py), else once. Here the
second trees stand inside the groups of the first one, so that there is one tree, and its cut gives the groups that the
step made. That is checked: a tree that says otherwise is an error, not an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_spark.errors import TableError
from dedup_spark.kernels.arrays import Bools, Float64, Int64
from dedup_spark.kernels.clusters import linkage
from dedup_spark.kernels.clusters.grouping import component_tree
from dedup_spark.kernels.clusters.linkage import cut_tree, height_of
from dedup_spark.kernels.clusters.trees import refine
from dedup_spark.kernels.comparing.probability import MIN_GROUP_PROBABILITY
from dedup_spark.stages.cluster.cut import CutSettings, likeness_of, pairs_inside
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.sql_tables import Given, SqlTables
from dedup_spark.vocabulary import ComparedFor, DistanceUnit


@dataclass(frozen=True)
class Pairs:
    """The pairs of a component that have evidence: (m,) places a < b in its ids, probability, and what decided."""

    a: Int64
    b: Int64
    probability: Float64
    decided_by: tuple[str, ...]


@dataclass(frozen=True)
class ComponentTree:
    """The tree of one component, or of the piece of it that was cut together.

    Attributes:
        ids: (n,) ascending image ids of its representatives, the leaves.
        group: (n,) the smallest leaf of each leaf's group at the cut.
        merges: (n - 1, 4), see kernels/clusters/linkage.py; heights are distances of `unit` by the linkage.
        cut: The height of the cut; a merge at it is made.
        raised_to: As in the table components.
        pairs: What the cut was decided by; empty where it was by likeness.
    """

    component_id: int
    ids: Int64
    group: Int64
    merges: Float64
    unit: DistanceUnit
    cut: float
    raised_to: float | None
    pairs: Pairs


def read_component_tree(tables: SqlTables, component_id: int, image_id: int, settings: CutSettings) -> ComponentTree:
    """The tree that holds the representative `image_id` of this component; `settings` are those of the step's run.

    Raises:
        TableError: The tables say other groups: they were not all written by one step cluster with these settings.
    Cost: one scan of the ids in evidence, and of the ids of features where there is no evidence; this process needs
    6 x 8 n^2 bytes, for n at most cluster.max_component_images, as the task of the step did.
    """
    members = _piece(tables, component_id, image_id, settings.max_component_images)
    ids = members["image_id"].to_numpy()
    # A piece that was cut by evidence may have none inside: all its pairs may lead out of it.
    was_weighed = members["first_group_id"].null_count == 0
    return tree_of_rows(members, (_weighed if was_weighed else _signatures)(tables, ids), settings)


def _piece(tables: SqlTables, component_id: int, image_id: int, max_images: int) -> pa.Table:
    """Members in order; of a component of more than `max_images` equal vectors those that were cut together."""
    asked = {"component_id": component_id, "image_id": image_id}
    before = tables.ask(
        "SELECT count(*) AS n FROM $components WHERE component_id = :component_id AND image_id < :image_id", asked
    )
    start = before["n"][0].as_py() // max_images * max_images
    return tables.ask(
        "SELECT * FROM $components WHERE component_id = :component_id ORDER BY image_id "
        f"LIMIT {max_images} OFFSET {start}",
        {"component_id": component_id},
    )


def _weighed(tables: SqlTables, ids: Int64) -> pa.Table:
    """Rows of evidence between members."""
    return tables.ask(
        "SELECT image_id_a, image_id_b, copy_probability, decided_by, compared_for FROM $evidence "
        "WHERE image_id_a IN (SELECT image_id FROM $given) AND image_id_b IN (SELECT image_id FROM $given)",
        given=Given.ids(ids.tolist()),
    )


def _signatures(tables: SqlTables, ids: Int64) -> pa.Table:
    return tables.rows(FEATURES, ids.tolist(), ["image_id", "phash", "embedding"])


def tree_of_rows(members: pa.Table, known: pa.Table, settings: CutSettings) -> ComponentTree:
    """The tree from rows of the tables.

    Args:
        members: Rows of `components`, ascending by image_id: what was cut together.
        known: The rows of `evidence` between members, or none; where they were cut by likeness, their rows (image_id,
            phash, embedding) of `features`.

    Raises:
        TableError: see `read_component_tree`.
    """
    ids = members["image_id"].to_numpy()
    if "copy_probability" in known.column_names:
        pairs, matched = _pairs(ids, known)
        merges = _tree_by_evidence(ids, pairs, matched, settings.linkage)
        unit, similarity = DistanceUnit.COPY_PROBABILITY, MIN_GROUP_PROBABILITY
    else:
        pairs = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), ())
        merges, unit, similarity = _tree_by_likeness(ids, known, settings)
    cut = height_of(similarity, settings.linkage)
    group = cut_tree(merges, cut)
    first = members.slice(0, 1).to_pylist()[0]
    if not np.array_equal(ids[group], members["group_id"].to_numpy()):
        raise TableError(
            f"component {first['component_id']}: its tree gives other groups than the table components has: the step "
            "cluster was stopped while it wrote; run it again with --force"
        )
    return ComponentTree(first["component_id"], ids, group, merges, unit, cut, first["raised_to"], pairs)


def _pairs(ids: Int64, weighed: pa.Table) -> tuple[Pairs, Bools]:
    """The pairs that the cut was decided by, in order of their ids, and which of them match found."""
    for_cut = pc.is_in(weighed["compared_for"], pa.array([ComparedFor.MATCH, ComparedFor.LEADERS]))
    rows = weighed.filter(for_cut).sort_by([("image_id_a", "ascending"), ("image_id_b", "ascending")])
    probability = rows["copy_probability"].to_numpy().astype(np.float64)
    inside = pairs_inside(ids, rows["image_id_a"].to_numpy(), rows["image_id_b"].to_numpy(), probability)
    matched = pc.equal(rows["compared_for"], ComparedFor.MATCH).to_numpy()
    return Pairs(*inside, tuple(rows["decided_by"].to_pylist())), matched


def _tree_by_evidence(ids: Int64, pairs: Pairs, matched: Bools, method: str) -> Float64:
    """The tree of the second cut, inside the groups of the first, which saw the pairs that match found alone."""
    seen_first = pairs.a[matched], pairs.b[matched], pairs.probability[matched]
    coarse = component_tree(len(ids), *seen_first, method)
    label = cut_tree(coarse, height_of(MIN_GROUP_PROBABILITY, method))
    fine = {}
    for group in np.unique(label).tolist():
        members = np.flatnonzero(label == group)
        if len(members) > 1:
            inside = pairs_inside(members, pairs.a, pairs.b, pairs.probability)
            fine[group] = component_tree(len(members), *inside, method, settled=True)
    return refine(coarse, label, fine)


def _tree_by_likeness(ids: Int64, signatures: pa.Table, settings: CutSettings) -> tuple[Float64, DistanceUnit, float]:
    rows = signatures.sort_by("image_id")
    if rows["image_id"].to_pylist() != ids.tolist():
        raise TableError("features lacks members of this component: they are gone from the lake; run cluster again")
    likeness = likeness_of(rows, settings)
    return linkage.merge_tree(likeness.similarity, settings.linkage), likeness.unit, likeness.cut
