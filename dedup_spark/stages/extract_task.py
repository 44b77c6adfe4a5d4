"""The part of extract that runs on executors: addresses in, rows of `features` out.

Objects are fetched by a few threads ahead of the decoder processes, those work ahead of the model, and at most
extract.inflight_bytes of encoded images are under way: a task's memory does not depend on how many it reads.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from dedup_spark.config import ExtractSettings
from dedup_spark.decoders import DecoderPool
from dedup_spark.kernels.hashing import content_hash
from dedup_spark.kernels.images import ImageRejected, sniff_format
from dedup_spark.kernels.signature import Signature, SignatureSettings, rejected_version
from dedup_spark.sources.base import Address, Source
from dedup_spark.sources.fetching import fetch_patiently
from dedup_spark.stages.embedding import ModelTask, in_groups, with_embeddings
from dedup_spark.tables import FEATURES

UNAVAILABLE = frozenset({"store_unavailable", "expired_credentials"})
"""The store gave no answer about the object: every later run asks again by itself."""
NOT_GIVEN = UNAVAILABLE | {"archived"}
"""The store did not give the bytes: every later run asks again by itself, of an archive once an image."""
ASKED_AGAIN = NOT_GIVEN | {"missing"}
"""What every later run asks for again while it is listed: a folder that was not mounted has no files either."""
RETRIABLE = NOT_GIVEN | {"missing", "forbidden", "changed_since_listing", "decoder_crashed", "decoder_timeout"}
"""Reasons that time may mend; the others need other bytes, another setting or another decoder."""

TIMINGS = T.StructType([T.StructField(n, T.DoubleType()) for n in ("model_seconds", "waited_seconds")])
"""Columns behind those of FEATURES: how long the model worked on a batch and waited for it; in its first row."""

_SIGNATURE_COLUMNS = tuple(f.name for f in fields(Signature) if f.name != "model_input")
_ADDRESS_COLUMNS = tuple(f.name for f in fields(Address))
_UNKNOWN_SIZE_BYTES = 4 * 2**20
"""What an object of unknown size counts for in the bytes under way."""
_ROWS_A_BATCH = 64
"""Rows of features an Arrow batch: about 1 MB. A batch costs Spark 27 columns' headers, whatever it holds."""
_RECENT_IMAGES = 64
"""Signatures kept for identical bytes that come again in a task; about 160 KB each with their model input."""


@dataclass(frozen=True)
class TaskSettings:
    """All that a task needs; plain values and a small source, sent with each task."""

    source: Source
    signature: SignatureSettings
    extract: ExtractSettings
    model: ModelTask | None
    run_id: str
    task_cpus: int

    @property
    def model_id(self) -> str | None:
        return self.model.model.model_id if self.model else None


