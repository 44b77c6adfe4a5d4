"""Aggregates over rows while they are written, so that they cost no second pass.

Rows that a task writes itself are observed once, however often the task is repeated. Where a shuffle follows (optimised
writes of Delta), a task that is repeated is observed twice: such numbers are for the log of runs only.

Where NVIDIA's RAPIDS accelerator plans the queries, it fails on plans that observe (seen with 26.08.1). There rows are
written as they are, by the accelerator where it can, and aggregated by a query over the columns that were written. Rows
whose aggregates are not in what is written are written in a block of `unaccelerated`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from pyspark.sql import Column, DataFrame, Observation

from dedup_spark.spark.rapids import is_accelerated
from dedup_spark.store.tables import Tables

log = logging.getLogger(__name__)

_SECONDS_TO_OBSERVE = 10.0  # the metrics come with the end of the query, by a listener of Spark's


class Observed:
    """The aggregates of one write."""

    def __init__(self) -> None:
        self._observation: Observation | None = None
        self._aggregates: list[Column] = []

    def watch(self, rows: DataFrame, **aggregates: Column) -> DataFrame:
        """`rows`, to be written next, once; they are not observed where the accelerator plans the write."""
        self._aggregates = [column.alias(name) for name, column in aggregates.items()]
        self._observation = None if is_accelerated(rows.sparkSession) else Observation()
        return rows.observe(self._observation, *self._aggregates) if self._observation else rows

    def get(self) -> dict[str, Any] | None:
        """After the write, the values by name; None where they were not observed, or this Spark does not report them.

        `Observation.get` alone would wait for ever.
        """
        observation, found = self._observation, list[dict[str, Any]]()
        if observation is None:
            return None
        asking = threading.Thread(target=lambda: found.append(dict(observation.get)), daemon=True, name="observed")
        asking.start()
        asking.join(_SECONDS_TO_OBSERVE)
        return found[0] if found else None

    def get_or_query(self, written: Callable[[], DataFrame]) -> dict[str, Any]:
        """As `get`; where it gives None, by a query over what was written, read only then."""
        seen = self.get()
        if seen is None:
            if self._observation:
                log.warning("this Spark reported no observed metrics of a write: its rows are counted by another query")
            row = written().agg(*self._aggregates).first()
            assert row is not None
            seen = row.asDict()
        return seen


def stage_with(tables: Tables, name: str, rows: DataFrame, **aggregates: Column) -> tuple[DataFrame, dict[str, Any]]:
    """`Tables.stage`, and aggregates over the rows by name."""
    observed = Observed()
    staged = tables.stage(name, observed.watch(rows, **aggregates))
    return staged, observed.get_or_query(lambda: staged)
