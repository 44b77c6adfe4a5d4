"""NVIDIA's RAPIDS accelerator for Spark: whether it plans the queries of a session, and queries that do without it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from dedup_spark.spark.session import putting_back

_PLUGIN = "com.nvidia.spark.SQLPlugin"
_ENABLED = "spark.rapids.sql.enabled"
_BLOCKS = "spark.dedup_spark.unaccelerated"
"""Setting of ours: how many blocks of `unaccelerated` the session is in."""

_lock = threading.Lock()


def is_accelerated(spark: SparkSession) -> bool:
    """Whether the accelerator plans the queries of this session, also where it only explains what it would do."""
    plugins = (spark.conf.get("spark.plugins", "") or "").split(",")
    return _PLUGIN in map(str.strip, plugins) and str(spark.conf.get(_ENABLED, "true")).lower() == "true"


@contextmanager
def unaccelerated(spark: SparkSession) -> Iterator[None]:
    """Spark alone plans the queries of the block, which the accelerator does not bear.

    The switch is the session's: queries that other threads start meanwhile do without the accelerator too, and it is
    put back when the last of several blocks ends. Where the accelerator is not on, nothing is set.
    """
    with _lock:
        n_before = int(spark.conf.get(_BLOCKS, "0") or 0)
        switches = n_before > 0 or is_accelerated(spark)
        if switches:
            spark.conf.set(_BLOCKS, str(n_before + 1))
            spark.conf.set(_ENABLED, "false")
    with putting_back(lambda: _leave(spark) if switches else None):
        yield


def _leave(spark: SparkSession) -> None:
    with _lock:
        n_left = int(str(spark.conf.get(_BLOCKS))) - 1
        spark.conf.set(_BLOCKS, str(n_left))
        if not n_left:
            spark.conf.unset(_BLOCKS)
            spark.conf.set(_ENABLED, "true")
