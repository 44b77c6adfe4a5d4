"""Extract: read each object once; that one pass gives signatures, facts, thumbnail and embedding.

Reads: images, features
Writes: features
Kernels: comparing, decoding, features, given_vectors
Scale: it reads the bytes of the lake once, over the network; one decode per content of a task and one forward pass per
distinct model input that a worker meets; it writes about 12 KB per row.

Work is done in slices (`extract.slice_images`), each one atomic append: a killed run loses at most a slice. An image
with a row is never read again, whichever run wrote the row. What tasks do is in `task.py`.

With `extract.embedding=table` no model runs: vectors of a table of the user travel with the addresses into the tasks,
and images that were read before their vector was there get it without being read again.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.models import registry as models
from dedup_spark.sources.patience import Patience
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.progress import Progress
from dedup_spark.spark.rapids import unaccelerated
from dedup_spark.stages.calibration import announce_stop
from dedup_spark.stages.extract.backlog import Backlog, kinds_of_rows, models_of, pending_images
from dedup_spark.stages.extract.checks import RejectGuard, require_conservation
from dedup_spark.stages.extract.etags import copies_of_equals, first_of_equal_etags, trusted_buckets
from dedup_spark.stages.extract.task import READ, extract_batches
from dedup_spark.stages.extract.versions import versions_in_use
from dedup_spark.stages.reading.formats_here import say_undecodable
from dedup_spark.stages.reading.given_vectors import (
    Given,
    give_late,
    give_vectors,
    images_without_vector,
    is_given,
    settings_of_given,
)
from dedup_spark.stages.reading.given_vectors import finish as finish_given
from dedup_spark.stages.reading.inputs import (
    explained,
    inputs_of_tasks,
    inputs_to_try_again,
    is_read_by_spark,
    planned_for_inputs,
    rejected_inputs,
)
from dedup_spark.stages.reading.model_choice import (
    ModelClocks,
    choose_model,
    require_one_model,
    settings_of_tasks,
)
from dedup_spark.stages.reading.not_given import images_not_given, say_not_given
from dedup_spark.stages.reading.read_ahead import UNAVAILABLE, TaskSettings
from dedup_spark.stages.reading.slices import images_per_slice, reading_key, slice_bounds
from dedup_spark.store.compaction import compacting
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Delete rows of what is gone, changed or outdated; read the images without a row, slice by slice."""
    tables, lake = run.tables, open_source(run.lake, config.inventory).root
    kinds = kinds_of_rows(tables.read(IMAGES), tables.rows_now(FEATURES), lake, run.run_id)
    held = models_of(kinds)
    settings = task_settings(spark, config, run, held)
    require_one_model(held, settings.model_id, run)
    announce_stop(config, settings.model_id)
    backlog = Backlog(kinds, settings, versions_in_use(spark, kinds, settings.signature))
    if backlog.n_pending and tables.fence(FEATURES):  # a run before this one may have added rows until now
        kinds = kinds_of_rows(tables.read(IMAGES), tables.read(FEATURES), lake, run.run_id)
        backlog = Backlog(kinds, settings, versions_in_use(spark, kinds, settings.signature))
    backlog.versions.require_consent()
    _forget(tables, backlog)
    backlog.versions.say_what_stays()
    say_undecodable(spark, backlog.pending_suffixes)
    not_given = images_not_given(tables, lake) if backlog.n_not_given else None
    guard = RejectGuard(run, config.extract, backlog)
    guard.check()  # also when a stopped run had read them all

    given = _vectors_of_table(run, settings, lake)
    clocks = ModelClocks(run)
    n_copied = _read_pending(run, settings, clocks, guard, backlog, given)
    if not_given is not None:
        _ask_again(run, settings, clocks, not_given, backlog.n_not_given)
    if given:
        give_late(run, given)
    finish_given(run, settings)
    tables.drop_staged()

    totals = require_conservation(tables, lake, run.run_id)
    n_read = backlog.n_pending - n_copied
    run.count(read=n_read, copied=n_copied, forgotten=sum(backlog.forgotten.values()), **totals)
    say_not_given(tables, lake, totals, config.extract.max_unavailable_share)


