"""Reads tables without Spark, as sets of plain rows that tests compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

TIMELESS = {
    "images": ("image_id", "uri", "member", "size_bytes", "object_version"),
    "features": ("image_id", "object_version", "status", "reject_reason", "content_hash", "pixel_hash", "phash",
                 "width_px", "height_px", "sharpness", "entropy_bits", "thumbnail", "model_id", "embedding"),
    "pairs": ("image_id_a", "image_id_b", "method", "similarity", "hamming_bits"),
    "clusters": ("image_id", "uri", "cluster_id", "cluster_size", "keeper_image_id", "is_keeper", "relation",
                 "similarity", "hamming_bits", "keeper_distance", "distance_unit", "bound", "is_bridge", "is_removable",
                 "size_bytes", "freed_bytes", "object_version", "content_hash", "keeper_object_version",
                 "keeper_content_hash", "reason", "decided_by", "copy_probability", "agreement", "contested",
                 "n_inliers", "is_direct", "versions", "removal_tier", "edit", "differing_share", "near_image_id",
                 "near_distance"),
    "components": ("image_id", "component_id", "raised_to", "first_group_id", "group_id"),
    "guarded": ("image_id", "guard", "n_neighbours"),
}  # fmt: skip
"""Columns that must be equal in two runs over the same lake."""


def rows(root: str | Path, table: str) -> list[dict[str, Any]]:
    """All rows of a Delta table, read by another implementation than the one that wrote it."""
    return DeltaTable(f"{root}/{table}").to_pyarrow_table().to_pylist()


def counts_of(root: str | Path, step: str) -> dict[str, int]:
    """The counts of the last complete run of a step."""
    marks = [row for row in rows(root, "runs") if (row["step"], row["status"]) == (step, "complete")]
    return dict(max(marks, key=lambda row: row["at"])["counts"])


def contents(root: str | Path) -> dict[str, set[tuple[Any, ...]]]:
    """Every table without run ids, times and order, which may differ between two runs."""
    return {t: {tuple(row[c] for c in columns) for row in rows(root, t)} for t, columns in TIMELESS.items()}


def cluster_pairs(root: str | Path, lake: Path) -> set[tuple[str, str]]:
    """Pairs of paths, relative to the lake, that share a cluster."""
    members = defaultdict(list)
    for row in rows(root, "clusters"):
        members[row["cluster_id"]].append(row["uri"].removeprefix(f"file://{lake.resolve()}/"))
    return {pair for paths in members.values() for pair in combinations(sorted(paths), 2)}


def true_pairs(truth: Mapping[str, str]) -> set[tuple[str, str]]:
    """Pairs of paths that show the same picture."""
    return {(a, b) for a, b in combinations(sorted(truth), 2) if truth[a] == truth[b]}
