"""`dedup-spark plan`: estimates what a run will cost and what it will find, from the listing and a sample.

A few hundred images, drawn by a seed, are read once on the executors, and the reading is timed. Nothing is written but
the log of runs, so that a plan disturbs no other run. Where `images` holds nothing of the lake, the lake is listed for
the plan alone. Where `features` holds enough rows for a sample, those are taken and nothing is read. Reading and timing
run on executors, the estimates on the driver (at most plan.max_feature_images rows of 1 KB and their n^2 / 2 products).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.commands.plan import estimates
from dedup_spark.commands.plan.forecast import Prices, Rates, SparkCluster, StepCost, Workload, forecast
from dedup_spark.commands.plan.listing import ListingFacts, listing_facts
from dedup_spark.commands.plan.speed import load_model, measure, stage_profile
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError
from dedup_spark.kernels import vectors
from dedup_spark.sources.base import ADDRESS_COLUMNS, Source
from dedup_spark.spark.draw import seeded_hash
from dedup_spark.stages.extract.step import task_settings
from dedup_spark.stages.extract.task import extract_batches
from dedup_spark.stages.inventory.step import images_of, list_lake
from dedup_spark.stages.match.floors import lowest_floor
from dedup_spark.stages.reading.formats_here import count_rare_suffixes, undecodable
from dedup_spark.stages.reading.inputs import inputs_of_tasks, is_read_by_spark, planned_for_inputs
from dedup_spark.stages.reading.model_choice import held_models, require_one_model
from dedup_spark.stages.reading.read_ahead import TaskSettings
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.vocabulary import FeatureStatus, StepName

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Cosines for which pairs are estimated, in addition to match.min_similarity and the floor of neighbours."""

_KEPT = FEATURES.schema.only("image_id", "status", "reject_reason", "content_hash", "pixel_hash", "embedding")
_SAMPLE = _KEPT + Columns("busy_seconds double")
_COMPARED_EMBEDDINGS = 500
_IMAGES_PER_TASK = 25
"""Enough images to make the start of a task negligible, few enough for a few hundred images to use many cores."""


@dataclass(frozen=True)
class Sample:
    """Rows drawn at random from all images, in random order.

    `busy_seconds`: core-seconds that reading them took; None where they were rows of `features`.
    """

    rows: pa.Table
    busy_seconds: float | None

    def ok(self) -> pa.Table:
        return self.rows.filter(pc.equal(self.rows["status"], FeatureStatus.OK))


@dataclass(frozen=True)
class Plan:
    """All figures of a plan. `clusters`: first that of the session, then those asked for, each with its steps.

    `undecodable`: a sentence for each kind of image in the whole lake that nothing here decodes, told by its name.
    """

    n_images: int
    n_bytes: int
    n_readable: int
    n_sample: int
    rejected: dict[str, int]
    undecodable: list[str]
    from_features: bool
    rates: Rates
    measured: tuple[str, ...]
    duplicates: dict[str, estimates.Estimate]
    clusters: list[tuple[SparkCluster, list[StepCost]]]
    prices: Prices


def make_plan(spark: SparkSession, config: Config, run: Run, clusters: Sequence[SparkCluster]) -> Plan:
    """List the lake if need be, draw and read the sample, measure, forecast.

    Raises:
        ConfigError: Fewer than two images of the sample can be read.
    """
    with run.step(StepName.PLAN):
        made = _plan(spark, config, run, clusters)
        run.count(images=made.n_images, sample=made.n_sample)
    run.tables.drop_staged()
    return made


def _images(run: Run, source: Source) -> DataFrame:
    """The images of the lake: as the tables know them, else listed now."""
    known = run.tables.read(IMAGES).where(F.col("lake") == run.lake)
    if not known.isEmpty():
        return known
    entries, counts = list_lake(run, source)
    counts.say()
    return images_of(entries)


