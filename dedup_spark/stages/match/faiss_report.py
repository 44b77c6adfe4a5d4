"""What a person should know of the searches of faiss_ivf, said once on the driver and kept in runs.notes."""

from __future__ import annotations

import logging
from typing import Any

from dedup_spark.errors import ConfigError
from dedup_spark.stages.match.faiss_task import WAYS_OUT
from dedup_spark.store.runs import Run

log = logging.getLogger(__name__)


def say_whether_faiss_has_a_gpu(run: Run, unusable: str) -> None:
    """Before the join, `unusable` being why FAISS cannot use the GPU that tasks hold, or empty.

    Raises:
        ConfigError: match.engine=faiss_ivf, match.faiss_without_gpu=stop.
    """
    settings = run.config.match
    if not unusable:
        return
    if settings.engine == "faiss_ivf" and settings.faiss_without_gpu == "stop":
        raise ConfigError(f"match.faiss_without_gpu=stop: {unusable}; {WAYS_OUT}")
    level = logging.WARNING if settings.engine == "faiss_ivf" else logging.INFO
    log.log(level, "match: faiss_ivf searches on CPUs, though tasks hold GPUs: %s", unusable)
    run.note(faiss_unusable_on_gpu=unusable)


def say_what_searches_came_to(run: Run, totals: dict[str, Any]) -> None:
    """After the join: searches that were made twice, and those that left the GPU."""
    if totals["n_full_queries"]:
        log.info(
            "match: %s searches found more near images in a file than faiss_ivf lists (match.faiss_k), and were made "
            "again by CPUs for all of them",
            f"{totals['n_full_queries']:,}",
        )
        run.note(faiss_full_queries=totals["n_full_queries"])
    if totals["n_gave_up_gpu"]:
        log.warning(
            "match: faiss_ivf joined %s pairs of files on CPUs, though their tasks held a GPU: %s",
            f"{totals['n_gave_up_gpu']:,}", totals["gave_up_gpu"],
        )  # fmt: skip
        run.note(faiss_gave_up_gpu=totals["n_gave_up_gpu"], faiss_unusable_on_gpu=totals["gave_up_gpu"])
