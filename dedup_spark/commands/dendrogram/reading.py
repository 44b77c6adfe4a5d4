"""Reads the tree of a component with all that is shown of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.cluster.hierarchy import leaves_list

from dedup_spark.commands.clusters.naming import clusters_of_id
from dedup_spark.commands.dendrogram.curves import Curve
from dedup_spark.commands.dendrogram.lake_curves import curve_of_component, curve_of_labelled_pairs, curve_of_lake
from dedup_spark.commands.dendrogram.tree import Dendrogram, Leaf, axis_of, require_height
from dedup_spark.commands.image_ids import readings
from dedup_spark.commands.labels import Labels, read_labels
from dedup_spark.commands.last_settings import Settings, last_settings, least_probability
from dedup_spark.commands.trace import find_one_image
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.clusters.trees import branch_around
from dedup_spark.stages.cluster.component_tree import ComponentTree, read_component_tree
from dedup_spark.stages.cluster.cut import CutSettings
from dedup_spark.store.schema import FEATURES, FIRST_READ
from dedup_spark.store.sql_tables import Given, SqlTables, first_row
from dedup_spark.vocabulary import IDENTICAL, DistanceUnit, Guard

MAX_PICTURES = 500


@dataclass(frozen=True)
class Asked:
    """What is asked for: the component of a cluster, or of an image by its address or the end of its address.

    Attributes:
        cluster_id: Its number in the tables, or as text: that or hex digits, of which the first few are enough.
        at: A height at which the groups are asked for; None: that of the run.
        max_pictures: The most leaves; of a larger component the largest branch around the keeper, or the image.
        max_thumbnails: The most leaves that get a thumbnail.
        of_lake: Whether the curve of all pairs of the lake is wanted.
        pairs: A file of labelled pairs, whose curve is wanted.
    """

    cluster_id: int | str | None = None
    image: str | None = None
    at: float | None = None
    max_pictures: int = MAX_PICTURES
    max_thumbnails: int = 0
    of_lake: bool = False
    pairs: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for what can be known without tables."""
        problems = []
        if (self.cluster_id is None) == (self.image is None):
            problems.append("dendrogram: expected a cluster (--cluster) or an image (--image), one of the two")
        if self.cluster_id is not None and not readings(str(self.cluster_id)):
            problems.append(f"--cluster {self.cluster_id}: expected a number, or 4 to 16 hex digits")
        if self.max_pictures < 2:
            problems.append(f"--max-pictures {self.max_pictures}: expected 2 or more")
        if self.max_thumbnails < 0:
            problems.append(f"--thumbnails {self.max_thumbnails}: expected 0 or more")
        if problems:
            raise ConfigError(problems)

    @property
    def named(self) -> str:
        return f"--cluster {self.cluster_id}" if self.image is None else f"--image {self.image}"


def read_dendrogram(tables: SqlTables, asked: Asked) -> Dendrogram:
    """The tree of the component, by the settings that the run cut it with.

    Raises:
        ConfigError: There is no such cluster or image, no pair joins it to another, or `at` is no height of its axis.
        TableError: The tables were not written by one run of the step cluster.
    Cost: about ten scans of narrow columns; n squared memory in this process (stages/cluster/component_tree.py), for n
    up to cluster.max_component_images.
    """
    labels = read_labels(asked.pairs) if asked.pairs else None
    settings = last_settings(tables, "dendrogram")
    image_id = _image_id(tables, asked)
    representative = _representative(tables, image_id)
    component_id = _component_id(tables, asked, representative)
    tree = read_component_tree(tables, component_id, representative, _cut_settings(settings))
    axis = axis_of(tree.unit, settings["cluster"]["linkage"])
    at = tree.cut * axis.scale if asked.at is None else require_height(axis, asked.at)

    branch = branch_around(tree.merges, int(np.searchsorted(tree.ids, representative)), asked.max_pictures)
    shown = tree.ids[branch.leaves]
    pictured = shown[leaves_list(branch.tree)[: asked.max_thumbnails]] if len(shown) > 1 else shown
    leaves = _with_thumbnails(tables, _leaves(tables, shown), pictured if asked.max_thumbnails else shown[:0])
    merges = branch.tree.copy()
    merges[:, 2] *= axis.scale
    return Dendrogram(
        component_id=component_id,
        cluster_id=next(leaf.cluster_id for leaf in leaves if leaf.image_id == representative),
        n_pictures=len(tree.ids),
        axis=axis,
        method=settings["cluster"]["linkage"],
        cut=tree.cut * axis.scale,
        at=at,
        leaves=leaves,
        merges=merges,
        joins_at=None if branch.joins_at is None else branch.joins_at * axis.scale,
        joined_by=_joined_by(tree, settings),
        decided_by=dict(Counter(tree.pairs.decided_by).most_common()),
        curves=tuple(_curves(tables, asked, tree, settings, labels)),
    )


def _curves(
    tables: SqlTables, asked: Asked, tree: ComponentTree, settings: Settings, labels: Labels | None
) -> Iterator[Curve]:
    """Of the component where it was cut by probabilities, and those that were asked for."""
    if len(tree.pairs.a):
        yield curve_of_component(tree)
    if asked.of_lake:
        yield from curve_of_lake(tables, settings)
    if labels is not None:
        yield curve_of_labelled_pairs(tables, labels, settings, tree.unit)


def _cut_settings(settings: Settings) -> CutSettings:
    cluster, match = settings["cluster"], settings["match"]
    agreement = 1 - match["max_hamming_bits"] / 64
    return CutSettings(cluster["min_similarity"], agreement, cluster["linkage"], cluster["max_component_images"])


