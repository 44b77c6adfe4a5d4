"""A tree as an SVG drawing: leaves from top to bottom, heights from right to left, the cut dashed where it was made."""

from __future__ import annotations

import base64
import contextlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from dedup_spark.commands.dendrogram.texts import describe_cut, describe_part
from dedup_spark.commands.dendrogram.tree import Dendrogram, Leaf
from dedup_spark.commands.image_ids import in_hex
from dedup_spark.kernels.clusters.linkage import cut_tree
from dedup_spark.printable import isolated

_WIDTH_PX, _LEFT_PX, _TOP_PX, _BOTTOM_PX = 480, 10, 36, 54
_ROW_PX, _ROW_WITH_PICTURE_PX, _CLUSTER_PX, _LABEL_PX = 18, 48, 210, 700
_COLOURS = (
    "#0b66c3",
    "#b45309",
    "#1a7f4b",
    "#6b46c1",
    "#c2255c",
    "#0c8599",
    "#7c5e10",
    "#5f3dc4",
    "#2b8a3e",
    "#a61e4d",
)
_ABOVE, _ALONE, _MIXED = "#345", "#667", "#d00"
_NICE = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class _Layout:
    """Where things stand: pixels of heights and rows."""

    far: float
    row_px: int
    n_leaves: int
    picture_px: int

    @classmethod
    def of(cls, found: Dendrogram) -> _Layout:
        has_pictures = any(leaf.thumbnail for leaf in found.leaves)
        highest = float(found.merges[-1, 2]) if len(found.merges) else 0.0
        far = max(found.cut, found.at, highest, 1e-6) * 1.05
        row_px = _ROW_WITH_PICTURE_PX if has_pictures else _ROW_PX
        return cls(far, row_px, len(found.leaves), row_px - 4 if has_pictures else 0)

    @property
    def height_px(self) -> int:
        return _TOP_PX + self.row_px * self.n_leaves + _BOTTOM_PX

    @property
    def labels_px(self) -> int:
        return _LEFT_PX + _WIDTH_PX + 14 + self.picture_px

    def x(self, height: float) -> float:
        return round(_LEFT_PX + _WIDTH_PX * (1 - height / self.far), 1)

    def y(self, row: float) -> float:
        return round(_TOP_PX + self.row_px * (row + 0.5), 1)


def to_svg(found: Dendrogram) -> str:
    """The drawing. Branches below the cut and the bars at the leaves have the colour of their published cluster.

    A group that was divided after the cut has red branches above its clusters; all merges above the cut are dark. About
    400 bytes a leaf, and 4/3 of its thumbnail.
    """
    at = _Layout.of(found)
    colour = _colours(found)
    order, branches = _branches(found, at, colour)
    leaves = [found.leaves[i] for i in order]
    width = at.labels_px + _CLUSTER_PX + _LABEL_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{at.height_px}" '
        f'viewBox="0 0 {width} {at.height_px}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_LEFT_PX}" y="16">{escape(describe_part(found))}; {escape(describe_cut(found))}</text>'
        f"{''.join(_axis(found, at))}{''.join(branches)}{''.join(_cuts(found, at))}"
        f"{''.join(_leaves(leaves, at, colour))}</svg>\n"
    )


def _colours(found: Dendrogram) -> dict[int | None, str]:
    clusters = dict.fromkeys(leaf.cluster_id for leaf in found.leaves if leaf.cluster_id is not None)
    return {None: _ALONE} | {c: _COLOURS[i % len(_COLOURS)] for i, c in enumerate(clusters)}


def _branches(found: Dendrogram, at: _Layout, colour: dict[int | None, str]) -> tuple[list[int], list[str]]:
    """The leaves from top to bottom, and a path for each merge."""
    if not len(found.merges):
        return [0], []
    of_node = _node_colours(found, colour)
    with _recursion_of(len(found.leaves)):
        drawn = dendrogram(found.merges, no_plot=True, link_color_func=lambda node: of_node[node])
    paths = []
    corners = zip(drawn["icoord"], drawn["dcoord"], drawn["color_list"], strict=True)
    for (top, _, _, bottom), (x_top, x_merge, _, x_bottom), stroke in corners:
        path = f"M{at.x(x_top)} {at.y(_row(top))}H{at.x(x_merge)}V{at.y(_row(bottom))}H{at.x(x_bottom)}"
        paths.append(f'<path d="{path}" fill="none" stroke="{stroke}"/>')
    return drawn["leaves"], paths


