"""The join of match as one Spark job over the work items: its progress, its guard, and what it found."""

from __future__ import annotations

import functools
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.spark.progress import Progress
from dedup_spark.stages.match.comparisons import Comparisons
from dedup_spark.stages.match.guards import PairGuard
from dedup_spark.stages.match.neighbours import JOINED_PAIR
from dedup_spark.stages.match.task import JOINED, JoinSettings, join_items
from dedup_spark.store.observed import stage_with
from dedup_spark.store.runs import Run


def join(
    run: Run, wanted: Comparisons, settings: JoinSettings, guard: PairGuard, profile: ResourceProfile | None
) -> tuple[DataFrame, dict[str, Any]]:
    """Pairs (JOINED_PAIR, engine) of all items, staged, and totals by name: n_pairs, n_near, n_candidates,
    read_bytes, is_cut_off, and of faiss_ivf n_full_queries, n_gave_up_gpu and gave_up_gpu, one of the reasons.

    The job is stopped as soon as it finds too many pairs, and then gives none. Raises GuardError.
    """
    spark = run.tables.spark
    n_found = spark.sparkContext.accumulator(0)
    progress = Progress("match", "work items", wanted.n_items)
    task = functools.partial(join_items, settings=settings, n_pairs=n_found)
    spark.sparkContext.setJobGroup(run.run_id, "match", interruptOnCancel=True)

    def stop_if_exploded() -> None:
        if n_found.value > guard.max_found:
            spark.sparkContext.cancelJobGroup(run.run_id)

    try:
        watch = progress.watching(spark, done_before=0, n_under_way=wanted.n_items, check=stop_if_exploded)
        with watch:
            rows = wanted.items.mapInArrow(task, JOINED.ddl, profile=profile)
            found, totals = stage_with(
                run.tables, "found", rows,
                n_pairs=F.count("image_id_a"),
                n_near=F.count_if(F.col("similarity") >= F.lit(settings.min_similarity).cast("float")),
                n_candidates=F.sum("n_candidates"),
                read_bytes=F.sum("read_bytes"),
                is_cut_off=F.bool_or("overflow"),
                n_full_queries=F.sum("n_full_queries"),
                n_gave_up_gpu=F.count("gave_up_gpu"),
                gave_up_gpu=F.min("gave_up_gpu"),
            )  # fmt: skip
    except (PySparkException, Py4JJavaError) as e:
        if n_found.value > guard.max_found:
            raise guard.error(f"more than {guard.max_found:,} pairs") from e
        raise
    guard.check_found(totals["n_near"], totals["is_cut_off"])
    return found.where("item IS NULL").select(*JOINED_PAIR, F.lit(settings.engine).alias("engine")), totals
