"""The plan of match: which two shards meet, by which engine, and what that is predicted to cost."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pyarrow import RecordBatch
from pyspark.accumulators import Accumulator
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import MatchSettings
from dedup_spark.errors import GuardError
from dedup_spark.kernels.joins.sketches import SketchFilter, choose_filter, filter_cost
from dedup_spark.stages.match.survey import Survey
from dedup_spark.stages.match.task import JoinSettings, join_items

_MAX_TASKS = 20_000
"""Above this Spark's scheduler costs more than the finer grain gains; then a task takes several items in turn."""

_CORE_SECONDS_A_TASK = 1.0  # less, and Spark's own 0.1 s a task with Python in it would tell

_FLOOR_DEPTH = 0.15  # below min_similarity: see match.floor_similarity in conf/base.toml
_CHEAP_CORE_SECONDS = 10.0  # 35,000 images on a CPU: what Spark's own jobs cost a match
_NEIGHBOURS_KEPT = 4  # times match.neighbours: what the floor may let through on average


@dataclass(frozen=True)
class Choice:
    """An engine with its predicted cost in core-seconds, and what it needs."""

    engine: str
    core_seconds: float
    sketch_filter: SketchFilter | None = None
    margin: float = 0.0
    n_probes: int = 0


def lowest_floor(settings: MatchSettings) -> float:
    """The floor of the survey and of exact joins, which pay nothing for it: never above min_similarity."""
    return min(settings.min_similarity, settings.floor_similarity)


def sketch_floor(settings: MatchSettings) -> float:
    """The floor of joins by sketches: not far below min_similarity, as they need several times the bits there."""
    return max(lowest_floor(settings), round(settings.min_similarity - _FLOOR_DEPTH, 4))


def raised_floor(settings: MatchSettings, survey: Survey, floor: float) -> float:
    """`floor`, raised where so many lie above it that the k nearest are found far above it all the same."""
    while (
        floor < settings.min_similarity and survey.neighbours_an_image(floor) > _NEIGHBOURS_KEPT * settings.neighbours
    ):
        floor = round(floor + 0.01, 2)
    return min(floor, settings.min_similarity)


def predict(
    survey: Survey, n_comparisons: float, floor: float, settings: MatchSettings, gpu_ns: float | None = None
) -> dict[str, Choice]:
    """Each engine with its cost. Exact: recall 1; the others as match.min_recall asks, by the survey's measurements.

    `gpu_ns`: nanoseconds of a comparison by exact_gpu, for all cores that its task holds; None: there is no GPU.
    """
    demands = [(settings.min_similarity, settings.min_recall)]
    if settings.neighbours and floor < settings.min_similarity:
        demands.append((floor, settings.floor_recall))
    sketch_filter = choose_filter(demands, survey.negatives)
    sketch_ns = filter_cost(sketch_filter, survey.negatives, survey.costs)
    met = min(1.0, 2 * survey.visited_share(survey.margin))
    seconds = n_comparisons / 1e9
    on_gpu = {} if gpu_ns is None else {"exact_gpu": Choice("exact_gpu", seconds * gpu_ns)}
    return on_gpu | {
        "exact": Choice("exact", seconds * survey.gemm_ns),
        "sketch": Choice("sketch", seconds * sketch_ns, sketch_filter),
        "routed": Choice("routed", seconds * (met * sketch_ns + _ROUTING_NS), sketch_filter, margin=survey.margin),
        "faiss_ivf": Choice("faiss_ivf", seconds * met * 2 * survey.gemm_ns, n_probes=survey.n_probes),
    }


_ROUTING_NS = 0.1
"""A pair's share of finding the cells to visit: a product of 512 numbers a row and cell of some 1,000 rows."""


def choose(choices: dict[str, Choice], engine: str) -> Choice:
    """The engine asked for; for `auto` the cheapest, FAISS left out: it is there to compare with.

    Where the exact join is cheap, it is the choice: recall 1, and the same engine whatever the clock said.
    """
    if engine != "auto":
        return choices[engine]
    if choices["exact"].core_seconds <= _CHEAP_CORE_SECONDS:
        return choices["exact"]
    return min((c for c in choices.values() if c.engine != "faiss_ivf"), key=lambda c: c.core_seconds)


def reasons(choices: dict[str, Choice], chosen: Choice, survey: Survey, floor: float) -> dict[str, Any]:
    """What goes into runs.notes."""
    return {
        "engine": chosen.engine,
        "predicted_core_seconds": {name: round(c.core_seconds, 3) for name, c in choices.items()},
        "floor": floor,
        "sketch": asdict(chosen.sketch_filter) if chosen.sketch_filter else None,
        "margin": chosen.margin,
        "n_probes": chosen.n_probes,
        "surveyed": survey.n_queries,
        "neighbours_an_image_above_floor": round(survey.neighbours_an_image(floor), 3),
        "gemm_ns": round(survey.gemm_ns, 2),
    }


def guard_against_explosion(survey: Survey, n: int, settings: MatchSettings) -> None:
    """Stop before the join when the sample's pairs make more than match.max_pairs_per_image. Raises GuardError."""
    expected = survey.neighbours_an_image(settings.min_similarity) / 2
    if survey.exploded or expected > settings.max_pairs_per_image:
        raise explosion(f"about {expected * n:,.0f} pairs expected", n, settings)


