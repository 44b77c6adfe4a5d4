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

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark.config import Config
from dedup_spark.errors import GuardError, TableError
from dedup_spark.models import registry as models
from dedup_spark.runs import Progress, Run
from dedup_spark.sources.registry import open_source
from dedup_spark.stages.backlog import (
    HAS_ETAG,
    Backlog,
    first_of_equal_etags,
    kinds_of_rows,
    models_of,
    pending_images,
)
from dedup_spark.stages.extract_task import TIMINGS, TaskSettings, extract_batches
from dedup_spark.stages.model_choice import (
    ModelClocks,
    choose_model,
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
    tables, lake = run.tables, open_source(run.lake, config.inventory).root
    kinds = kinds_of_rows(tables.read(IMAGES), tables.read(FEATURES), lake, run.run_id)
    held = models_of(kinds)
    settings = task_settings(spark, config, run, held)
    require_one_model(held, settings.model_id, run)
    backlog = Backlog(kinds, settings)
    _forget(tables, backlog)
    guard = _RejectGuard(run, config.extract.max_reject_share, backlog)
    guard.check()  # also when a stopped run had read them all

    n_left, n_copied = backlog.n_pending, 0
    if config.extract.trust_etags and backlog.n_pending_with_etag:
        first = _in_slices(tables, first_of_equal_etags(_pending(tables, lake)))
        n_first = first.count()
        _read_slices(run, settings, guard, first, n_first)
        n_copied = _copy_equal_etags(tables, run.run_id)
        n_left -= n_first + n_copied
    if n_left:
        rest = _pending(tables, lake)
        is_one_slice = n_left <= config.extract.slice_images
        _read_slices(run, settings, guard, rest if is_one_slice else _in_slices(tables, rest), n_left)
    tables.drop_staged()

    totals = _require_conservation(tables, lake, run.run_id)
    n_read = backlog.n_pending - n_copied
    run.count(read=n_read, copied=n_copied, forgotten=sum(backlog.forgotten.values()), **totals)


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


def extract_features(images: DataFrame, settings: TaskSettings, n_images: int) -> DataFrame:
    """Rows of `images` (about `n_images`) to FEATURES and TIMINGS; lazy. One container is read by one task."""
    in_order = spread_addresses(images, settings.extract.task_images, n_images)
    schema = T.StructType([*FEATURES.schema, *TIMINGS])
    profile = settings.model.share.profile if settings.model else None
    return in_order.mapInArrow(functools.partial(extract_batches, settings=settings), schema, profile=profile)


def _pending(tables: Tables, lake: str) -> DataFrame:
    return pending_images(tables.read(IMAGES).where(F.col("lake") == lake), tables.read(FEATURES))


def _in_slices(tables: Tables, chosen: DataFrame) -> DataFrame:
    """Written down in the order of ids, so that a slice reads its own part only, and keeps what it was cut from."""
    return tables.stage("chosen", chosen.orderBy("image_id"))


def _read_slices(run: Run, settings: TaskSettings, guard: _RejectGuard, chosen: DataFrame, n_chosen: int) -> None:
    """Read the `n_chosen` images and append their rows, a slice at a time."""
    tables = run.tables
    bounds = slice_bounds(chosen, n_chosen, settings.extract.slice_images)
    n_slice = -(-n_chosen // max(1, len(bounds)))
    progress, clocks = Progress("extract", "images", n_chosen), ModelClocks(run)
    for i, (low, high) in enumerate(bounds):
        part = chosen.where(F.col("image_id").between(low, high))
        with progress.watching(tables.spark, done_before=i * n_slice, n_under_way=n_slice):
            rows = clocks.watch(extract_features(part, settings, n_slice), **guard.sums())
            tables.append(FEATURES, rows.select(FEATURES.column_names))
        guard.add(clocks.count())
        progress.show(min(n_chosen, (i + 1) * n_slice), force=True)
        guard.check()


def _copy_equal_etags(tables: Tables, run_id: str) -> int:
    """Give pending images the row of an image of equal size and ETag that was read; returns how many got one."""
    images, features = tables.read(IMAGES), tables.read(FEATURES)
    pending = pending_images(images.where(HAS_ETAG), features)
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


def _forget(tables: Tables, backlog: Backlog) -> None:
    for why, n in backlog.forgotten.most_common():
        log.info("extract: %s rows forgotten: %s", f"{n:,}", why)
    if any("made by version" in why for why in backlog.forgotten):
        log.info("extract: keep such rows with --set extract.on_version_change=keep")
    if backlog.forgotten:
        ids = backlog.forgotten_ids(tables.read(IMAGES), tables.read(FEATURES))
        tables.delete(FEATURES, tables.stage("forgotten", ids))


class _RejectGuard:
    """Stops a run that rejects too much: a wrong lake, a missing decoder, a key that lost its rights."""

    def __init__(self, run: Run, max_share: float, backlog: Backlog) -> None:
        self._run, self._max_share = run, max_share
        self._n_read, self._n_rejected = backlog.n_read_in_run, backlog.n_rejected_in_run

    @staticmethod
    def sums() -> dict[str, Column]:
        """What `add` takes, of the rows of a slice."""
        return {"n_rows": F.count("*"), "n_rejected": F.count_if(F.col("status") == "rejected")}

    def add(self, seen: dict[str, float] | None) -> None:
        """Count the rows of a slice; None where this Spark did not say them."""
        if seen is None:
            self._count()
        else:
            self._n_read += int(seen["n_rows"])
            self._n_rejected += int(seen["n_rejected"])

    def check(self) -> None:
        """Raise GuardError when too many of the images that this run read were rejected."""
        if not self._is_too_much():
            return
        reasons = self._count()  # metrics of tasks that Spark did twice may count twice: the table decides
        if self._is_too_much():
            raise GuardError(
                f"{self._n_rejected:,} of {self._n_read:,} images read were rejected ({reasons}), more than "
                f"extract.max_reject_share ({self._max_share:g}); look at the view quarantine, or allow it with "
                "--set extract.max_reject_share=1"
            )

    def _is_too_much(self) -> bool:
        return self._n_read >= _MIN_IMAGES_FOR_GUARD and self._n_rejected > self._max_share * self._n_read

    def _count(self) -> str:
        """From the table; returns the reasons, in words."""
        read = self._run.tables.read(FEATURES).where(F.col("run_id") == self._run.run_id)
        counts = read.groupBy("reject_reason").count().orderBy(F.desc("count")).collect()
        self._n_read = sum(r["count"] for r in counts)
        self._n_rejected = sum(r["count"] for r in counts if r["reject_reason"] is not None)
        return ", ".join(f"{r['reject_reason']} {r['count']:,}" for r in counts if r["reject_reason"])


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
