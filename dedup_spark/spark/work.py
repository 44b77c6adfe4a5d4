"""What Spark did for a step: tasks, their time, bytes read, written, shuffled and spilled, and how uneven tasks were.

By the store of the driver's own user interface, which keeps the last 1,000 stages (spark.ui.retainedStages) whether the
interface is on or not. Asking it costs about a millisecond a stage, at the end of a step. Steps of other threads of the
same session at the same time are counted too.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_MOST_STAGES = 1_000
"""As many as the store keeps; a `cluster` of a million images has more than 500."""
_BYTES = {"read_bytes": "inputBytes", "written_bytes": "outputBytes", "shuffled_bytes": "shuffleWriteBytes",
          "spilled_bytes": "diskBytesSpilled"}  # fmt: skip
_MIN_TASKS = 4
"""Of fewer tasks one is not uneven."""


class Work:
    """What Spark does from now on."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._last = self._newest()

    def done(self) -> dict[str, float]:
        """The sums over the stages that began since, of the last 1,000; empty where this Spark does not tell.

        `skew` is the longest task of the stage that took most time, divided by the median; None there means that the
        stage had few tasks.
        """
        try:
            stages = list(self._stages())
            if not stages:
                return {}
            found = {"stages": len(stages), "tasks": sum(stage.numCompleteTasks() for stage in stages)}
            found["task_seconds"] = round(sum(stage.executorRunTime() for stage in stages) / 1000, 3)
            found |= {name: sum(getattr(stage, of_spark)() for stage in stages) for name, of_spark in _BYTES.items()}
            skew = self._skew(max(stages, key=lambda stage: stage.executorRunTime()))
            return found | ({} if skew is None else {"skew": skew})
        except (Py4JError, AttributeError, TypeError) as e:  # another Spark, or one that is ending
            log.debug("the work of Spark cannot be told: %s", e)
            return {}

    def _newest(self) -> int:
        try:
            return next((stage.stageId() for stage in self._all()), -1)
        except (Py4JError, AttributeError, TypeError):
            return -1

    def _stages(self) -> Iterator[Any]:
        newer = itertools.takewhile(lambda stage: stage.stageId() > self._last, self._all())
        return itertools.islice(newer, _MOST_STAGES)

    def _all(self) -> Iterator[Any]:
        """Stages, the newest first, as the store has them: each is fetched from Java when it is asked for."""
        none = self._context._jvm.java.util.ArrayList()
        no_quantiles = self._context._gateway.new_array(self._context._jvm.double, 0)
        stages = self._store().stageList(none, False, False, no_quantiles, none)
        return (stages.apply(i) for i in range(stages.size()))

    def _skew(self, stage: Any) -> float | None:
        if stage.numCompleteTasks() < _MIN_TASKS:
            return None
        quantiles = self._context._gateway.new_array(self._context._jvm.double, 2)
        quantiles[0], quantiles[1] = 0.5, 1.0
        summary = self._store().taskSummary(stage.stageId(), stage.attemptId(), quantiles)
        if not summary.isDefined():
            return None
        times = summary.get().executorRunTime()
        median, longest = times.apply(0), times.apply(1)
        return round(longest / median, 2) if median else None

    def _store(self) -> Any:
        return self._context._jsc.sc().statusStore()

    @property
    def _context(self) -> Any:
        return self._spark.sparkContext
