"""Fetches and decodes the objects of a task ahead of their consumer. Runs on executors.

A few threads fetch objects ahead of the decoder processes, and these work ahead of the model. At most
extract.inflight_bytes of encoded images are held, so a task's memory does not depend on how many it reads. A large
object is read when the executor has room for it: see `budget.py`.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dedup_spark.columns import Columns
from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import SignatureSettings, input_of_image
from dedup_spark.sources.base import Address, Source
from dedup_spark.sources.fetching import fetch_patiently, require_listed
from dedup_spark.spark.gpus import TaskShare
from dedup_spark.spark.python_memory import UNKNOWN, ExecutorMemory
from dedup_spark.stages.reading.admission import DoesNotFit
from dedup_spark.stages.reading.budget import COPIES, LARGE_OBJECT_BYTES
from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool
from dedup_spark.stages.reading.embedding import ModelTask
from dedup_spark.vocabulary import RejectReason

UNAVAILABLE = frozenset({RejectReason.STORE_UNAVAILABLE, RejectReason.EXPIRED_CREDENTIALS})
"""Reasons: the store gave no answer about the object, so every later run asks again."""
NOT_GIVEN = UNAVAILABLE | {RejectReason.ARCHIVED}
"""Reasons: the store did not give the bytes, so every later run asks again; for archived ones once per image."""
ASKED_AGAIN = NOT_GIVEN | {RejectReason.MISSING, RejectReason.OUTSIDE_LAKE}
"""Reasons that every later run asks again for while the image is listed: its folder may not have been mounted, or is
among `inventory.allowed_prefixes` by now."""
RETRIABLE = NOT_GIVEN | {
    RejectReason.MISSING, RejectReason.FORBIDDEN, RejectReason.OUTSIDE_LAKE, RejectReason.CHANGED_SINCE_LISTING,
    RejectReason.DECODER_CRASHED, RejectReason.DECODER_TIMEOUT,
}  # fmt: skip
"""Reasons that may pass with time; the others need other bytes, another setting or another decoder."""

TIMINGS = Columns("model_seconds double, waited_seconds double, forward_passes bigint, forward_passes_saved bigint")
"""Columns after those of FEATURES: how long the model worked on a batch and waited for it, how many images it saw,
and how many took the vector of another; in its first row."""

_MOST_BYTES = "most_bytes"
"""Key of a row whose object is not to be read where it has more."""
_UNKNOWN_SIZE_BYTES = 4 * 2**20
"""What an object of unknown size counts for among the bytes that are held."""


@dataclass(frozen=True)
class TaskSettings:
    """All that a task needs: plain values and a small source, which are sent with each task."""

    source: Source
    signature: SignatureSettings
    extract: ExtractSettings
    model: ModelTask | None
    run_id: str
    task_cpus: int
    given_model_id: str | None = None
    """Of the vectors that stand beside the addresses, where a table of the user gives them: then `model` is None."""
    executor: ExecutorMemory = UNKNOWN

    @property
    def share(self) -> TaskShare:
        """What each task gets: that of the model, else cores alone."""
        return self.model.share if self.model else TaskShare(self.task_cpus, 0.0)

    @property
    def model_id(self) -> str | None:
        return self.model.model.model_id if self.model else self.given_model_id


def read_ahead(
    batches: Iterable[pa.RecordBatch], settings: TaskSettings, read: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """`read(row)` of each row, in order, by threads ahead of the consumer; `size_bytes` limits what is held."""
    limits = settings.extract
    under_way: deque[tuple[int, Future[dict[str, Any]]]] = deque()
    bytes_under_way = 0
    n_threads, n_ahead = _ahead(settings)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="fetch") as pool:
        for row in itertools.chain.from_iterable(map(_rows_of, batches)):
            size = min(row["size_bytes"] or _UNKNOWN_SIZE_BYTES, limits.max_object_bytes)
            while under_way and (bytes_under_way + size > limits.inflight_bytes or len(under_way) >= n_ahead):
                done_size, first = under_way.popleft()
                bytes_under_way -= done_size
                yield first.result()
            under_way.append((size, pool.submit(_read_in_room, read, row, settings)))
            bytes_under_way += size
        for _, rest in under_way:
            yield rest.result()


class _IsLarge(Exception):
    """An object that nobody said to be large turned out to be so; its bytes were let go."""


def _read_in_room(
    read: Callable[[dict[str, Any]], dict[str, Any]], row: dict[str, Any], settings: TaskSettings
) -> dict[str, Any]:
    """`read(row)`; of a large object when there is room for its bytes here and in a decoder process."""
    size, most = row["size_bytes"], settings.extract.max_object_bytes
    if "content" in row or (size or 0) > most:
        return read(row)
    if (size or 0) < LARGE_OBJECT_BYTES:
        try:
            return read(row | {_MOST_BYTES: min(LARGE_OBJECT_BYTES, most)})
        except _IsLarge:
            if size is not None:
                return read(row | _other_size(size))
            size = most
    room = _limits(settings).rooms(settings.task_cpus).objects
    try:
        with room.admitted(COPIES * size):
            return read(row)
    except DoesNotFit:
        return read(row | _too_large(size, room.n_bytes // COPIES))


def _other_size(listed_bytes: int) -> dict[str, str]:
    return {
        "reject_reason": RejectReason.CHANGED_SINCE_LISTING,
        "reject_message": f"more than {LARGE_OBJECT_BYTES:,} bytes, listed with {listed_bytes:,}",
    }


def _too_large(size: int, room_bytes: int) -> dict[str, str]:
    text = f"up to {size:,} bytes; this executor has room for objects of {room_bytes:,}: raise "
    return {
        "reject_reason": RejectReason.TOO_LARGE,
        "reject_message": f"{text}spark.executor.memoryOverhead (or extract.python_memory_bytes)",
    }


def _rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows as Python values; only `content` stays in the batch until its image is read."""
    if "content" not in batch.schema.names:
        return batch.to_pylist()
    rows = batch.drop_columns(["content"]).to_pylist()
    return [row | {"content": content} for row, content in zip(rows, batch.column("content"), strict=True)]


