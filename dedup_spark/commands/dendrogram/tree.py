"""The tree of one component as plain values: leaves, merges, the cut, and the groups at any other cut. No Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dedup_spark.commands.dendrogram.curves import Curve
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Float64
from dedup_spark.kernels.clusters.linkage import WARD, cut_tree
from dedup_spark.vocabulary import DistanceUnit, Guard, Word


@dataclass(frozen=True)
class Axis:
    """What the heights of a tree are: their name and unit, how many of them one distance of the kernels is, and the
    largest that two images can have; None where heights grow with the groups."""

    name: str
    scale: float
    most: float | None


_AXES = {
    DistanceUnit.COPY_PROBABILITY: Axis("1 - copy probability", 1.0, 1.0),
    DistanceUnit.SIMILARITY: Axis("1 - cosine", 1.0, 2.0),
    DistanceUnit.HAMMING_BITS: Axis("bits of 64 that differ", 64.0, 64.0),
}
_WARD_AXES = {
    DistanceUnit.SIMILARITY: Axis("Ward's height over sqrt(2 - 2 cosine)", 1.0, None),
    DistanceUnit.HAMMING_BITS: Axis("Ward's height over the square root of the bits that differ", 32.0**0.5, None),
}


def axis_of(unit: DistanceUnit, method: str) -> Axis:
    """The axis of a tree of this unit and linkage."""
    return _WARD_AXES[unit] if method == WARD else _AXES[unit]


@dataclass(frozen=True)
class Leaf:
    """One distinct picture of the component; `n_images` files have its pixels.

    Attributes:
        image_id: Of the representative of these files.
        uri: Of the keeper, where it is one of these files, else of the representative.
        cluster_id: The published cluster of these files; None where they are in none.
        guard: Why likeness alone does not join the picture, if it is guarded.
        thumbnail: JPEG; None where none was asked for.
    """

    image_id: int
    uri: str
    n_images: int = 1
    cluster_id: int | None = None
    is_keeper: bool = False
    guard: Guard | None = None
    thumbnail: bytes | None = field(default=None, repr=False)


class Change(Word):
    """What a group at a cut is to the published clusters."""

    NONE = "as published"
    DIVIDED = "divided after the cut"
    JOINS = "joins"
    SPLITS = "splits"
    JOINS_AND_SPLITS = "joins and splits"


@dataclass(frozen=True)
class Group:
    """The leaves that are together at a cut, in the order of the tree's leaves.

    Attributes:
        cluster_ids: The published clusters with pictures in it.
        n_alone: Its pictures that are in no published cluster.
        change: What would become of those clusters. `divided after the cut`: this group was made by the cut of the run,
            and then divided, because its keeper does not reach all members in two steps.
    """

    leaves: tuple[Leaf, ...]
    cluster_ids: tuple[int, ...]
    n_alone: int
    change: Change


@dataclass(frozen=True)
class Dendrogram:
    """The tree of one component, or of the largest branch around what was asked for that has at most so many pictures.

    Attributes:
        cluster_id: The cluster that was asked for, or that holds the image asked for; None where it is in none.
        n_pictures: Distinct pictures of the whole component.
        merges: As kernels/clusters/linkage.py describes them, heights in the unit of the axis; numbers below
            len(leaves) are those of `leaves`.
        cut: The height at which the run cut the tree.
        at: The height of the cut that `groups` are of: the one asked for, else that of the run.
        joins_at: The height at which this branch joins the rest; None where it is the whole component.
        joined_by: What joins images to a component, in words.
        decided_by: The number of pairs with evidence inside the component, by what decided them.
        curves: How precision and recall move with the cut.
    """

    component_id: int
    cluster_id: int | None
    n_pictures: int
    axis: Axis
    method: str
    cut: float
    at: float
    leaves: tuple[Leaf, ...]
    merges: Float64
    joins_at: float | None = None
    joined_by: str = ""
    decided_by: Mapping[str, int] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()

    @property
    def groups(self) -> tuple[Group, ...]:
        return groups_at(self, self.at)


def require_height(axis: Axis, value: float) -> float:
    """A cut that was asked for. Raises ConfigError where it is no height of this axis."""
    if not (0 <= value <= (np.inf if axis.most is None else axis.most)):
        most = "or more" if axis.most is None else f"to {axis.most:g}"
        raise ConfigError(f"--at {value:g}: expected a height from 0 {most}; the unit of this tree is: {axis.name}")
    return value


def groups_at(found: Dendrogram, height: float) -> tuple[Group, ...]:
    """The groups where merges up to this height are made; the first is that of the first leaf."""
    published = set(_together(found, found.cut))
    cluster_sizes = Counter(leaf.cluster_id for leaf in found.leaves)
    return tuple(
        _group([found.leaves[i] for i in members], members in published, cluster_sizes)
        for members in _together(found, height)
    )


def _together(found: Dendrogram, height: float) -> list[tuple[int, ...]]:
    """The leaves of each group at a height, ascending."""
    groups: dict[int, list[int]] = {}
    for leaf, first in enumerate(cut_tree(found.merges, height).tolist()):
        groups.setdefault(first, []).append(leaf)
    return [tuple(members) for members in groups.values()]


def _group(leaves: list[Leaf], is_of_the_run: bool, cluster_sizes: Mapping[int | None, int]) -> Group:
    here = Counter(leaf.cluster_id for leaf in leaves)
    n_alone = here.pop(None, 0)
    clusters = [cluster for cluster in here if cluster is not None]
    joins = len(clusters) + n_alone > 1
    splits = any(here[cluster] < cluster_sizes[cluster] for cluster in clusters)
    if is_of_the_run:
        change = Change.DIVIDED if joins else Change.NONE
    else:
        change = {
            (False, False): Change.NONE,
            (True, False): Change.JOINS,
            (False, True): Change.SPLITS,
            (True, True): Change.JOINS_AND_SPLITS,
        }[joins, splits]
    return Group(tuple(leaves), tuple(clusters), n_alone, change)
