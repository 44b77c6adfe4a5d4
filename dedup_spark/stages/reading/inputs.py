"""What the tasks of a step get: addresses, whose bytes they fetch, or bytes that Spark has read (extract.bytes_from).

Both ways end in the same code: `read_ahead.fetch_row` takes the bytes of a row from where they are.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from dedup_spark.columns import Columns
from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses, spark_bytes
from dedup_spark.sources.base import ADDRESS_COLUMNS
from dedup_spark.sources.binary_file import BinaryFileSource
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.reading.read_ahead import TaskSettings
from dedup_spark.stages.reading.slices import reading_key, spread_addresses
from dedup_spark.store.schema import IMAGES

log = logging.getLogger(__name__)

_ADDRESSED = IMAGES.schema.only("image_id", "object_version", *ADDRESS_COLUMNS) + Columns("reading_key bigint")
_EXPLAINED = _ADDRESSED + Columns("reject_reason string, reject_message string")


def is_read_by_spark(settings: TaskSettings) -> bool:
    """Whether Spark reads the bytes; `extract.bytes_from=auto` lets it where Spark lists a lake in a store.

    A source that makes images of those of a lake, as calibrate has one, is read by Python in any case.
    """
    chosen, source = settings.extract.bytes_from, settings.source
    if not isinstance(source, BinaryFileSource):
        return False
    return chosen == "spark" or (chosen == "auto" and addresses.is_remote(source.root))


def planned_for_inputs(spark: SparkSession, settings: TaskSettings) -> AbstractContextManager[None]:
    """Inside it `inputs_of_tasks` is made and used: settings of the session that its scan needs are set so long.

    Raises:
        ConfigError: Python is asked to read a lake for whose addresses it has no package.
    """
    if is_read_by_spark(settings):
        return spark_bytes.scan_settings(spark, settings.extract)
    if isinstance(settings.source, BinaryFileSource):  # other sources were listed by Python
        _require_python_knows(settings)
    return nullcontext()


def _require_python_knows(settings: TaskSettings) -> None:
    root = settings.source.root
    try:
        addresses.open_for_reading(addresses.split_store(root)[0] if addresses.is_remote(root) else "file://")
    except (ImportError, ValueError) as e:
        raise ConfigError(f"extract.bytes_from={settings.extract.bytes_from}: {e}") from e


def inputs_of_tasks(images: DataFrame, settings: TaskSettings, n_images: int) -> DataFrame:
    """image_id, object_version and the address of about `n_images` rows, in tasks of extract.task_images for each of
    their cores; lazy but for a count.

    Where Spark reads them also `content`, and no row for an image that Spark does not give.
    """
    if not is_read_by_spark(settings):
        return spread_addresses(images, settings.extract.task_images, n_images, settings.share.cpus)
    addressed = images.select("image_id", "object_version", *ADDRESS_COLUMNS, reading_key())
    return spark_bytes.with_content(addressed, settings.source.root, settings.extract.max_object_bytes)


def explained(absent: DataFrame, settings: TaskSettings) -> list[tuple[Any, ...]]:
    """The images that Spark did not give, with `reject_reason` and `reject_message` last: the driver asks for each."""
    spark = absent.sparkSession
    rows = [tuple(row) for row in absent.select(*_ADDRESSED.names).collect()]
    if rows:
        log.info("extract: Spark did not give %s images; asking for each why", f"{len(rows):,}")
    place, size = (_ADDRESSED.names.index(name) for name in ("uri", "size_bytes"))
    reasons = spark_bytes.why_absent(spark, ((row[place], row[size]) for row in rows), settings.extract)
    return [(*row, *why) for row, why in zip(rows, reasons, strict=True)]


def rejected_inputs(spark: SparkSession, explained: list[tuple[Any, ...]]) -> DataFrame:
    """What tasks get of the images that are not given: their addresses, with the reason in place of the bytes."""
    return local_relation(spark, explained, _EXPLAINED)


def inputs_to_try_again(spark: SparkSession, explained: list[tuple[Any, ...]]) -> DataFrame:
    """The addresses of these images, without the reason, as `inputs_of_tasks` takes them."""
    return local_relation(spark, [row[:-2] for row in explained], _ADDRESSED)
