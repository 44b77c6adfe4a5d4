"""`dedup-spark demo`: the questions, each with its SQL query, that it answers after its run."""

from __future__ import annotations

QUERIES = (
    (
        "How much could be freed, and what would be lost with it?",
        "SELECT removal_tier, removable, count(*) AS images, sum(freed_bytes) AS bytes FROM duplicates "
        "GROUP BY removal_tier, removable ORDER BY bytes DESC, images DESC",
    ),
    (
        "Which files were not read, and why?",
        "SELECT reject_reason, size_bytes, regexp_extract(uri, '[^/]*$', 0) AS file FROM quarantine "
        "ORDER BY uri LIMIT 10",
    ),
    (
        "Which copies should a person look at first, because they are the least certain?",
        "SELECT round(doubt, 3) AS doubt, doubts, regexp_extract(uri, '[^/]*$', 0) AS file, "
        "regexp_extract(keeper_uri, '[^/]*$', 0) AS kept FROM doubtful_first LIMIT 5",
    ),
)
