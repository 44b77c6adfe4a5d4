"""Progress lines of long steps, also from inside one Spark job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from dedup_spark import console
from dedup_spark.step_figures import clock

log = logging.getLogger(__name__)


class Progress:
    """Lines such as `extract: 1,240/5,000 images, 61.0/s, 1m02s left`, at most one every `every_seconds`.

    By default that is one every five seconds; on a terminal, where the line is written over, one a second.

    `done_before`: what an earlier run has done; it counts as done, and not for the rate of this one.
    """

    def __init__(
        self, step: str, unit: str, total: int, every_seconds: float | None = None, *, done_before: int = 0
    ) -> None:
        self._step, self._unit, self._total = step, unit, total
        self._every = every_seconds or (1.0 if console.shows_progress() else 5.0)
        self._begin = self._last = time.monotonic()
        self._most = self._done_before = done_before

    @contextmanager
    def watching(
        self,
        spark: SparkSession,
        done_before: int,
        n_under_way: int,
        check: Callable[[], None] | None = None,
        is_counted: Callable[[int], bool] | None = None,
    ) -> Iterator[None]:
        """Show progress inside one Spark job, from the share of its running stage's tasks that have ended.

        With `is_counted` only stages count whose number of tasks it takes, where other stages run before: nothing is
        shown until one begins, and with the next one the line begins anew. `check` is called as often, on a thread of
        its own.
        """
        ended = threading.Event()

        def watch() -> None:
            tracker = spark.sparkContext.statusTracker()
            counted = None
            while not ended.wait(self._every):
                if check is not None:
                    check()
                stages = [s for s in map(tracker.getStageInfo, tracker.getActiveStageIds()) if s]
                if is_counted is not None:
                    stages = sorted((s for s in stages if is_counted(s.numTasks)), key=lambda s: s.stageId)[-1:]
                    if not stages:
                        continue
                    if stages[0].stageId != counted:
                        counted = stages[0].stageId
                        self._begin_anew()
                tasks = max(((s.numTasks, s.numCompletedTasks) for s in stages), default=(1, 0))
                self.show(done_before + n_under_way * tasks[1] // tasks[0])

        watcher = threading.Thread(target=watch, daemon=True, name="progress")
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _begin_anew(self) -> None:
        """A stage was seen that had not begun at the last look."""
        self._begin, self._most = time.monotonic() - self._every / 2, self._done_before

    def show(self, done: int, *, force: bool = False) -> None:
        done = self._most = max(self._most, done)  # a later stage of the same write begins at 0
        now = time.monotonic()
        if not force and now - self._last < self._every:
            return
        self._last = now
        rate = (done - self._done_before) / max(now - self._begin, 1e-9)
        left = f", {clock((self._total - done) / rate)} left" if rate and done < self._total else ""
        share = {"share": done / self._total if self._total else 1.0}
        figures = (self._step, f"{done:,}", f"{self._total:,}", self._unit, rate, left)
        log.info("%s: %s/%s %s, %.1f/s%s", *figures, extra=share)
