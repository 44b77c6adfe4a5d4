"""The headline figures of a lake: they are counted from the tables and put into words for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.stages.report.values import PassedOverTotal, Summary, TierTotal, readable_bytes
from dedup_spark.store.schema import CLUSTERS, FEATURES, GUARDED, IMAGES, RUNS
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import DUPLICATES
from dedup_spark.store.views import ViewSettings, read_view
from dedup_spark.vocabulary import RemovalTier, RunStatus, StepName


def collect_summary(tables: Tables, settings: ViewSettings) -> Summary:
    """Counts over images, features, duplicates, guarded and runs; few rows reach the driver for a lake of any size."""
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
        passed_over=passed_over_totals(_notes_of_last_listings(tables.read(RUNS))),
    )


def _notes_of_last_listings(runs: DataFrame) -> list[str]:
    """`runs.notes` of the last completed inventory of each lake that has some. The driver holds a row per lake."""
    done = runs.where((F.col("step") == StepName.INVENTORY) & (F.col("status") == RunStatus.COMPLETE))
    last = done.groupBy("lake").agg(F.max_by(F.coalesce("notes", F.lit("{}")), "at").alias("notes"))
    return [row["notes"] for row in last.collect()]


def passed_over_totals(notes: Iterable[str]) -> tuple[PassedOverTotal, ...]:
    """The sums over `runs.notes` (JSON) of several listings, the most frequent reason first."""
    totals: dict[str, PassedOverTotal] = {}
    for listing in notes:
        for reason, kind in json.loads(listing).get("passed_over", {}).items():
            before = totals.get(reason, PassedOverTotal(reason, 0, kind["example"]))
            totals[reason] = PassedOverTotal(reason, before.n_entries + kind["n"], min(before.example, kind["example"]))
    return tuple(sorted(totals.values(), key=lambda total: (-total.n_entries, total.reason)))


def describe(summary: Summary) -> str:
    """The summary as a few lines for a terminal."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in summary.rejected.items())
    pending = f", {summary.n_pending:,} not read yet" if summary.n_pending else ""
    lines = [
        f"images     {summary.n_found:,} found ({readable_bytes(summary.found_bytes)}), {summary.n_read:,} read, "
        f"{summary.n_rejected:,} rejected{f' ({reasons})' if reasons else ''}{pending}",
        *_passed_over_line(summary),
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


def _passed_over_line(summary: Summary) -> list[str]:
    if not summary.passed_over:
        return []
    n_entries = sum(total.n_entries for total in summary.passed_over)
    reasons = ", ".join(f"{total.reason} {total.n_entries:,}" for total in summary.passed_over)
    return [f"           {n_entries:,} passed over by the listing ({reasons})"]
