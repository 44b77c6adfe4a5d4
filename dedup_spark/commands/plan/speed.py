"""Measures, for `dedup-spark plan`, how fast the cores of this cluster compare and embed; runs on executors."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa
from pyspark.resource import ResourceProfile
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.commands.plan import core_rates
from dedup_spark.commands.plan.forecast import Rates
from dedup_spark.config import Config, MatchSettings
from dedup_spark.kernels.joins.sketches import NEGATIVES, CosineHistogram, negatives_of
from dedup_spark.kernels.vectors import from_bytes
from dedup_spark.models.base import Embedder
from dedup_spark.stages.match.floors import sketch_floor
from dedup_spark.stages.reading.read_ahead import TaskSettings

_CORE = Columns(
    "exact_pair_ns double, sketch_pair_ns double, embed_seconds double, describe_seconds double, weigh_seconds double"
)


def load_model(settings: TaskSettings) -> Embedder | None:
    """The model that extract will use; it is loaded before any time is taken."""
    return settings.model.load() if settings.model else None


def stage_profile(settings: TaskSettings) -> ResourceProfile | None:
    """The resources that a stage with the model asks for; None where it asks for none beyond Spark's own."""
    return settings.model.share.profile if settings.model else None


def measure(
    spark: SparkSession,
    config: Config,
    settings: TaskSettings,
    embeddings: list[bytes | None],
    to_weigh: core_rates.ToWeigh,
) -> tuple[Rates, tuple[str, ...]]:
    """The rates, measured on this cluster where possible, else the defaults; and the names of the measured ones.

    `embeddings` are of images drawn at random: the cosines between them decide how many bits a sketch takes. `to_weigh`
    are thumbnails such as cluster weighs.
    """
    n_tasks = spark.sparkContext.defaultParallelism
    known = [e for e in embeddings if e is not None]
    negatives = negatives_of(from_bytes(known)) if known else NEGATIVES
    demands = _demands(config.match)
    timed = functools.partial(_core_batches, settings=settings, demands=demands, negatives=negatives, to_weigh=to_weigh)
    cores = spark.range(0, n_tasks, 1, n_tasks).mapInArrow(timed, _CORE.ddl, profile=stage_profile(settings))
    row = cores.agg(*[F.avg(f.name).alias(f.name) for f in cores.schema]).collect()[0].asDict()
    found = {name: value for name, value in row.items() if value is not None}
    if settings.model is None:
        found["embed_seconds"] = 0.0
    held = int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))  # cluster weighs with one thread of them
    found |= {name: held * found[name] for name in ("describe_seconds", "weigh_seconds") if name in found}
    return replace(Rates(), **found), tuple(found)


def _demands(match: MatchSettings) -> list[tuple[float, float]]:
    """The (cosine, recall) that the sketches of match must reach: see stages/match/engine_choice.py."""
    floor = sketch_floor(match)
    to_the_floor = [(floor, match.floor_recall)] if match.neighbours and floor < match.min_similarity else []
    return [(match.min_similarity, match.min_recall), *to_the_floor]


def _core_batches(
    batches: Iterable[pa.RecordBatch],
    settings: TaskSettings,
    demands: list[tuple[float, float]],
    negatives: CosineHistogram,
    to_weigh: core_rates.ToWeigh,
) -> Iterator[pa.RecordBatch]:
    """On executors, on all cores at once, as they will share caches and memory: one row of rates per task."""
    model = load_model(settings)
    for _ in batches:
        rates = core_rates.measure_core(demands, negatives, settings.task_cpus)
        embed = core_rates.embed_seconds(model, settings.signature.input_px) * settings.task_cpus if model else None
        weighed = core_rates.measure_weighing(to_weigh)
        found = (
            rates.exact_pair_ns, rates.sketch_pair_ns, embed,
            weighed.describe_seconds if weighed else None, weighed.weigh_seconds if weighed else None,
        )  # fmt: skip
        yield pa.RecordBatch.from_arrays([pa.array([x], pa.float64()) for x in found], schema=_CORE.arrow)
