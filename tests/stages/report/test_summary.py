"""The headline figures in words. Their counting is tested with the report, in stages/report/test_step.py."""

from __future__ import annotations

import json

from dedup_spark.stages.report.summary import describe, passed_over_totals
from dedup_spark.stages.report.values import PassedOverTotal, Summary, TierTotal


def test_figures_are_told_in_a_few_lines() -> None:
    tiers = (
        TierTotal("same_bytes", 1_200, 20_000_000, True, 15_000_000),
        TierTotal("same_bytes", 5, 7_000_000, False, 0),
    )
    summary = Summary(
        12_345, 60_000_000, 12_340, {"truncated": 4, "not_an_image": 1}, 321, tiers, {"blank": 3, "hub": 1_000}
    )
    assert describe(summary).splitlines() == [
        "images     12,345 found (60.0 MB), 12,340 read, 5 rejected (truncated 4, not_an_image 1)",
        "pictures   11,135 distinct",
        "clusters   321 with 1,526 images, 321 of them keepers",
        "           same_bytes        1,200  20.0 MB",
        "           same_bytes            5  7.00 MB  (stays: `reason` in duplicates says why)",
        "guarded    1,003 joined by equal pixels or strict evidence only (blank 3, hub 1,000)",
        "removable  1,200 images, 15.0 MB (25% of the lake)",
    ]


def test_an_empty_or_unfinished_lake_is_told_too() -> None:
    assert "removable  0 images, 0 bytes" in describe(Summary(0, 0, 0, {}, 0, ()))
    assert "3 read, 0 rejected, 7 not read yet" in describe(Summary(10, 50, 3, {}, 0, ()))


def test_what_listings_passed_over_is_summed_over_lakes_and_told() -> None:
    hidden, closed = {"n": 2, "example": "s3://b/.a"}, {"n": 1, "example": "file:///b/lost+found"}
    notes = [
        json.dumps({"listed_at": "2026-11-28", "passed_over": {"folder that may not be listed": closed}}),
        json.dumps({"passed_over": {"hidden file": hidden}}),
        json.dumps({"passed_over": {"hidden file": hidden | {"n": 1_000, "example": "file:///a/.b"}}}),
        "{}",  # of a version that did not note it
    ]
    totals = passed_over_totals(notes)
    assert totals == (
        PassedOverTotal("hidden file", 1_002, "file:///a/.b"),
        PassedOverTotal("folder that may not be listed", 1, "file:///b/lost+found"),
    )
    told = describe(Summary(10, 50, 10, {}, 0, (), passed_over=totals)).splitlines()
    assert told[1] == (
        "           1,003 passed over by the listing (hidden file 1,002, folder that may not be listed 1)"
    )
