"""Draws the sample of a plan: rows of `features` where there are enough, else images, each read once and timed."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.commands.plan.speed import load_model, stage_profile
from dedup_spark.config import Config
from dedup_spark.sources.base import ADDRESS_COLUMNS
from dedup_spark.spark.draw import seeded_hash
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.extract.task import extract_batches
from dedup_spark.stages.few_images import rows_of_few
from dedup_spark.stages.reading.inputs import inputs_of_tasks, is_read_by_spark, planned_for_inputs
from dedup_spark.stages.reading.model_choice import require_one_model
from dedup_spark.stages.reading.read_ahead import TaskSettings
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.vocabulary import FeatureStatus

_KEPT = FEATURES.schema.only(
    "image_id", "status", "reject_reason", "content_hash", "pixel_hash", "model_id", "embedding"
)
_READ = _KEPT + Columns("thumbnail binary, busy_seconds double")
_IMAGES_PER_TASK = 25
"""Enough images to make the start of a task negligible, few enough for a few hundred images to use many cores."""


@dataclass(frozen=True)
class Sample:
    """Rows drawn at random from all images, in random order.

    `busy_seconds`: core-seconds that reading them took; None where they were rows of `features`. `stored` holds these
    rows, with their thumbnails: `features`, or what was read.
    """

    rows: pa.Table
    busy_seconds: float | None
    stored: DataFrame

    @property
    def was_read(self) -> bool:
        return self.busy_seconds is not None

    def ok(self) -> pa.Table:
        return self.rows.filter(pc.equal(self.rows["status"], FeatureStatus.OK))

    def thumbnails(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        """Of a few images; those without one are left out."""
        ids = local_relation(self.stored.sparkSession, [(i,) for i in image_ids], FEATURES.schema.only("image_id"))
        rows = self.stored.join(F.broadcast(ids), "image_id") if self.was_read else rows_of_few(self.stored, ids)
        found = rows.select("image_id", "thumbnail").collect()
        return {row["image_id"]: bytes(row["thumbnail"]) for row in found if row["thumbnail"]}


def of_features(run: Run, config: Config, settings: TaskSettings, held: list[str]) -> Sample | None:
    """A sample of `features`, where it holds at least plan.sample_images rows, all of the model asked for."""
    here = run.tables.read(IMAGES).where(F.col("lake") == run.lake).select("image_id")
    features = run.tables.read(FEATURES).join(here, "image_id", "left_semi")
    if features.limit(config.plan.sample_images).count() < config.plan.sample_images:
        return None
    require_one_model(held, settings.model_id, run)
    drawn = features.orderBy(seeded_hash(config.plan.seed), "image_id").limit(config.plan.max_feature_images)
    return Sample(drawn.select(*_KEPT).toArrow(), None, run.tables.read(FEATURES))


def of_images(run: Run, config: Config, settings: TaskSettings, images: DataFrame) -> Sample:
    """Draw plan.sample_images of the images and read each once."""
    drawn = run.tables.stage(
        "drawn", images.orderBy(seeded_hash(config.plan.seed), "image_id").limit(config.plan.sample_images)
    )
    with planned_for_inputs(run.tables.spark, settings):
        rows = _inputs(drawn, settings).mapInArrow(
            functools.partial(_timed_batches, settings=settings), _READ.ddl, profile=stage_profile(settings)
        )
        read = run.tables.stage("sample", rows)
    table = read.drop("thumbnail").orderBy(seeded_hash(config.plan.seed), "image_id").toArrow()
    return Sample(table, pc.sum(table["busy_seconds"]).as_py() or 0.0, read)


def _inputs(drawn: DataFrame, settings: TaskSettings) -> DataFrame:
    """What the tasks read: few images each, so that all cores take part."""
    n_images = drawn.count()
    if is_read_by_spark(settings):
        return inputs_of_tasks(drawn, settings, n_images)
    n_tasks = max(1, min(drawn.sparkSession.sparkContext.defaultParallelism, n_images // _IMAGES_PER_TASK))
    address = drawn.select("image_id", "object_version", *ADDRESS_COLUMNS)
    return address.repartition(n_tasks, "image_id").sortWithinPartitions("image_id")


def _timed_batches(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[pa.RecordBatch]:
    """On executors: the rows that extract makes; its rows share the seconds of a batch."""
    load_model(settings)
    begin = time.monotonic()
    for batch in extract_batches(batches, settings):
        busy = pa.array(np.full(len(batch), (time.monotonic() - begin) / max(1, len(batch))))
        columns = [batch.column(name) for name in (*_KEPT.names, "thumbnail")]
        yield pa.RecordBatch.from_arrays([*columns, busy], schema=_READ.arrow)
        begin = time.monotonic()
