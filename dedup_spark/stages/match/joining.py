"""The join of match over its work items, as one Spark job or as several waves: progress, guard, and what it found."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import TableError
from dedup_spark.spark.gpus import TaskShare
from dedup_spark.spark.progress import Progress
from dedup_spark.stages.match import totals
from dedup_spark.stages.match.engine_choice import Choice
from dedup_spark.stages.match.guards import PairGuard
from dedup_spark.stages.match.neighbours import JOINED_PAIR
from dedup_spark.stages.match.task import JOINED, JoinSettings, join_items
from dedup_spark.stages.match.totals import Totals
from dedup_spark.stages.match.waves import Waves
from dedup_spark.stages.match.work_items import WorkItems, n_tasks
from dedup_spark.store.observed import stage_with
from dedup_spark.store.runs import Run

log = logging.getLogger(__name__)

_WAVE_SECONDS = 90.0
"""At the end of a wave cores wait for its last task, some percent of so long; half of it is lost, on average, where a
match is killed."""
_ITEMS_PER_SLOT = 2  # a wave of fewer would leave cores idle
_MOST_CHANGE = 4.0  # of the size, from a wave to the next: one that met a pause must not decide all that follow


class Join:
    """The join of one match.

    Args:
        chosen: The engine with its predicted cost, by which waves and tasks are cut.
        share: What each task gets.
    """

    def __init__(self, run: Run, items: WorkItems, chosen: Choice, settings: JoinSettings, share: TaskShare) -> None:
        self._run, self._items, self._chosen = run, items, chosen
        self._settings, self._share = settings, share
        self._n_found = run.tables.spark.sparkContext.accumulator(0)

    def find(self, waves: Waves, guard: PairGuard) -> tuple[DataFrame, Totals]:
        """Pairs (JOINED_PAIR, engine) of all items, and their totals.

        The job is stopped as soon as it finds too many pairs, and then gives none. Raises GuardError.
        """
        begun, before = time.monotonic(), waves.totals["n_items"]
        if waves.choice is None and self._chosen.seconds <= _WAVE_SECONDS:
            joined, found = self._at_once(guard)
        else:
            joined, found = self._in_waves(waves, guard)
        seconds, n_joined = time.monotonic() - begun, found["n_items"] - before
        self._run.note(join={"seconds": round(seconds, 3), "items": n_joined, "tasks_at_once": self._chosen.slots})
        guard.check_found(found["n_near"], found["is_cut_off"])
        if found["n_items"] != self._items.n_items:
            raise TableError(
                f"match: {found['n_items']:,} of {self._items.n_items:,} work items left their mark, so pairs may be "
                "missing or be there twice; nothing was written. Do it again with the same command"
            )
        pairs = joined.where("image_id_a IS NOT NULL")
        return pairs.select(*JOINED_PAIR, F.lit(self._settings.engine).alias("engine")), found

    def _at_once(self, guard: PairGuard) -> tuple[DataFrame, Totals]:
        n = self._items.n_items
        aggregates = totals.aggregates(self._settings.min_similarity)
        with self._watched(Progress("match", "work items", n), guard, totals.NOTHING, 0, n):
            return stage_with(self._run.tables, "found", self._joined(0, self._items.n_numbers), **aggregates)

    def _in_waves(self, waves: Waves, guard: PairGuard) -> tuple[DataFrame, Totals]:
        waves.begin(self._chosen)
        n_done, n, end = waves.totals["n_items"], self._items.n_items, self._items.n_numbers
        if n_done:
            log.info("match: %s of %s work items were done before, by %s", f"{n_done:,}", f"{n:,}", self._chosen.engine)
        progress = Progress("match", "work items", n, done_before=n_done)
        size = self._first_size()
        while waves.done_below < end:
            low, begun = waves.done_below, time.monotonic()
            high = end if end - low < 1.5 * size else low + size
            guard.check_found(waves.totals["n_near"], waves.totals["is_cut_off"])
            with self._watched(progress, guard, waves.totals, waves.totals["n_items"], self._about(high - low)):
                waves.keep(self._joined(low, high), high)
            size = self._next_size(size, time.monotonic() - begun)
        return waves.found(), waves.totals

    def _first_size(self) -> int:
        """Numbers of a wave, by the prediction."""
        n_waves = math.ceil(self._chosen.seconds / _WAVE_SECONDS)
        return max(self._least, -(-self._items.n_numbers // max(1, n_waves)))

    def _next_size(self, size: int, seconds: float) -> int:
        """By what the last wave took, as predictions err."""
        change = min(_MOST_CHANGE, max(1 / _MOST_CHANGE, _WAVE_SECONDS / max(seconds, 1e-3)))
        return max(self._least, round(size * change))

    @property
    def _least(self) -> int:
        return _ITEMS_PER_SLOT * self._chosen.slots

    def _about(self, n_numbers: int) -> int:
        """Items with so many numbers."""
        return math.ceil(self._items.n_items * n_numbers / max(1, self._items.n_numbers))  # a night may ask nothing

    def _joined(self, low: int, high: int) -> DataFrame:
        """JOINED of the items with numbers from `low` to `high` - 1, in as many partitions as their work is worth."""
        core_seconds = self._chosen.core_seconds * (high - low) / max(1, self._items.n_numbers)
        items = self._items.between(low, high).coalesce(
            n_tasks(self._about(high - low), core_seconds, self._chosen.slots)
        )
        task = functools.partial(join_items, settings=self._settings, n_pairs=self._n_found)
        return self._share.map_in_arrow(items, task, JOINED.ddl)

    @contextmanager
    def _watched(
        self, progress: Progress, guard: PairGuard, before: Totals, n_done: int, n_under_way: int
    ) -> Iterator[None]:
        """Around one job: its progress, and its end where it finds too many pairs. `before`: of earlier waves."""
        spark, group = self._run.tables.spark, self._run.run_id
        allowed = guard.max_found - before["n_pairs"] + self._n_found.value

        def stop_if_exploded() -> None:
            if self._n_found.value > allowed:
                spark.sparkContext.cancelJobGroup(group)

        spark.sparkContext.setJobGroup(group, "match", interruptOnCancel=True)
        try:
            with progress.watching(spark, n_done, n_under_way, check=stop_if_exploded):
                yield
        except (PySparkException, Py4JJavaError) as e:
            if self._n_found.value > allowed:
                raise guard.error(f"more than {guard.max_found:,} pairs") from e
            raise