def _plan(spark: SparkSession, config: Config, run: Run, clusters: Sequence[SparkCluster]) -> Plan:
    held = held_models(run.tables.read(FEATURES))
    settings = task_settings(spark, config, run, held)
    images = _images(run, settings.source)
    listed = listing_facts(images)
    n_images, n_bytes = listed.n_images, listed.n_bytes
    sample = _from_features(run, config, settings, held) or _read_sample(run, config, settings, images)
    ok = sample.ok()
    if len(ok) < 2:
        raise ConfigError(
            f"of {len(sample.rows)} images drawn from {n_images:,}, {len(ok)} can be read, and a plan needs 2: check "
            "the lake and its access rights, or raise plan.sample_images"
        )
    n_readable = max(len(ok), round(n_images * len(ok) / len(sample.rows)))
    floor = lowest_floor(config.match) if config.match.neighbours else config.match.min_similarity
    duplicates = estimate_duplicates(ok, n_readable, (config.match.min_similarity, floor, *THRESHOLDS))
    duplicates["same bytes"] = by_listing(duplicates["same bytes"], listed)
    rates, measured = measure(spark, config, settings, ok["embedding"].to_pylist()[:_COMPARED_EMBEDDINGS])
    if sample.busy_seconds is not None:
        each = sample.busy_seconds * settings.task_cpus / len(sample.rows)
        decode = {"decode_seconds": max(each - rates.embed_seconds, 0.1 * each), "decode_byte_seconds": 0.0}
        rates, measured = replace(rates, **decode), (*measured, *decode)
    found = duplicates.get(_named(floor)) or duplicates["same pixels"]
    n_distinct = max(1, n_readable - round(duplicates["same pixels"].extra.value))
    in_doubt = duplicates.get(_named(config.match.min_similarity))
    n_weighed = min(round(in_doubt.pairs.value) if in_doubt else 0, config.cluster.max_verified_pairs)
    lake = Workload(n_images, n_bytes, n_distinct, round(found.pairs.value), _n_dimensions(ok), n_weighed)
    prices = Prices(config.plan.dollars_per_core_hour, config.plan.dollars_per_gpu_hour)
    costs = [(c, forecast(lake, c, rates, prices)) for c in (this_cluster(spark), *clusters)]
    reasons = sample.rows.filter(pc.invert(pc.equal(sample.rows["status"], FeatureStatus.OK)))["reject_reason"]
    rejected = {r["values"]: r["counts"] for r in reasons.value_counts().to_pylist()}
    undecoded = undecodable(spark, count_rare_suffixes(images))
    return Plan(
        n_images, n_bytes, n_readable, len(ok), rejected, undecoded, sample.busy_seconds is None, rates, measured,
        duplicates, costs, prices,
    )  # fmt: skip


def _from_features(run: Run, config: Config, settings: TaskSettings, held: list[str]) -> Sample | None:
    """A sample of `features`, where it holds at least plan.sample_images rows, all of the model asked for."""
    here = run.tables.read(IMAGES).where(F.col("lake") == run.lake).select("image_id")
    features = run.tables.read(FEATURES).join(here, "image_id", "left_semi")
    if features.limit(config.plan.sample_images).count() < config.plan.sample_images:
        return None
    require_one_model(held, settings.model_id, run)
    drawn = features.orderBy(seeded_hash(config.plan.seed), "image_id").limit(config.plan.max_feature_images)
    return Sample(drawn.select(*_KEPT).toArrow(), None)


def _read_sample(run: Run, config: Config, settings: TaskSettings, images: DataFrame) -> Sample:
    """Draw plan.sample_images of the images and read each once."""
    drawn = run.tables.stage(
        "drawn", images.orderBy(seeded_hash(config.plan.seed), "image_id").limit(config.plan.sample_images)
    )
    with planned_for_inputs(run.tables.spark, settings):
        rows = _inputs(drawn, settings).mapInArrow(
            functools.partial(_timed_batches, settings=settings), _SAMPLE.ddl, profile=stage_profile(settings)
        )
        read = run.tables.stage("sample", rows)
    table = read.orderBy(seeded_hash(config.plan.seed), "image_id").toArrow()
    return Sample(table, pc.sum(table["busy_seconds"]).as_py() or 0.0)


