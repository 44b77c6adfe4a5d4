"""The headline figures of a lake: they are counted from the tables and put into words for the command line."""

from __future__ import annotations

from pyspark.sql import functions as F

from dedup_spark.stages.report.values import Summary, TierTotal, readable_bytes
from dedup_spark.store.schema import CLUSTERS, FEATURES, GUARDED, IMAGES
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import DUPLICATES
from dedup_spark.store.views import ViewSettings, read_view
from dedup_spark.vocabulary import RemovalTier


def collect_summary(tables: Tables, settings: ViewSettings) -> Summary:
    """Counts over images, features, duplicates and guarded; only a few rows reach the driver for a lake of any size."""
    size = F.coalesce(F.sum("size_bytes"), F.lit(0)).alias("size_bytes")
    n_images = F.count("*").alias("n_images")
    found = tables.read(IMAGES).agg(n_images, size).collect()[0]
    read = {r["reject_reason"]: r["count"] for r in tables.read(FEATURES).groupBy("reject_reason").count().collect()}
    freed = F.coalesce(F.sum("freed_bytes"), F.lit(0)).alias("freed_bytes")
    copies = read_view(tables, DUPLICATES, settings)
    tier = F.coalesce("removal_tier", "relation").alias("tier")  # null in rows of older versions
    sums = copies.groupBy(tier, "removable").agg(n_images, size, freed).collect()
    of_tier = {(r["tier"], r["removable"]): r for r in sums}
    guarded = {r["guard"]: r["count"] for r in tables.read(GUARDED).groupBy("guard").count().collect()}
    return Summary(
        n_found=found["n_images"],
        found_bytes=found["size_bytes"],
        n_read=read.pop(None, 0),
        rejected=dict(sorted(read.items(), key=lambda item: (-item[1], item[0]))),
        n_clusters=tables.read(CLUSTERS).where("is_keeper").count(),
        tiers=tuple(
            TierTotal(name, row["n_images"], row["size_bytes"], removable, row["freed_bytes"])
            for name in RemovalTier  # the safest first
            for removable in (True, False)
            if (row := of_tier.get((name, removable)))
        ),
        guarded=dict(sorted(guarded.items())),
    )


def describe(summary: Summary) -> str:
    """The summary as a few lines for a terminal."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in summary.rejected.items())
    pending = f", {summary.n_pending:,} not read yet" if summary.n_pending else ""
    lines = [
        f"images     {summary.n_found:,} found ({readable_bytes(summary.found_bytes)}), {summary.n_read:,} read, "
        f"{summary.n_rejected:,} rejected{f' ({reasons})' if reasons else ''}{pending}",
        f"pictures   {summary.n_distinct:,} distinct",
        f"clusters   {summary.n_clusters:,} with {summary.n_members:,} images, {summary.n_clusters:,} of them keepers",
    ]
    for total in summary.tiers:
        kept = "" if total.removable else "  (stays: `reason` in duplicates says why)"
        lines.append(f"           {total.tier:<14}{total.n_images:>9,}  {readable_bytes(total.size_bytes)}{kept}")
    share = f" ({summary.removable_bytes / summary.found_bytes:.0%} of the lake)" if summary.found_bytes else ""
    if summary.guarded:
        guards = ", ".join(f"{guard} {n:,}" for guard, n in summary.guarded.items())
        n_guarded = sum(summary.guarded.values())
        lines.append(f"guarded    {n_guarded:,} joined by equal pixels or strict evidence only ({guards})")
    freed = f"{summary.n_removable:,} images, {readable_bytes(summary.removable_bytes)}{share}"
    return "\n".join([*lines, f"removable  {freed}"])