def _ahead(settings: TaskSettings) -> tuple[int, int]:
    """The number of threads that fetch, and of images held: with a GPU enough for all decoders and the next batch."""
    n_threads = settings.extract.fetch_threads
    if settings.model is None or not settings.model.share.gpus:
        return n_threads, 2 * n_threads
    n_threads = max(n_threads, 2 * settings.task_cpus)
    return n_threads, max(2 * n_threads, settings.model.batch_images)


def fetch_row(row: dict[str, Any], settings: TaskSettings) -> tuple[bytes, int]:
    """The bytes of the object at a row's address, and the number of failed attempts. Raises ImageRejected.

    A row with `content` has the bytes with it, one with `reject_reason` the reason why there are none: see `inputs.py`.
    """
    limits = settings.extract
    if "reject_reason" in row:
        raise ImageRejected(row["reject_reason"], row["reject_message"])
    if "content" in row:
        data = row["content"].as_py()
        require_listed(len(data), row["size_bytes"], limits.max_object_bytes)
        return data, 0
    most = row.get(_MOST_BYTES, limits.max_object_bytes)
    try:
        return fetch_patiently(settings.source, Address.of(row), limits.fetch_patience_seconds, most)
    except ImageRejected as e:
        if e.reason == RejectReason.TOO_LARGE and most < limits.max_object_bytes:
            raise _IsLarge from e
        raise


def decoders_of(settings: TaskSettings, *, input_only: bool = False) -> DecoderPool:
    """One decoder process per core of the task; the Python worker keeps them from task to task."""
    pool = _input_decoders if input_only else _decoders
    return pool(settings.task_cpus, settings.signature, _limits(settings))


def _limits(settings: TaskSettings) -> DecoderLimits:
    return DecoderLimits.of(settings.extract, settings.executor)


@functools.cache
def _decoders(n: int, signature: SignatureSettings, limits: DecoderLimits) -> DecoderPool:
    return DecoderPool(n, signature, limits)


@functools.cache
def _input_decoders(n: int, signature: SignatureSettings, limits: DecoderLimits) -> DecoderPool:
    return DecoderPool(n, signature, limits, derive=input_of_image)