def _inputs(drawn: DataFrame, settings: TaskSettings) -> DataFrame:
    """What the tasks read: few images each, so that all cores take part."""
    n_images = drawn.count()
    if is_read_by_spark(settings):
        return inputs_of_tasks(drawn, settings, n_images)
    n_tasks = max(1, min(drawn.sparkSession.sparkContext.defaultParallelism, n_images // _IMAGES_PER_TASK))
    address = drawn.select("image_id", "object_version", *ADDRESS_COLUMNS)
    return address.repartition(n_tasks, "image_id").sortWithinPartitions("image_id")


def _timed_batches(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[pa.RecordBatch]:
    """On executors: the rows that extract makes, without thumbnails; its rows share the seconds of a batch."""
    load_model(settings)
    begin = time.monotonic()
    for batch in extract_batches(batches, settings):
        busy = pa.array(np.full(len(batch), (time.monotonic() - begin) / max(1, len(batch))))
        columns = [batch.column(name) for name in _KEPT]
        yield pa.RecordBatch.from_arrays([*columns, busy], schema=_SAMPLE.arrow)
        begin = time.monotonic()


def estimate_duplicates(ok: pa.Table, n_lake: int, thresholds: Sequence[float]) -> dict[str, estimates.Estimate]:
    """An estimate for each kind of pair, strongest first; near pairs are counted among images of distinct pixels."""
    seen = {
        "same bytes": estimates.equal_in_sample(ok["content_hash"].to_pylist()),
        "same pixels": estimates.equal_in_sample(ok["pixel_hash"].to_pylist()),
    }
    found = {kind: estimates.estimate(s, len(ok), n_lake) for kind, s in seen.items()}
    first = np.sort(np.unique(np.array(ok["pixel_hash"].to_pylist(), dtype=str), return_index=True)[1])
    embeddings = [e for e in ok["embedding"].take(pa.array(first)).to_pylist() if e is not None]
    if len(embeddings) < 2:
        return found
    n_distinct = (
        max(len(embeddings), round(n_lake * len(embeddings) / len(ok))) if len(ok) < n_lake else len(embeddings)
    )
    ordered = sorted(set(thresholds), reverse=True)
    near = estimates.near_in_sample(vectors.from_bytes(embeddings), ordered)
    return found | {
        _named(t): estimates.estimate(s, len(embeddings), n_distinct) for t, s in zip(ordered, near, strict=True)
    }


def by_listing(same_bytes: estimates.Estimate, listed: ListingFacts) -> estimates.Estimate:
    """The estimate clipped to what equal sizes allow and equal ETags prove. Unreadable files count, as they can be
    byte copies too."""
    most_pairs = math.inf if listed.most_pairs is None else float(listed.most_pairs)
    most_images = math.inf if listed.most_images is None else float(listed.most_images)
    return estimates.between(same_bytes, (listed.least_pairs, most_pairs), (listed.least_images, most_images))


def _named(threshold: float) -> str:
    return f"cosine >= {threshold:g}"


def _n_dimensions(ok: pa.Table) -> int:
    lengths = [len(e) for e in ok["embedding"].to_pylist()[:100] if e is not None]
    return max(lengths, default=1024) // 2


def this_cluster(spark: SparkSession) -> SparkCluster:
    """The cluster of the session: its executors (on a local master the driver) as nodes, with a GPU where Spark has
    one."""
    context = spark.sparkContext
    n_executors = max(1, context._jsc.sc().getExecutorMemoryStatus().size() - 1)  # one entry is the driver's
    n_gpus = float(context.getConf().get("spark.executor.resource.gpu.amount", "0"))
    cores = max(1, context.defaultParallelism // n_executors)
    return SparkCluster(n_executors, cores, 1 if n_gpus else 0)
