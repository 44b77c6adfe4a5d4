"""Embeds images while others are decoded; on executors.

A thread of its own holds the model: while it embeds one batch, the caller collects the next one, so decoders and device
work at the same time. It measures how long the model worked and how long it waited for pixels.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_spark.models import registry as models
from dedup_spark.models.base import Embedder, ModelSettings
from dedup_spark.spark.gpus import TaskShare, device_of_task
from dedup_spark.stages.reading.reuse import Batch, Planner, in_batches

Row = dict[str, Any]
_BATCH_ON_CPU = 8
_BATCH_ON_GPU = 256
"""Images: about 0.1 s of ResNet-50 on a large GPU; the embedder splits a batch that memory does not hold."""


@dataclass(frozen=True)
class ModelTask:
    """The model of a step and what each of its tasks gets; plain values that are sent with each task."""

    model: ModelSettings
    share: TaskShare
    asked_batch_images: int = 0

    @property
    def batch_images(self) -> int:
        return self.asked_batch_images or (_BATCH_ON_GPU if self.share.gpus else _BATCH_ON_CPU)

    def load(self) -> Embedder:
        """On executors: the model on this task's device, loaded once per worker."""
        return models.load(self.model, device_of_task(self.share.gpus))

    def describe(self) -> str:
        """The model in words, for the log and for `runs`."""
        device = "CUDA" if self.share.gpus and self.model.runtime == "torch" else "the CPU"
        held = f"{self.share.gpus:g} GPU and " if self.share.gpus else ""
        return (
            f"model {self.model.model_id} by {self.model.runtime} on {device}, in tasks of {held}"
            f"{self.share.cpus} {'core' if self.share.cpus == 1 else 'cores'}"
        )


def with_embeddings(
    rows: Iterable[Row], batch_images: int, load: Callable[[], Embedder], planner: Planner
) -> Iterator[list[Row]]:
    """Groups of rows in the given order; rows with a `model_input` (of `planner`) get `embedding` and `model_id`.

    The first row of a group has the work of its batch: `forward_passes`, those that were saved, `model_seconds`, and
    `waited_seconds` for the pixels.
    """
    worker = _Worker(load)
    with ThreadPoolExecutor(1, thread_name_prefix="model") as thread:
        under_way: Future[list[Row]] | None = None
        thread.submit(worker.load)  # it loads while the first batch is decoded; if it fails, the first embed raises
        try:
            for batch in in_batches(rows, batch_images, planner):
                following = thread.submit(worker.embed, batch)
                if under_way is not None:
                    yield under_way.result()
                under_way = following
            if under_way is not None:
                yield under_way.result()
        finally:
            thread.shutdown(cancel_futures=True)


def in_groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Lists of `size` rows; the last one may be shorter."""
    iterator = iter(rows)
    while group := list(itertools.islice(iterator, size)):
        yield group


class _Worker:
    """What the thread of the model does."""

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load, self._idle_since = load, 0.0
        self._model: Embedder | None = None

    def load(self) -> Embedder:
        if self._model is None:
            self._model = self._load()
            self._idle_since = time.monotonic()
        return self._model

    def embed(self, batch: Batch) -> list[Row]:
        model = self.load()
        begin = time.monotonic()
        if batch.inputs:
            vectors = model.embed(np.stack([one.pixels for one in batch.inputs if one.pixels is not None])).astype(
                "<f2"
            )
            for one, vector in zip(batch.inputs, vectors, strict=True):
                one.vector, one.pixels = vector.tobytes(), None
        ready = [row for row in batch.rows if row.get("model_input") is not None]
        for row in ready:
            row |= {"embedding": row.pop("model_input").vector, "model_id": model.model_id}
        end = time.monotonic()
        batch.rows[0] |= {
            "model_seconds": end - begin,
            "waited_seconds": begin - self._idle_since,
            "forward_passes": len(batch.inputs),
            "forward_passes_saved": len(ready) - len(batch.inputs),
        }
        self._idle_since = end
        return batch.rows