def extract_batches(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[pa.RecordBatch]:
    """On executors: (image_id, object_version and the address) to FEATURES and TIMINGS, in the same order."""
    rows = _signed(batches, settings)
    if settings.model:
        rows = itertools.chain.from_iterable(with_embeddings(rows, settings.model.batch_images, settings.model.load))
    for group in in_groups(rows, _ROWS_A_BATCH):
        yield _to_arrow(group)


def _signed(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[dict[str, Any]]:
    sign = _Recent(decoders_of(settings).sign, _RECENT_IMAGES)
    return read_ahead(batches, settings, functools.partial(_read_one, settings=settings, sign=sign))


def read_ahead(
    batches: Iterable[pa.RecordBatch], settings: TaskSettings, read: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """`read` of each row, in their order, by threads ahead of the consumer; `size_bytes` bounds what is under way."""
    limits = settings.extract
    under_way: deque[tuple[int, Future[dict[str, Any]]]] = deque()
    bytes_under_way = 0
    n_threads, n_ahead = _ahead(settings)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="fetch") as pool:
        for row in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
            size = min(row["size_bytes"] or _UNKNOWN_SIZE_BYTES, limits.max_object_bytes)
            while under_way and (bytes_under_way + size > limits.inflight_bytes or len(under_way) >= n_ahead):
                done_size, first = under_way.popleft()
                bytes_under_way -= done_size
                yield first.result()
            under_way.append((size, pool.submit(read, row)))
            bytes_under_way += size
        for _, rest in under_way:
            yield rest.result()


def _ahead(settings: TaskSettings) -> tuple[int, int]:
    """Threads that fetch, and images under way: with a GPU enough for all decoders and for the next batch."""
    n_threads = settings.extract.fetch_threads
    if settings.model is None or not settings.model.share.gpus:
        return n_threads, 2 * n_threads
    n_threads = max(n_threads, 2 * settings.task_cpus)
    return n_threads, max(2 * n_threads, settings.model.batch_images)


def _read_one(row: dict[str, Any], settings: TaskSettings, sign: Callable[[str, bytes], Signature]) -> dict[str, Any]:
    """One row of features but for the embedding, with `model_input` beside it; whatever the image is like."""
    done = {"image_id": row["image_id"], "object_version": row["object_version"], "run_id": settings.run_id}
    try:
        data, n_retries = fetch_row(row, settings)
        digest = content_hash(data)
        done |= {"n_retries": n_retries, "read_bytes": len(data), "content_hash": digest}
        done["magic_format"] = sniff_format(data)
        signature = sign(digest, data)
    except ImageRejected as e:
        rejected = {"reject_reason": e.reason, "reject_message": e.message, "retriable": e.reason in RETRIABLE}
        return done | rejected | {"status": "rejected", "signature_version": rejected_version(settings.signature)}
    found = {name: getattr(signature, name) for name in _SIGNATURE_COLUMNS}
    return done | found | {"status": "ok", "model_input": signature.model_input}


def fetch_row(row: dict[str, Any], settings: TaskSettings) -> tuple[bytes, int]:
    """Bytes of the object at a row's address, and failed attempts before. Raises ImageRejected."""
    address = Address(**{name: row[name] for name in _ADDRESS_COLUMNS if name in row})
    limits = settings.extract
    return fetch_patiently(settings.source, address, limits.fetch_patience_seconds, limits.max_object_bytes)


def decoders_of(settings: TaskSettings, *, input_only: bool = False) -> DecoderPool:
    """A decoder process a core of the task, kept by the Python worker from task to task."""
    limits = settings.extract
    pool = _input_decoders if input_only else _decoders
    return pool(settings.task_cpus, settings.signature, limits.decoder_memory_bytes, limits.decoder_timeout_seconds)


class _Recent:
    """Signs images, and remembers the last few: identical bytes in one task are decoded once."""

    def __init__(self, sign: Callable[[bytes], Signature], size: int) -> None:
        self._sign, self._size = sign, size
        self._known: OrderedDict[str, Future[Signature]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, digest: str, data: bytes) -> Signature:
        with self._lock:
            known = self._known.get(digest)
            future: Future[Signature] = known or Future()
            self._known[digest] = future
            self._known.move_to_end(digest)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        if known is None:
            try:
                future.set_result(self._sign(data))
            except BaseException as e:
                future.set_exception(e)
        return future.result()


def _to_arrow(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    schema = _features_arrow_schema()
    return pa.RecordBatch.from_arrays(
        [pa.array([r.get(f.name) for r in rows], type=f.type) for f in schema], schema=schema
    )


@functools.cache
def _features_arrow_schema() -> pa.Schema:
    return to_arrow_schema(T.StructType([*FEATURES.schema, *TIMINGS]))


@functools.cache
def _decoders(n: int, signature: SignatureSettings, memory_bytes: int, timeout_seconds: float) -> DecoderPool:
    return DecoderPool(n, signature, memory_bytes, timeout_seconds)


@functools.cache
def _input_decoders(n: int, signature: SignatureSettings, memory_bytes: int, timeout_seconds: float) -> DecoderPool:
    return DecoderPool(n, signature, memory_bytes, timeout_seconds, input_only=True)
