"""`dedup-spark demo`: the whole job on sample photos or on a folder of one's own, and what it found, in words."""

from __future__ import annotations

from collections.abc import Callable

from dedup_spark import pipeline
from dedup_spark.commands.sql import run_sql
from dedup_spark.stages.report.summary import collect_summary, describe
from dedup_spark.store.runs import Run
from dedup_spark.store.views import ViewSettings

QUERIES = (
    (
        "How much could be freed, by kind of duplicate?",
        "SELECT relation, count(*) AS images, sum(freed_bytes) AS bytes FROM duplicates "
        "WHERE removable GROUP BY relation ORDER BY bytes DESC",
    ),
    (
        "Which files were not read, and why?",
        "SELECT reject_reason, size_bytes, regexp_extract(uri, '[^/]*$', 0) AS file FROM quarantine "
        "ORDER BY uri LIMIT 10",
    ),
    (
        "Which copies look least like the image that is kept?",
        "SELECT round(similarity, 3) AS cosine, regexp_extract(uri, '[^/]*$', 0) AS file, "
        "regexp_extract(keeper_uri, '[^/]*$', 0) AS kept FROM duplicates ORDER BY similarity, uri LIMIT 5",
    ),
)


def demo(run: Run, say: Callable[[str], None]) -> None:
    """Do all steps; say what was found, where it is, and ask three questions of it."""
    tables, settings = run.tables, ViewSettings.of(run.config)
    pipeline.run_all(tables.spark, run.config, run)
    say("\n" + describe(collect_summary(tables, settings)))
    say(f"\ntables  {tables.root}\nreport  {tables.root}/report/index.html")
    for question, query in QUERIES:
        say(f'\n{question}\n  dedup-spark sql --tables {tables.root} "{query}"\n')
        run_sql(tables, query, 20, settings, say)