def _image_id(tables: SqlTables, asked: Asked) -> int:
    """Of the image that was asked for, or of the keeper of the cluster."""
    if asked.image is not None:
        return int(find_one_image(tables, asked.image)["image_id"])
    keepers = clusters_of_id(tables, str(asked.cluster_id))
    if not keepers:
        raise ConfigError(f"{asked.named}: there is no such cluster; `dedup-spark clusters` lists them")
    return int(keepers[0]["image_id"])


def _representative(tables: SqlTables, image_id: int) -> int:
    """The image that stands for all with the same pixels; an image that was not read stands for itself."""
    pixels = "SELECT pixel_hash FROM $features WHERE image_id = :image_id AND status = 'ok'"
    own = first_row(tables.ask(pixels, {"image_id": image_id}))
    if own is None:
        return image_id
    same = "SELECT image_id FROM $features WHERE pixel_hash = :pixel_hash AND status = 'ok'"
    return int(tables.ask(f"{same} ORDER BY {FIRST_READ} LIMIT 1", own)["image_id"][0].as_py())


def _component_id(tables: SqlTables, asked: Asked, representative: int) -> int:
    of_image = "SELECT component_id FROM $components WHERE image_id = :image_id"
    found = first_row(tables.ask(of_image, {"image_id": representative}))
    if found is not None:
        return int(found["component_id"])
    identical = ", ".join(f"'{relation}'" for relation in IDENTICAL)
    of_other_pixels = tables.ask(f"SELECT image_id FROM $clusters WHERE relation NOT IN ({identical}) LIMIT 1")
    if len(of_other_pixels) and not len(tables.ask("SELECT image_id FROM $components LIMIT 1")):
        raise ConfigError(
            "dendrogram: an older version of dedup-spark made these clusters and kept no components; `dedup-spark run` "
            "makes both anew"
        )
    why = "all its images have the same pixels" if asked.image is None else "no pair joins it to another picture"
    raise ConfigError(f"{asked.named}: {why}, so there is no tree")


_ADDRESSES = "SELECT image_id, uri FROM $images WHERE image_id IN (SELECT image_id FROM $given)"
_GUARDS = "SELECT image_id, guard FROM $guarded WHERE image_id IN (SELECT image_id FROM $given)"
_PUBLISHED = f"""\
WITH mine AS (SELECT cluster_id FROM $clusters WHERE image_id IN (SELECT image_id FROM $given)),
members AS (
  SELECT image_id, cluster_id, is_keeper, uri FROM $clusters WHERE cluster_id IN (SELECT cluster_id FROM mine)
),
signed AS (
  SELECT image_id, first_value(image_id) OVER (PARTITION BY pixel_hash ORDER BY {FIRST_READ}) AS representative_id
  FROM $features WHERE image_id IN (SELECT image_id FROM members)
),
of_pixels AS (
  SELECT signed.representative_id AS image_id, min(members.cluster_id) AS cluster_id, count(*) AS n_images,
         max(CASE WHEN members.is_keeper THEN members.uri END) AS keeper_uri
  FROM members JOIN signed ON signed.image_id = members.image_id GROUP BY signed.representative_id
)
SELECT * FROM of_pixels WHERE image_id IN (SELECT image_id FROM $given)"""
"""(image_id, cluster_id, n_images, keeper_uri) of the representatives that are in a cluster.

Images of the same pixels are in one cluster, so that the first read of them there is their representative.
"""


def _leaves(tables: SqlTables, ids: Int64) -> dict[int, Leaf]:
    """A leaf for each representative, in the order of `ids`."""
    wanted = Given.ids(ids.tolist())
    leaves = {i: Leaf(i, "") for i in ids.tolist()}
    for row in tables.ask(_ADDRESSES, given=wanted).to_pylist():
        leaves[row["image_id"]] = replace(leaves[row["image_id"]], uri=row["uri"])
    for row in tables.ask(_PUBLISHED, given=wanted).to_pylist():
        shown = {"uri": row["keeper_uri"]} if row["keeper_uri"] else {}
        leaves[row["image_id"]] = replace(
            leaves[row["image_id"]],
            n_images=row["n_images"],
            cluster_id=row["cluster_id"],
            is_keeper=bool(row["keeper_uri"]),
            **shown,
        )
    for row in tables.ask(_GUARDS, given=wanted).to_pylist():
        leaves[row["image_id"]] = replace(leaves[row["image_id"]], guard=Guard(row["guard"]))
    return leaves


def _with_thumbnails(tables: SqlTables, leaves: dict[int, Leaf], ids: Int64) -> tuple[Leaf, ...]:
    """The leaves in order, those of `ids` with their thumbnail: reads some 10 KB of each; see `SqlTables.rows`."""
    if len(ids):
        for row in tables.rows(FEATURES, ids.tolist(), ["image_id", "thumbnail"]).to_pylist():
            leaves[row["image_id"]] = replace(leaves[row["image_id"]], thumbnail=row["thumbnail"])
    return tuple(leaves.values())


def _joined_by(tree: ComponentTree, settings: Settings) -> str:
    """What joins images to a component, in words; linkage then cuts it."""
    if tree.unit == DistanceUnit.COPY_PROBABILITY:
        least = least_probability(settings)
        measure = "a copy probability"
    elif tree.unit == DistanceUnit.SIMILARITY:
        least, measure = settings["cluster"]["min_similarity"], "a cosine"
    else:
        least, measure = 1 - settings["match"]["max_hamming_bits"] / 64, "a share of equal pHash bits"
    text = f"Pairs with {measure} of at least {least:.4g} join images to a component"
    if tree.raised_to is None:
        return f"{text}."
    return (
        f"{text}; this one was split off a larger one, which had more than cluster.max_component_images pictures, by "
        f"raising that to {tree.raised_to:.6g}."
    )