def task_settings(spark: SparkSession, config: Config, run: Run, held: list[str]) -> TaskSettings:
    """Decide on the driver what all tasks must share; `held` are the model_ids in features."""
    if is_given(config):
        return settings_of_given(spark, config, run)
    model = choose_model(spark, config.extract, held) if config.extract.embedding != models.OFF else None
    return settings_of_tasks(spark, config, run, model)


def extract_features(images: DataFrame, settings: TaskSettings, n_images: int) -> DataFrame:
    """READ from rows of `images` (about `n_images`); lazy. One container is read by one task."""
    inputs = inputs_of_tasks(images, settings, n_images)
    return settings.share.map_in_arrow(inputs, functools.partial(extract_batches, settings=settings), READ.ddl)


def _pending(tables: Tables, lake: str) -> DataFrame:
    return pending_images(tables.read(IMAGES).where(F.col("lake") == lake), tables.rows_now(FEATURES))


def _vectors_of_table(run: Run, settings: TaskSettings, lake: str) -> Given | None:
    """The vectors for the images of this lake that have none, where a table of the user gives them."""
    return give_vectors(run, settings, images_without_vector(run, lake)) if settings.given_model_id else None


def _read_pending(
    run: Run, settings: TaskSettings, clocks: ModelClocks, guard: RejectGuard, backlog: Backlog, given: Given | None
) -> int:
    """Read the images without a row, one of several equal objects; returns how many rows were copied."""
    tables, lake, n_left, n_copied = run.tables, settings.source.root, backlog.n_pending, 0
    buckets = _trusted_buckets(run, settings) if settings.extract.trust_etags and backlog.n_pending_with_etag else []
    if buckets:
        first = _in_slices(tables, first_of_equal_etags(_pending(tables, lake), buckets))
        n_first = first.count()
        _read_slices(run, settings, clocks, guard, first, n_first, given)
        n_copied = _copy_equals(tables, run.run_id, lake, buckets)
        n_left -= n_first + n_copied
    if n_left:
        rest = _pending(tables, lake)
        is_one_slice = n_left <= images_per_slice(tables.spark, settings.extract)
        in_order = rest.select("*", reading_key()) if is_one_slice else _in_slices(tables, rest)
        _read_slices(run, settings, clocks, guard, in_order, n_left, given)
    return n_copied


def _trusted_buckets(run: Run, settings: TaskSettings) -> list[str]:
    here = run.tables.read(IMAGES).where(F.col("lake") == settings.source.root)
    buckets = trusted_buckets(here, run.tables.read(FEATURES), settings.source)
    run.note(buckets_with_md5_etags=buckets)
    return buckets


def _in_slices(tables: Tables, chosen: DataFrame) -> DataFrame:
    """`chosen`, written in the order of reading, so that each slice reads only its own part of the same rows."""
    return tables.stage("chosen", chosen.select("*", reading_key()).orderBy("reading_key"))


