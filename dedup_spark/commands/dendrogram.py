"""`dedup-spark dendrogram`: writes the tree of merges inside one cluster, as Newick or JSON text or as a drawing."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from pyspark.sql import functions as F
from scipy.cluster.hierarchy import dendrogram

from dedup_spark.errors import ConfigError
from dedup_spark.kernels import vectors
from dedup_spark.kernels.arrays import Float64
from dedup_spark.kernels.clusters import linkage
from dedup_spark.kernels.clusters.linkage import merge_tree, newick
from dedup_spark.store import files
from dedup_spark.store.schema import CLUSTERS, FEATURES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import DistanceUnit

_MAX_LEAVES = 5_000  # the driver holds n^2 distances: 600 MB
_WIDTH_PX, _ROW_PX, _LABEL_PX = 480, 18, 700


@dataclass(frozen=True)
class Leaf:
    """One distinct picture of the cluster; `n_images` files have its pixels."""

    image_id: int
    uri: str
    is_keeper: bool
    n_images: int


@dataclass(frozen=True)
class Dendrogram:
    """The tree of one cluster: its leaves, and its merges as kernels/clusters/linkage.py describes them.

    `bound` is the bound of the cluster where that is a distance of this measure, else None: a probability cannot be
    drawn on an axis of cosines.
    """

    cluster_id: int
    measure: str
    method: str
    bound: float | None
    leaves: tuple[Leaf, ...]
    merges: Float64


def require_kind(out: str) -> Callable[[Dendrogram], str]:
    """The writer for a file name: drawing (.svg), leaves and merges (.json) or Newick (.nwk). Raises ConfigError."""
    writers = {".svg": to_svg, ".json": to_json, ".nwk": to_newick}
    for suffix, writer in writers.items():
        if out.endswith(suffix):
            return writer
    raise ConfigError(f"--out {out}: must end with one of {', '.join(writers)}")


def write_dendrogram(found: Dendrogram, out: str) -> None:
    """Write the tree to a file, local or in a store, in the format of its suffix. Raises ConfigError."""
    files.write_atomically(out, require_kind(out)(found).encode("utf-8", "replace"))


def read_dendrogram(tables: Tables, cluster_id: int, method: str) -> Dendrogram:
    """The tree over the distinct pictures of a cluster.

    Raises:
        ConfigError: There is no such cluster, or it has a single picture, or too many.
    """
    members = tables.read(CLUSTERS).where(F.col("cluster_id") == cluster_id)
    signatures = tables.read(FEATURES).select("image_id", "pixel_hash", "phash", "embedding")
    first = F.min_by(F.struct("image_id", "uri", "phash", "embedding"), F.struct(~F.col("is_keeper"), "image_id"))
    of_all = (F.count("*").alias("n"), F.max("is_keeper").alias("is_keeper"), F.min("bound").alias("bound"),
              F.min("distance_unit").alias("unit"))  # fmt: skip
    pictures = members.join(signatures, "image_id").groupBy("pixel_hash").agg(first.alias("first"), *of_all)
    rows = sorted(pictures.limit(_MAX_LEAVES + 1).collect(), key=lambda r: r["first"]["image_id"])
    _require_drawable(cluster_id, len(rows))
    if all(r["first"]["embedding"] for r in rows):
        similarity = linkage.cosine_matrix(vectors.from_bytes([r["first"]["embedding"] for r in rows]))
        measure, unit = "cosine", DistanceUnit.SIMILARITY
    else:
        hashes = np.array([r["first"]["phash"] for r in rows], np.int64)
        similarity = linkage.agreement_matrix(hashes)
        measure, unit = "phash", DistanceUnit.HAMMING_BITS
    leaves = tuple(Leaf(r["first"]["image_id"], r["first"]["uri"], r["is_keeper"], r["n"]) for r in rows)
    bound = next((r["bound"] for r in rows if r["unit"] == unit), None)
    return Dendrogram(cluster_id, measure, method, bound, leaves, merge_tree(similarity, method))


def _require_drawable(cluster_id: int, n: int) -> None:
    if n == 0:
        raise ConfigError(f"--cluster {cluster_id}: there is no such cluster; give a cluster_id of the table clusters")
    if n == 1:
        raise ConfigError(f"--cluster {cluster_id}: all its images have the same pixels, so there is no tree")
    if n > _MAX_LEAVES:
        raise ConfigError(
            f"--cluster {cluster_id}: has more than {_MAX_LEAVES:,} distinct pictures, the most that a tree is made for"
        )


def to_newick(found: Dendrogram) -> str:
    """The tree in Newick's format, its leaves named by uri."""
    return newick(found.merges, [leaf.uri for leaf in found.leaves])