def _node_colours(found: Dendrogram, colour: dict[int | None, str]) -> list[str]:
    """For each node the colour of its branch: its cluster's; red in a divided group; dark above the cut."""
    group = cut_tree(found.merges, found.cut)
    held: list[tuple[object, int | None]] = [
        (leaf.cluster_id if leaf.cluster_id is not None else f"alone {leaf.image_id}", int(g))
        for leaf, g in zip(found.leaves, group, strict=True)
    ]
    for left, right in found.merges[:, :2].astype(np.int64).tolist():
        (cluster, own), (other_cluster, other) = held[left], held[right]
        held.append((cluster if cluster == other_cluster else None, own if own == other else None))
    return [
        _ABOVE if own is None else _MIXED if cluster is None else colour.get(cluster, _ALONE)  # type: ignore[call-overload]
        for cluster, own in held
    ]


def _axis(found: Dendrogram, at: _Layout) -> Iterator[str]:
    """The scale at the bottom, its name and its unit."""
    y = _TOP_PX + at.row_px * at.n_leaves + 8
    yield f'<path d="M{at.x(at.far)} {y}H{at.x(0)}" stroke="#888"/>'
    for tick in _ticks(at.far):
        yield f'<path d="M{at.x(tick)} {y}v4" stroke="#888"/>'
        yield f'<text x="{at.x(tick)}" y="{y + 16}" text-anchor="middle" fill="#555" font-size="10">{tick:g}</text>'
    yield f'<text x="{_LEFT_PX}" y="{y + 32}" fill="#555">{escape(found.axis.name)}</text>'


def _ticks(far: float) -> list[float]:
    magnitude = 10.0 ** np.floor(np.log10(far / 5))
    step = next(n for n in _NICE if n * magnitude >= far / 5.001) * magnitude
    return [round(float(tick), 10) for tick in np.arange(0, far, step)]


def _cuts(found: Dendrogram, at: _Layout) -> Iterator[str]:
    """The cut of the run, and the other one that was asked for."""
    y = _TOP_PX + at.row_px * at.n_leaves
    yield _line(at.x(found.cut), y, "#b00", f"cut {found.cut:.4g}")
    if found.at != found.cut:
        yield _line(at.x(found.at), y, "#06c", f"at {found.at:.4g}")


def _line(x: float, y: float, colour: str, text: str) -> str:
    return (
        f'<path d="M{x} {_TOP_PX - 6}V{y + 8}" stroke="{colour}" stroke-dasharray="4 3"/>'
        f'<text x="{x}" y="{_TOP_PX - 8}" fill="{colour}" text-anchor="middle">{text}</text>'
    )


def _leaves(leaves: list[Leaf], at: _Layout, colour: dict[int | None, str]) -> Iterator[str]:
    """A bar in the colour of the cluster, the thumbnail, the cluster where it begins, and the name."""
    bar, x = at.x(0) + 2, at.labels_px
    keeper = {leaf.cluster_id: leaf for leaf in leaves if leaf.is_keeper}
    for row, leaf in enumerate(leaves):
        y, own = at.y(row), colour[leaf.cluster_id]
        yield f'<path d="M{bar} {y - at.row_px / 2 + 1}v{at.row_px - 2}" stroke="{own}" stroke-width="4"/>'
        if leaf.thumbnail:
            image = base64.b64encode(leaf.thumbnail).decode("ascii")
            yield (
                f'<image x="{bar + 6}" y="{y - at.picture_px / 2}" width="{at.picture_px}" height="{at.picture_px}" '
                f'href="data:image/jpeg;base64,{image}"/>'
            )
        if row == 0 or leaf.cluster_id is None or leaves[row - 1].cluster_id != leaf.cluster_id:
            yield f'<text x="{x}" y="{y + 4}" fill="{own}">{_cluster_label(leaf, keeper)}</text>'
        weight = "bold" if leaf.is_keeper else "normal"
        yield f'<text x="{x + _CLUSTER_PX}" y="{y + 4}" font-weight="{weight}">{_label(leaf)}</text>'


def _cluster_label(leaf: Leaf, keeper: dict[int | None, Leaf]) -> str:
    if leaf.cluster_id is None:
        return "in no cluster"
    kept = keeper.get(leaf.cluster_id)
    title = f"<title>keeper: {_plain(isolated(kept.uri))}</title>" if kept else ""
    return f"{title}cluster {in_hex(leaf.cluster_id)}"


def _label(leaf: Leaf) -> str:
    name = leaf.uri if len(leaf.uri) <= 80 else "…" + leaf.uri[-79:]
    more = f" (+{leaf.n_images - 1} with the same pixels)" if leaf.n_images > 1 else ""
    guard = f" · guarded as {leaf.guard}" if leaf.guard else ""
    return _plain(f"{isolated(name)}{' · keeper' if leaf.is_keeper else ''}{guard}{more}")


def _plain(text: str) -> str:
    return escape(re.sub(r"[\x00-\x1f\ud800-\udfff\ufffe\uffff]", "?", text))  # XML has no such characters


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
