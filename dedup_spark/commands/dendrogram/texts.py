"""A tree as text: Newick, JSON, and the table of its groups at a cut."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from dedup_spark.commands.dendrogram.tree import Change, Dendrogram, Group, Leaf
from dedup_spark.commands.image_ids import in_hex
from dedup_spark.commands.text_table import format_table
from dedup_spark.kernels.clusters.linkage import newick

_MAX_NAMED = 4


def to_newick(found: Dendrogram) -> str:
    """The tree in Newick's format, its leaves named by uri."""
    return newick(found.merges, [leaf.uri for leaf in found.leaves])


def to_json(found: Dendrogram) -> str:
    """Leaves, merges and groups as JSON; the numbers of a merge are those of scipy.cluster.hierarchy.linkage."""
    number = {leaf.image_id: i for i, leaf in enumerate(found.leaves)}
    merges = [
        {"left": int(left), "right": int(right), "height": round(height, 6), "n_pictures": int(n)}
        for left, right, height, n in found.merges.tolist()
    ]
    groups = [
        {"leaves": [number[leaf.image_id] for leaf in group.leaves], "cluster_ids": group.cluster_ids,
         "n_alone": group.n_alone, "change": group.change}
        for group in found.groups
    ]  # fmt: skip
    return json.dumps(
        {
            "component_id": found.component_id,
            "cluster_id": found.cluster_id,
            "n_pictures": found.n_pictures,
            "axis": found.axis.name,
            "linkage": found.method,
            "cut": round(found.cut, 6),
            "at": round(found.at, 6),
            "joins_at": found.joins_at,
            "joined_by": found.joined_by,
            "decided_by": found.decided_by,
            "leaves": [_leaf_as_json(leaf) for leaf in found.leaves],
            "merges": merges,
            "groups": groups,
            "curves": [asdict(curve) for curve in found.curves],
            "newick": to_newick(found),
        },
        indent=1,
    )


def _leaf_as_json(leaf: Leaf) -> dict[str, Any]:
    return {name: value for name, value in vars(leaf).items() if name != "thumbnail"}


def describe_cut(found: Dendrogram) -> str:
    """Where the tree is cut, and by what, in words."""
    made = "where the run cut it" if found.at == found.cut else f"the run cut it at {found.cut:.4g}"
    return f"cut at {found.at:.4g} ({found.axis.name}; {made}), {found.method} linkage"


def describe_part(found: Dendrogram) -> str:
    """How much of the component this is, in words."""
    whole = f"component {found.component_id} of {found.n_pictures:,} pictures"
    if found.joins_at is None:
        return whole
    return f"{len(found.leaves):,} pictures of {whole}: the branch that joins the rest at {found.joins_at:.4g}"


def what_becomes(group: Group) -> str:
    """The change of a group with the clusters that it is about, in words."""
    clusters = ", ".join(in_hex(c) for c in group.cluster_ids[:_MAX_NAMED])
    if len(group.cluster_ids) > _MAX_NAMED:
        clusters += f" and {len(group.cluster_ids) - _MAX_NAMED} more"
    alone = f"{group.n_alone} picture{'s' if group.n_alone > 1 else ''} in no cluster" if group.n_alone else ""
    parts = " and ".join(part for part in (clusters and f"cluster {clusters}", alone) if part)
    if group.change == Change.NONE:
        return f"as published: {parts}"
    if group.change == Change.DIVIDED:
        return f"divided after the cut into {parts}: its keeper does not reach all members in two steps"
    verb = {
        Change.JOINS: "would join",
        Change.SPLITS: "would be a part of",
        Change.JOINS_AND_SPLITS: "would join parts of",
    }
    return f"{verb[group.change]} {parts}"


def describe_groups(found: Dendrogram) -> str:
    """The groups at `found.at` as a table for the terminal, with what would become of the published clusters."""
    groups = found.groups
    rows = [[i, len(g.leaves), sum(leaf.n_images for leaf in g.leaves), what_becomes(g), _example(g)]
            for i, g in enumerate(groups, 1)]  # fmt: skip
    head = f"{describe_part(found)}; {describe_cut(found)}: {len(groups):,} group{'s' if len(groups) > 1 else ''}"
    return f"{head}\n\n{format_table(['group', 'pictures', 'images', 'published', 'for example'], rows)}"


def _example(group: Group) -> str:
    return next((leaf.uri for leaf in group.leaves if leaf.is_keeper), group.leaves[0].uri)