def max_found(n: int, settings: MatchSettings) -> int:
    """Rows that tasks may find: the pairs allowed, and what the raised floor lets through besides."""
    return n * (settings.max_pairs_per_image + _NEIGHBOURS_KEPT * settings.neighbours)


def totals(settings: MatchSettings) -> dict[str, Column]:
    """Aggregates over what tasks find, by name."""
    near = F.col("similarity") >= F.lit(settings.min_similarity).cast("float")
    return {
        "n_pairs": F.count("image_id_a"),
        "n_near": F.count_if(near),
        "n_candidates": F.sum("n_candidates"),
        "is_cut_off": F.bool_or("overflow"),
    }


def guard_totals(totals: dict[str, Any], n: int, settings: MatchSettings) -> None:
    """Stop before any pair is written, if tasks found too many. Raises GuardError."""
    if totals["is_cut_off"] or totals["n_near"] > settings.max_pairs_per_image * n:
        more = "more than " if totals["is_cut_off"] else ""
        raise explosion(f"{more}{totals['n_near']:,} pairs", n, settings)


def explosion(found: str, n: int, settings: MatchSettings) -> GuardError:
    """`found` says how many pairs."""
    return GuardError(
        f"{found} among {n:,} distinct images, more than match.max_pairs_per_image "
        f"({settings.max_pairs_per_image}): many images share a template or are nearly blank. Raise "
        "match.min_similarity (and cluster.min_similarity), or allow it with --set match.max_pairs_per_image=N"
    )


def join_settings(
    root: str, chosen: Choice, floor: float, settings: MatchSettings, gpus_per_task: float = 0.0
) -> JoinSettings:
    """What tasks need, for the engine chosen."""
    return JoinSettings(
        root=root,
        engine=chosen.engine,
        min_similarity=settings.min_similarity,
        floor=floor,
        neighbours=settings.neighbours,
        sketch_filter=chosen.sketch_filter,
        margin=chosen.margin,
        n_probes=chosen.n_probes,
        seed=settings.seed,
        max_pairs_per_image=settings.max_pairs_per_image,
        gpus_per_task=gpus_per_task,
    )


def all_items(shard_rows: DataFrame, n_shards: int) -> DataFrame:
    """Every two of the shards 0 to n - 1 once, and each with itself: work items, as many for each shard.

    Item `a * steps + s` joins shard a with shard a + s, modulo n: half a round trip, so that no pair is met twice.
    """
    steps = n_shards // 2 + 1
    a, step = F.expr(f"cast(id div {steps} as int)"), F.expr(f"cast(id % {steps} as int)")
    items = _range(shard_rows, n_shards * steps).select(
        F.col("id").alias("item"), a.alias("a"), ((a + step) % n_shards).alias("b"), step.alias("step")
    )
    once = items.where(f"2 * step < {n_shards} OR 2 * a < {n_shards}")  # opposite shards would meet twice
    return _with_files(once, shard_rows, shard_rows)


def n_tasks(n_items: int, core_seconds: float, parallelism: int) -> int:
    """How many tasks share the items: two for each core at least, then one a second of work."""
    return max(1, min(n_items, max(2 * parallelism, math.ceil(core_seconds / _CORE_SECONDS_A_TASK))))


def items_of_queries(query_rows: DataFrame, n_files: int, shard_rows: DataFrame, n_shards: int) -> DataFrame:
    """Every file of queries with every shard."""
    a, b = F.expr(f"cast(id div {n_shards} as int)"), F.expr(f"cast(id % {n_shards} as int)")
    items = _range(shard_rows, n_files * n_shards).select(F.col("id").alias("item"), a.alias("a"), b.alias("b"))
    return _with_files(items, query_rows, shard_rows)


def _range(like: DataFrame, n_items: int) -> DataFrame:
    return like.sparkSession.range(0, n_items, 1, max(1, min(n_items, _MAX_TASKS)))


def _with_files(items: DataFrame, a_rows: DataFrame, b_rows: DataFrame) -> DataFrame:
    """item, a, b, a_path, a_sha256, b_path, b_sha256; the tables of files are small and go to every executor."""
    for side, rows in (("a", a_rows), ("b", b_rows)):
        files = rows.select(F.col("shard").alias(side), *(F.col(c).alias(f"{side}_{c}") for c in ("path", "sha256")))
        items = items.join(F.broadcast(files), side)
    return items.select("item", "a", "b", "a_path", "a_sha256", "b_path", "b_sha256")


def one_task_a_shard(shard_rows: DataFrame, n_shards: int) -> DataFrame:
    """The rows of `shards` with a `shard` from 0, a task for each."""
    numbers = _range(shard_rows, n_shards).select(F.col("id").cast("int").alias("shard"))
    return numbers.join(F.broadcast(shard_rows.select("shard", "path", "sha256")), "shard")


def task(settings: JoinSettings, n_found: Accumulator[int]) -> Callable[[Iterable[RecordBatch]], Iterator[RecordBatch]]:
    """The function that executors run over work items."""
    return functools.partial(join_items, settings=settings, n_pairs=n_found)
