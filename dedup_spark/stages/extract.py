"""Extract: read each object once; signatures, facts, thumbnail and embedding come out of that one pass.

Reads: images, features
Writes: features
Kernels: hashing, signature
Scale: bytes of the lake once, over the network; per image one decode and one forward pass; about 12 KB a row out.

Work goes by slices of `extract.slice_images`, each one atomic append: a killed run loses at most a slice. A row
that is already there is never read again, whoever wrote it. What tasks do is in `extract_task.py`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark.config import Config
from dedup_spark.errors import GuardError, TableError
from dedup_spark.kernels.signature import current_versions
from dedup_spark.models import registry as models
from dedup_spark.runs import Progress, Run
from dedup_spark.sources.registry import open_source
from dedup_spark.stages.extract_task import TIMINGS, TaskSettings, extract_batches
from dedup_spark.stages.model_choice import (
    ModelClocks,
    choose_model,
    held_models,
    require_one_model,
    signature_settings,
)
from dedup_spark.stages.slices import slice_bounds, spread_addresses
from dedup_spark.tables import FEATURES, IMAGES, Tables

log = logging.getLogger(__name__)

_MIN_IMAGES_FOR_GUARD = 200  # a share of a handful says nothing
_ABOUT_CONTENT = (
    "ok",
    "empty",
    "not_an_image",
    "unsupported_format",
    "truncated",
    "corrupt",
    "too_many_pixels",
    "too_small",
)
"""Outcomes that equal bytes share; the other reasons are about one object's fate."""


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Forget what is gone, changed or outdated; read what is missing, slice by slice."""
    tables, held = run.tables, held_models(run.tables.read(FEATURES))
    settings = task_settings(spark, config, run, held)
    require_one_model(held, settings.model_id, run)
    n_forgotten = _forget(tables, settings)

    n_read = n_copied = 0
    if config.extract.trust_etags:
        n_read = _read_slices(run, config, settings, first_of_equal_etags)
        n_copied = _copy_equal_etags(tables, run.run_id)
    n_read += _read_slices(run, config, settings, lambda pending: pending)
    tables.drop_staged()
    _guard_against_rejects(run, config.extract.max_reject_share)  # also when a stopped run had read them all

    totals = _require_conservation(tables, settings.source.root, run.run_id)
    run.count(read=n_read, copied=n_copied, forgotten=n_forgotten, **totals)


def task_settings(spark: SparkSession, config: Config, run: Run, held: list[str]) -> TaskSettings:
    """Resolve on the driver what every task must agree on; `held` are the model_ids in features."""
    model = choose_model(spark, config.extract, held) if config.extract.embedding != models.OFF else None
    if model:
        log.info("%s", model.describe())
        run.note(model=model.describe())
    return TaskSettings(
        source=open_source(run.lake, config.inventory),
        signature=signature_settings(config.extract, model),
        extract=config.extract,
        model=model,
        run_id=run.run_id,
        task_cpus=model.share.cpus if model else int(spark.sparkContext.getConf().get("spark.task.cpus", "1")),
    )


def outdated(features: DataFrame, images: DataFrame, settings: TaskSettings) -> DataFrame:
    """(image_id, why) of rows that must be made again: their object, their decoder or the model is not what it was."""
    e = settings.extract
    no_object = features.join(images, ["image_id", "object_version"], "left_anti").select("image_id")
    reasons = F.when(F.col("reject_reason").isin(list(e.retry_rejects)), "asked for by extract.retry_rejects")
    if settings.model_id is not None:
        reasons = reasons.when(F.expr("status = 'ok' AND model_id IS NULL"), "made without a model")
    if e.on_version_change == "recompute":
        old = ~F.col("signature_version").isin(sorted(current_versions(settings.signature)))
        reasons = reasons.when(old, F.concat(F.lit("made by version "), "signature_version"))
    others = features.join(no_object, "image_id", "left_anti").select("image_id", reasons.alias("why"))
    return no_object.withColumn("why", F.lit("object gone or changed")).unionByName(others.where("why IS NOT NULL"))


def pending_images(images: DataFrame, features: DataFrame) -> DataFrame:
    """Images that have no row of features yet."""
    return images.join(features, "image_id", "left_anti")


def first_of_equal_etags(pending: DataFrame) -> DataFrame:
    """Of pending images with equal size and ETag the first; images whose listing proves nothing are left out."""
    first = pending.where("etag IS NOT NULL AND size_bytes IS NOT NULL").groupBy("size_bytes", "etag")
    return pending.join(first.agg(F.min("image_id").alias("image_id")).select("image_id"), "image_id", "left_semi")


def extract_features(images: DataFrame, settings: TaskSettings, n_images: int) -> DataFrame:
    """Rows of `images` (about `n_images`) to FEATURES and TIMINGS; lazy. One container is read by one task."""
    in_order = spread_addresses(images, settings.extract.task_images, n_images)
    schema = T.StructType([*FEATURES.schema, *TIMINGS])
    profile = settings.model.share.profile if settings.model else None
    return in_order.mapInArrow(functools.partial(extract_batches, settings=settings), schema, profile=profile)


def _read_slices(run: Run, config: Config, settings: TaskSettings, choose: Callable[[DataFrame], DataFrame]) -> int:
    """Read the images of this lake that `choose` takes from the pending ones; returns how many."""
    tables = run.tables
    here = F.col("lake") == settings.source.root
    pending = pending_images(tables.read(IMAGES).where(here), tables.read(FEATURES))
    chosen = tables.stage("chosen", choose(pending).orderBy("image_id"))
    n_chosen = chosen.count()
    bounds = slice_bounds(chosen, n_chosen, config.extract.slice_images)
    n_slice = -(-n_chosen // max(1, len(bounds)))
    progress, clocks = Progress("extract", "images", n_chosen), ModelClocks(run)
    for i, (low, high) in enumerate(bounds):
        part = chosen.where(F.col("image_id").between(low, high))
        with progress.watching(tables.spark, done_before=i * n_slice, n_under_way=n_slice):
            rows = clocks.watch(extract_features(part, settings, n_slice))
            tables.append(FEATURES, rows.select(FEATURES.column_names))
        clocks.count()
        progress.show(min(n_chosen, (i + 1) * n_slice), force=True)
        _guard_against_rejects(run, config.extract.max_reject_share)
    return n_chosen


def _copy_equal_etags(tables: Tables, run_id: str) -> int:
    """Give pending images the row of an image of equal size and ETag that was read; returns how many got one."""
    images, features = tables.read(IMAGES), tables.read(FEATURES)
    pending = pending_images(images.where("etag IS NOT NULL AND size_bytes IS NOT NULL"), features)
    if pending.isEmpty():
        return 0
    same = ["size_bytes", "etag"]
    outcome = F.coalesce("reject_reason", "status")
    known = images.join(features.where(outcome.isin(list(_ABOUT_CONTENT))).select("image_id"), "image_id")
    donor = known.groupBy(*same).agg(F.min("image_id").alias("donor_id"))
    pairs = pending.select("image_id", "object_version", *same).join(donor, same)
    copies = pairs.select(
        F.col("image_id").alias("to_id"), F.col("object_version").alias("to_version"), "donor_id"
    ).join(features, F.col("donor_id") == F.col("image_id"))
    changed: dict[str, Column] = {
        "image_id": F.col("to_id"),
        "object_version": F.col("to_version"),
        "run_id": F.lit(run_id),
        "n_retries": F.lit(0),
    }
    rows = tables.stage("copies", copies.withColumns(changed).select(FEATURES.column_names))
    n_copies = rows.count()
    if n_copies:
        tables.append(FEATURES, rows)
    return n_copies


def _forget(tables: Tables, settings: TaskSettings) -> int:
    found = tables.stage("outdated", outdated(tables.read(FEATURES), tables.read(IMAGES), settings))
    reasons = found.groupBy("why").count().orderBy(F.desc("count")).collect()
    for r in reasons:
        log.info("extract: %s rows forgotten: %s", f"{r['count']:,}", r["why"])
    if any("made by version" in r["why"] for r in reasons):
        log.info("extract: keep such rows with --set extract.on_version_change=keep")
    n_forgotten = sum(r["count"] for r in reasons)
    if n_forgotten:
        tables.delete(FEATURES, found.select("image_id"))
    return n_forgotten


def _guard_against_rejects(run: Run, max_share: float) -> None:
    read = run.tables.read(FEATURES).where(F.col("run_id") == run.run_id)
    counts = read.groupBy("reject_reason").count().orderBy(F.desc("count")).collect()
    n_read = sum(r["count"] for r in counts)
    n_rejected = sum(r["count"] for r in counts if r["reject_reason"] is not None)
    if n_read >= _MIN_IMAGES_FOR_GUARD and n_rejected > max_share * n_read:
        reasons = ", ".join(f"{r['reject_reason']} {r['count']:,}" for r in counts if r["reject_reason"])
        raise GuardError(
            f"{n_rejected:,} of {n_read:,} images read were rejected ({reasons}), more than extract.max_reject_share "
            f"({max_share:g}); look at the view quarantine, or allow it with --set extract.max_reject_share=1"
        )


def _require_conservation(tables: Tables, lake: str, run_id: str) -> dict[str, int]:
    """Every image of this lake has one row of features, and no row is without its image. Returns what else was counted.

    One shuffle of 30 bytes a row, of both tables. Raises TableError.
    """
    of_run = F.when(F.col("run_id") == run_id, F.col("n_retries"))
    rows = tables.read(FEATURES).groupBy("image_id").agg(
        F.count("*").alias("n"),
        F.count_if(F.col("status") == "rejected").alias("rejected"),
        F.coalesce(F.sum(of_run), F.lit(0)).alias("retries"),
    )  # fmt: skip
    images = tables.read(IMAGES).select("image_id", (F.col("lake") == lake).alias("is_here"))
    found = images.join(rows, "image_id", "full").agg(
        F.count_if(F.col("is_here") & F.col("n").isNull()).alias("unread"),
        F.count_if(F.col("is_here").isNull()).alias("orphans"),
        F.coalesce(F.sum(F.col("n") - 1), F.lit(0)).alias("twice"),
        *[F.coalesce(F.sum(c), F.lit(0)).alias(c) for c in ("rejected", "retries")],
    ).first()  # fmt: skip
    assert found is not None
    if found["unread"] or found["orphans"] or found["twice"]:
        raise TableError(
            f"after extract {found['unread']:,} images have no features, {found['orphans']:,} features no image and "
            f"{found['twice']:,} are there twice; is another run writing to these tables?"
        )
    return {"rejected": found["rejected"], "retries": found["retries"]}