def _read_slices(
    run: Run,
    settings: TaskSettings,
    clocks: ModelClocks,
    guard: RejectGuard,
    chosen: DataFrame,
    n_chosen: int,
    given: Given | None,
) -> None:
    """Read the `n_chosen` images and append their rows, with the vectors `given`, one slice after another."""
    tables = run.tables
    bounds = slice_bounds(chosen, n_chosen, images_per_slice(tables.spark, settings.extract))
    n_slice = -(-n_chosen // max(1, len(bounds)))
    progress = Progress("extract", "images", n_chosen)
    with compacting(tables, FEATURES) as slice_is_written:
        for i, (low, high) in enumerate(bounds):
            part = chosen.where(F.col("reading_key").between(low, high))
            if given and not is_read_by_spark(settings):  # else they come late, as Spark broadcasts the rows of a slice
                part = given.within(low, high).beside(part)
            appended = _Appended(tables, clocks, low, high)
            with progress.watching(tables.spark, done_before=i * n_slice, n_under_way=n_slice):
                _write_each(tables, settings, part, n_slice, appended)
            guard.add(appended.seen, low, high)
            progress.show(min(n_chosen, (i + 1) * n_slice), force=True)
            guard.check()
            slice_is_written()


class _Appended:
    """Appends rows of a slice to features; `seen` are the aggregates over all of them that the guard takes."""

    def __init__(self, tables: Tables, clocks: ModelClocks, low: int, high: int) -> None:
        self._tables, self._clocks, self._of_slice = tables, clocks, F.col("reading_key").between(low, high)
        self.seen: dict[str, float] | None = dict.fromkeys(RejectGuard.sums(), 0.0)

    def __call__(self, rows: DataFrame) -> DataFrame:
        watched = self._clocks.watch(rows, **RejectGuard.sums())
        self._tables.append(FEATURES, watched.select(FEATURES.column_names))
        seen = self._clocks.count()
        self.seen = {name: n + seen[name] for name, n in self.seen.items()} if seen and self.seen else None
        return self._tables.read(FEATURES).where(self._of_slice)


def _write_each(
    tables: Tables, settings: TaskSettings, part: DataFrame, n_images: int, write: Callable[[DataFrame], DataFrame]
) -> None:
    """Read the images of a slice; each has one row (READ) in what `write` gets. It returns what it has written.

    What Spark does not give is asked for: an answer about the file is its row, and what only failed Spark reads again,
    for `extract.fetch_patience_seconds`, as Python's readers would.
    """
    spark, patience = tables.spark, Patience(settings.extract.fetch_patience_seconds)
    while True:
        with unaccelerated(spark), planned_for_inputs(spark, settings):
            written = write(extract_features(part, settings, n_images))
        if not is_read_by_spark(settings):
            return
        began, written = time.monotonic(), written.select("image_id")
        absent = explained(tables.stage("absent", part.join(written, "image_id", "left_anti")), settings)
        passing = [row for row in absent if row[-2] in UNAVAILABLE]
        pause = patience.pause_after(OSError(), began, time.monotonic()) if passing else None
        final = absent if pause is None else [row for row in absent if row[-2] not in UNAVAILABLE]
        if final:
            with unaccelerated(spark):
                write(_rejected(spark, settings, final))
        if pause is None:
            return
        log.info("extract: Spark reads %s of them again in %.1f s", f"{len(passing):,}", pause)
        time.sleep(pause)
        part, n_images = inputs_to_try_again(spark, passing), len(passing)


def _rejected(spark: SparkSession, settings: TaskSettings, absent: list[tuple[Any, ...]]) -> DataFrame:
    """READ of images for which there are no bytes, from what `explained` gave."""
    reading = functools.partial(extract_batches, settings=dataclasses.replace(settings, model=None))
    return rejected_inputs(spark, absent).mapInArrow(reading, READ.ddl)


def _ask_again(run: Run, settings: TaskSettings, clocks: ModelClocks, not_given: DataFrame, n_images: int) -> None:
    """Read these images again. Only rows with another outcome change, so that the later steps can keep their work."""
    tables, most = run.tables, images_per_slice(run.tables.spark, settings.extract)
    log.info("extract: %s images that the store did not give before are tried again", f"{n_images:,}")
    for low, high in slice_bounds(not_given, n_images, most):
        part = not_given.where(F.col("reading_key").between(low, high))
        _write_each(tables, settings, part, min(n_images, most), functools.partial(_change, tables, clocks, part))


def _change(tables: Tables, clocks: ModelClocks, part: DataFrame, rows: DataFrame) -> DataFrame:
    """Put the rows into features whose outcome is another than `before` in `part`; returns all rows."""
    rows = tables.stage("asked_again", clocks.watch(rows))
    clocks.count()
    changed = rows.join(part.select("image_id", "before"), "image_id").where(
        ~F.col("before").eqNullSafe(F.col("reject_reason"))
    )
    if not changed.isEmpty():
        tables.upsert(FEATURES, changed.select(FEATURES.column_names))
    return rows


def _copy_equals(tables: Tables, run_id: str, lake: str, buckets: list[str]) -> int:
    """Give pending images the row of an equal image that was read; returns how many got one."""
    here = tables.read(IMAGES).where(F.col("lake") == lake)
    copies = copies_of_equals(_pending(tables, lake), here, tables.read(FEATURES), buckets, run_id)
    rows = tables.stage("copies", copies.select(FEATURES.column_names))
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