def to_json(found: Dendrogram) -> str:
    """Leaves and merges as JSON; the numbers of a merge are those of scipy.cluster.hierarchy.linkage."""
    merges = [
        {"left": int(left), "right": int(right), "distance": round(distance, 6), "n_pictures": int(n)}
        for left, right, distance, n in found.merges.tolist()
    ]
    return json.dumps(
        {
            "cluster_id": found.cluster_id,
            "measure": found.measure,
            "linkage": found.method,
            "bound": None if found.bound is None else round(found.bound, 6),
            "leaves": [vars(leaf) for leaf in found.leaves],
            "merges": merges,
            "newick": to_newick(found),
        },
        indent=1,
    )


def to_svg(found: Dendrogram) -> str:
    """Leaves from top to bottom, the keeper bold; distance from left to right, the bound, if any, dashed."""
    with _recursion_of(len(found.leaves)):
        drawn = dendrogram(found.merges, no_plot=True)
    far = max(found.bound or 0.0, float(found.merges[-1, 2]), 1e-6) * 1.05
    scale, height = _WIDTH_PX / far, _ROW_PX * (len(found.leaves) + 3)

    def x(distance: float) -> float:
        return round(10 + _WIDTH_PX - distance * scale, 1)

    def y(row: float) -> float:
        return round(_ROW_PX * (row + 2), 1)

    lines = []
    for (top, _, _, bottom), (x_top, x_merge, _, x_bottom) in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        corners = f"M{x(x_top)} {y(_row(top))}H{x(x_merge)}V{y(_row(bottom))}H{x(x_bottom)}"
        lines.append(f'<path d="{corners}" fill="none" stroke="#345"/>')
    for row, leaf in enumerate(found.leaves[i] for i in drawn["leaves"]):
        weight = "bold" if leaf.is_keeper else "normal"
        lines.append(f'<text x="{x(0) + 8}" y="{y(row) + 4}" font-weight="{weight}">{_label(leaf)}</text>')
    bound = (
        ""
        if found.bound is None
        else (
            f'<path d="M{x(found.bound)} {_ROW_PX}V{height - _ROW_PX}" stroke="#b00" stroke-dasharray="4 3"/>'
            f'<text x="{x(found.bound)}" y="{height - 4}" fill="#b00">bound {found.bound:.3g} ({found.measure})</text>'
        )
    )
    title = f"cluster {found.cluster_id}, {found.method} linkage"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_PX + _LABEL_PX}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="10" y="{_ROW_PX - 4}">{title}</text>{"".join(lines)}{bound}</svg>\n'
    )


def _row(coordinate: float) -> float:
    """SciPy puts leaf k of its order at 10 k + 5."""
    return (coordinate - 5) / 10


@contextlib.contextmanager
def _recursion_of(n_leaves: int) -> Iterator[None]:
    """Let SciPy walk a tree of `n_leaves`: it calls itself once per level, and a chain is as deep as it is long.

    Calls from Python to Python take no C stack since Python 3.11; a chain of 5,000 leaves takes 0.2 s.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + n_leaves)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _label(leaf: Leaf) -> str:
    more = f" (+{leaf.n_images - 1} with the same pixels)" if leaf.n_images > 1 else ""
    name = re.sub(r"[\x00-\x1f\ud800-\udfff\ufffe\uffff]", "?", leaf.uri[-80:])  # XML has no such characters
    return escape(f"{name}{' · keeper' if leaf.is_keeper else ''}{more}")
