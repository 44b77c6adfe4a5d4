"""What a user wants to know of a finished run, as a few numbers; bounded, whatever the size of the lake."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import functions as F

from dedup_spark.tables import CLUSTERS, FEATURES, IMAGES, Tables
from dedup_spark.views import REMOVABLE

RELATIONS = ("same_bytes", "same_pixels", "edited_copy", "similar_scene")


@dataclass(frozen=True)
class Summary:
    """Counts of images; bytes as listed. `by_relation` and `rejects` are in the order in which to show them."""

    n_images: int
    size_bytes: int
    n_read: int
    rejects: tuple[tuple[str, int], ...]
    n_clusters: int
    by_relation: tuple[tuple[str, int, int], ...]
    n_removable: int
    removable_bytes: int

    @property
    def n_rejected(self) -> int:
        return sum(n for _, n in self.rejects)


def collect_summary(tables: Tables) -> Summary:
    """One small aggregate a table."""
    images = tables.read(IMAGES).agg(F.count("*").alias("n"), F.sum("size_bytes").alias("bytes")).collect()[0]
    reasons = tables.read(FEATURES).groupBy("reject_reason").count().orderBy(F.desc("count"), "reject_reason").collect()
    members = tables.read(CLUSTERS).groupBy("relation").agg(F.count("*").alias("n"), F.sum("size_bytes").alias("bytes"))
    found = {r["relation"]: (r["n"], r["bytes"] or 0) for r in members.collect()}
    by_relation = tuple((relation, *found.get(relation, (0, 0))) for relation in RELATIONS)
    removable = [(n, size) for relation, n, size in by_relation if f"'{relation}'" in REMOVABLE]
    return Summary(
        n_images=images["n"],
        size_bytes=images["bytes"] or 0,
        n_read=sum(r["count"] for r in reasons if r["reject_reason"] is None),
        rejects=tuple((r["reject_reason"], r["count"]) for r in reasons if r["reject_reason"]),
        n_clusters=found.get(None, (0, 0))[0],
        by_relation=by_relation,
        n_removable=sum(n for n, _ in removable),
        removable_bytes=sum(size for _, size in removable),
    )


def describe(summary: Summary) -> str:
    """The summary as lines of text."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in summary.rejects)
    share = summary.removable_bytes / summary.size_bytes if summary.size_bytes else 0.0
    lines = [
        f"images found     {summary.n_images:>12,}  {human_bytes(summary.size_bytes)}",
        f"images read      {summary.n_read:>12,}",
        f"files rejected   {summary.n_rejected:>12,}  {reasons}".rstrip(),
        f"clusters         {summary.n_clusters:>12,}",
        *(f"  {relation:<15}{n:>12,}  {human_bytes(size)}" for relation, n, size in summary.by_relation),
        f"could be removed {summary.n_removable:>12,}  {human_bytes(summary.removable_bytes)}, {share:.0%} of all",
    ]
    return "\n".join(lines)


def human_bytes(size_bytes: int) -> str:
    """`1.4 GB`, in powers of 1000 as object stores bill them."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
