"""`dedup-spark plan`: estimates what a run will cost and what it will find, from the listing and a sample.

A few hundred images, drawn by a seed, are read once on the executors, and the reading is timed. Nothing is written but
the log of runs, so that a plan disturbs no other run. Where `images` holds nothing of the lake, the lake is listed for
the plan alone. Where `features` holds enough rows for a sample, those are taken and nothing is read. Reading and timing
run on executors, the estimates on the driver (at most plan.max_feature_images rows of 1 KB and their n^2 / 2 products).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.commands.plan import estimates
from dedup_spark.commands.plan.core_rates import ToWeigh
from dedup_spark.commands.plan.expected_pairs import (
    NearInSample,
    cosines,
    expected_pairs,
    near_in,
)
from dedup_spark.commands.plan.forecast import (
    Prices,
    Rates,
    SparkCluster,
    StepCost,
    Workload,
    forecast,
    is_compared_exactly,
)
from dedup_spark.commands.plan.listing import ListingFacts, listing_facts
from dedup_spark.commands.plan.sample import Sample, of_features, of_images
from dedup_spark.commands.plan.speed import measure
from dedup_spark.config import Config, MatchSettings
from dedup_spark.errors import ConfigError
from dedup_spark.sources.base import Source
from dedup_spark.stages.extract.step import task_settings
from dedup_spark.stages.inventory.step import images_of, list_lake
from dedup_spark.stages.match.floors import lowest_floor
from dedup_spark.stages.reading.formats_here import count_rare_suffixes, undecodable
from dedup_spark.stages.reading.model_choice import held_models
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.vocabulary import FeatureStatus, StepName

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Cosines for which pairs are estimated, in addition to match.min_similarity and the floor of neighbours."""

_COMPARED_EMBEDDINGS = 500
_DESCRIBED, _WEIGHED = 24, 8
"""Images of the sample that are described, and that are weighed with those near them, to measure how long that takes:
about two seconds of every core."""


@dataclass(frozen=True)
class Plan:
    """All figures of a plan. `clusters`: first that of the session, then those asked for, each with its steps.

    `work`: the counts that the costs on the first are made of; where match looks deeper, as on GPUs, they are others.
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
    work: Workload
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
    sample = of_features(run, config, settings, held) or of_images(run, config, settings, images)
    ok = sample.ok()
    if len(ok) < 2:
        raise ConfigError(
            f"of {len(sample.rows)} images drawn from {n_images:,}, {len(ok)} can be read, and a plan needs 2: check "
            "the lake and its access rights, or raise plan.sample_images"
        )
    n_readable = max(len(ok), round(n_images * len(ok) / len(sample.rows)))
    shown = (config.match.min_similarity, _lowest(config.match), *THRESHOLDS)
    seen = near_in(ok, n_readable, config, shown)
    duplicates = estimate_duplicates(ok, n_readable, seen, shown)
    duplicates["same bytes"] = by_listing(duplicates["same bytes"], listed)
    embeddings = ok["embedding"].to_pylist()[:_COMPARED_EMBEDDINGS]
    rates, measured = measure(spark, config, settings, embeddings, _to_weigh(sample, seen, config))
    if sample.busy_seconds is not None:
        each = sample.busy_seconds * settings.task_cpus / len(sample.rows)
        decode = {"decode_seconds": max(each - rates.embed_seconds, 0.1 * each), "decode_byte_seconds": 0.0}
        rates, measured = replace(rates, **decode), (*measured, *decode)
    n_distinct = max(1, n_readable - round(duplicates["same pixels"].extra.value))
    counts = Workload(
        n_images, n_bytes, n_distinct, round(duplicates["same pixels"].pairs.value), _n_dimensions(ok),
        max_shard_rows=config.index.max_shard_rows,
    )  # fmt: skip
    prices = Prices(config.plan.dollars_per_core_hour, config.plan.dollars_per_gpu_hour)
    places = (this_cluster(spark), *clusters)
    works = [_work(counts, seen, c, rates, config) for c in places]
    costs = [(c, forecast(work, c, rates, prices)) for c, work in zip(places, works, strict=True)]
    reasons = sample.rows.filter(pc.invert(pc.equal(sample.rows["status"], FeatureStatus.OK)))["reject_reason"]
    rejected = {r["values"]: r["counts"] for r in reasons.value_counts().to_pylist()}
    undecoded = undecodable(spark, count_rare_suffixes(images))
    return Plan(
        n_images, n_bytes, n_readable, len(ok), rejected, undecoded, sample.busy_seconds is None, rates, measured,
        duplicates, works[0], costs, prices,
    )  # fmt: skip


def estimate_duplicates(
    ok: pa.Table, n_lake: int, seen: NearInSample | None, thresholds: Sequence[float]
) -> dict[str, estimates.Estimate]:
    """An estimate for each kind of pair, strongest first; near pairs are counted among images of distinct pixels.

    `thresholds` are some of those of `seen`.
    """
    equal = {
        "same bytes": estimates.equal_in_sample(ok["content_hash"].to_pylist()),
        "same pixels": estimates.equal_in_sample(ok["pixel_hash"].to_pylist()),
    }
    found = {kind: estimates.estimate(s, len(ok), n_lake) for kind, s in equal.items()}
    if seen is None:
        return found
    return found | {
        _named(t): estimates.estimate(seen.near.counts_at(t), len(seen.rows), seen.n_lake)
        for t in sorted(set(thresholds), reverse=True)
    }


def _work(counts: Workload, seen: NearInSample | None, cluster: SparkCluster, rates: Rates, config: Config) -> Workload:
    """With the pairs that match keeps there and cluster weighs; without embeddings those of equal pixels."""
    if seen is None:
        return counts
    exact = bool(cluster.n_gpus) or is_compared_exactly(counts, rates)
    found = expected_pairs(seen, counts.n_distinct, config, cosines(seen, counts.n_distinct, config, exact=exact))
    return replace(
        counts, n_pairs=round(found.kept), n_weighed=round(found.weighed), n_described=round(found.described)
    )


def _to_weigh(sample: Sample, seen: NearInSample | None, config: Config) -> ToWeigh:
    """Thumbnails of the sample; none where cluster weighs none."""
    least = cosines(seen, seen.n_lake, config, exact=False).doubted if seen else None
    if seen is None or least is None:
        return ToWeigh([], [])
    most, seed = config.match.neighbours, config.plan.seed
    described = seen.to_describe(_DESCRIBED, least, most, seed)
    queries = seen.to_weigh(_WEIGHED, least, most, seed)
    ids = sample.ok()["image_id"].to_pylist()
    jpegs = sample.thumbnails(sorted({ids[row] for rows in (described, *queries) for row in rows}))

    def of(rows: list[int]) -> list[bytes]:
        return [jpegs[ids[row]] for row in rows if ids[row] in jpegs]

    return ToWeigh(of(described), [q for q in map(of, queries) if len(q) > 1])


def by_listing(same_bytes: estimates.Estimate, listed: ListingFacts) -> estimates.Estimate:
    """The estimate clipped to what equal sizes allow and equal ETags prove. Unreadable files count, as they can be
    byte copies too."""
    most_pairs = math.inf if listed.most_pairs is None else float(listed.most_pairs)
    most_images = math.inf if listed.most_images is None else float(listed.most_images)
    return estimates.between(same_bytes, (listed.least_pairs, most_pairs), (listed.least_images, most_images))


def _lowest(match: MatchSettings) -> float:
    return lowest_floor(match) if match.neighbours else match.min_similarity


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
