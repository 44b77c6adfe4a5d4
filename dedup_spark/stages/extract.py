"""Extract: read each object once; signatures, facts, thumbnail and embedding come out of that one pass.

Reads: images, features
Writes: features
Kernels: signature, hashing
Scale: bytes of the lake once, over the network; per image one decode and one forward pass; about 12 KB a row out.

Work goes by slices of `extract.slice_images`, each one atomic append: a killed run loses at most a slice.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from dedup_spark.config import Config, ExtractSettings
from dedup_spark.decoders import DecoderPool
from dedup_spark.errors import GuardError, TableError
from dedup_spark.kernels.hashing import content_hash
from dedup_spark.kernels.images import ImageRejected
from dedup_spark.kernels.signature import Signature, SignatureSettings
from dedup_spark.models import registry as models
from dedup_spark.runs import Progress, Run
from dedup_spark.sources.base import Source
from dedup_spark.sources.registry import open_source
from dedup_spark.tables import FEATURES, IMAGES

log = logging.getLogger(__name__)

_CONTAINER_SPAN = 1 << 40  # image_ids of one container share all higher bits: see stages/inventory.py
_MIN_ID, _MAX_ID = -(1 << 63), (1 << 63) - 1
_MIN_IMAGES_FOR_GUARD = 200  # a share of a handful says nothing
_SIGNATURE_COLUMNS = tuple(f.name for f in fields(Signature) if f.name != "model_input")


@dataclass(frozen=True)
class TaskSettings:
    """All that a task needs; plain values and a small source, sent with each task."""

    source: Source
    signature: SignatureSettings
    extract: ExtractSettings
    model_id: str | None
    run_id: str
    task_cpus: int


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Read what is new or changed, slice by slice; forget what is gone."""
    tables, settings = run.tables, task_settings(spark, config, run)
    stale = tables.stage("stale", stale_features(tables.read(IMAGES), tables.read(FEATURES)))
    n_stale = stale.count()
    if n_stale:
        tables.delete(FEATURES, stale)
    pending = tables.stage("pending", pending_images(tables.read(IMAGES), tables.read(FEATURES)).select("image_id"))
    n_pending = pending.count()
    bounds = slice_bounds(pending, n_pending, config.extract.slice_images)
    n_slice = -(-n_pending // max(1, len(bounds)))
    progress = Progress("extract", "images", n_pending)
    for i, (low, high) in enumerate(bounds):
        in_slice = F.col("image_id").between(low, high)
        part = pending_images(tables.read(IMAGES).where(in_slice), tables.read(FEATURES).where(in_slice))
        with progress.watching(spark, done_before=i * n_slice, n_under_way=n_slice):
            tables.append(FEATURES, extract_features(part, settings, n_slice))
        progress.show(min(n_pending, (i + 1) * n_slice), force=True)
        _guard_against_rejects(run, config.extract.max_reject_share)
    tables.drop_staged()
    _require_conservation(run)
    run.count(read=n_pending, forgotten=n_stale, rejected=tables.read(FEATURES).where("status = 'rejected'").count())


def task_settings(spark: SparkSession, config: Config, run: Run) -> TaskSettings:
    """Resolve on the driver what every task must agree on."""
    e = config.extract
    has_model = e.embedding != models.OFF
    signature = SignatureSettings(
        e.max_pixels, e.min_side_px, e.thumbnail_px, e.thumbnail_quality, e.input_px if has_model else 0
    )
    return TaskSettings(
        source=open_source(run.lake, config.inventory),
        signature=signature,
        extract=e,
        model_id=models.model_id(e.embedding, e.input_px) if has_model else None,
        run_id=run.run_id,
        task_cpus=int(spark.sparkContext.getConf().get("spark.task.cpus", "1")),
    )


def stale_features(images: DataFrame, features: DataFrame) -> DataFrame:
    """Keys of features whose object is gone or has changed since it was read."""
    return features.select("image_id", "object_version").join(images, ["image_id", "object_version"], "left_anti")


def pending_images(images: DataFrame, features: DataFrame) -> DataFrame:
    """Images that have no row of features yet."""
    return images.join(features, "image_id", "left_anti")


def slice_bounds(pending: DataFrame, n_pending: int, slice_images: int) -> list[tuple[int, int]]:
    """Ranges of image_id (both ends included) that cover all ids and hold about `slice_images` pending ones each."""
    if n_pending == 0:
        return []
    n_slices = -(-n_pending // slice_images)
    shares = [i / n_slices for i in range(1, n_slices)]
    quantiles = pending.agg(F.percentile_approx("image_id", shares).alias("cuts")).first() if shares else None
    cuts = {cut // _CONTAINER_SPAN * _CONTAINER_SPAN for cut in quantiles["cuts"]} if quantiles else set()
    starts = sorted({_MIN_ID, *cuts})  # at multiples of the span, so that containers stay whole
    return list(zip(starts, [start - 1 for start in starts[1:]] + [_MAX_ID], strict=True))


def extract_features(images: DataFrame, settings: TaskSettings, n_images: int) -> DataFrame:
    """Rows of `images` (about `n_images`) to rows of `features`; lazy. One container is read by one task."""
    n_tasks = max(images.sparkSession.sparkContext.defaultParallelism, -(-n_images // settings.extract.task_images))
    address = images.select("image_id", "object_version", "uri", "member", "size_bytes")
    spread = address.repartition(n_tasks, F.shiftright("image_id", 40)).sortWithinPartitions("uri", "member")
    return spread.mapInArrow(functools.partial(_extract_batches, settings=settings), FEATURES.schema)


def _extract_batches(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[pa.RecordBatch]:
    """On executors: (image_id, object_version, uri, member, size_bytes) to FEATURES, in the same order."""
    for rows in _in_groups(_signed(batches, settings), settings.extract.embed_batch_images):
        yield _to_arrow(_embedded(rows, settings))


def _signed(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[dict[str, Any]]:
    """Fetch and decode ahead of the consumer, in order, within `extract.inflight_bytes`."""
    decoders = _decoders(settings.signature, settings.extract, settings.task_cpus)
    waiting: deque[tuple[int, Future[dict[str, Any]]]] = deque()
    inflight_bytes = 0
    with ThreadPoolExecutor(settings.extract.fetch_threads, thread_name_prefix="fetch") as pool:
        for address in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
            size = min(address["size_bytes"] or 0, settings.extract.max_object_bytes)
            while waiting and (inflight_bytes + size > settings.extract.inflight_bytes
                               or len(waiting) >= 2 * settings.extract.fetch_threads):  # fmt: skip
                done_size, first = waiting.popleft()
                inflight_bytes -= done_size
                yield first.result()
            waiting.append((size, pool.submit(_read_one, address, settings, decoders)))
            inflight_bytes += size
        for _, rest in waiting:
            yield rest.result()


def _read_one(address: dict[str, Any], settings: TaskSettings, decoders: DecoderPool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "image_id": address["image_id"], "object_version": address["object_version"], "status": "ok",
        "signature_version": settings.signature.version, "run_id": settings.run_id,
    }  # fmt: skip
    try:
        data = _fetch(address, settings)
        row |= {"read_bytes": len(data), "content_hash": content_hash(data)}
        signature = decoders.sign(data)
        row |= {name: getattr(signature, name) for name in _SIGNATURE_COLUMNS}
        row["model_input"] = signature.model_input
    except ImageRejected as e:
        row |= {"status": "rejected", "reject_reason": e.reason, "reject_message": e.message}
    return row


def _fetch(address: dict[str, Any], settings: TaskSettings) -> bytes:
    limit = settings.extract.max_object_bytes
    if (address["size_bytes"] or 0) > limit:
        raise ImageRejected("too_large", f"{address['size_bytes']:,} bytes, the limit is {limit:,}")
    data = settings.source.fetch(address["uri"], address["member"])
    if address["size_bytes"] is not None and len(data) != address["size_bytes"]:
        raise ImageRejected("changed_since_listing", f"{len(data):,} bytes, listed with {address['size_bytes']:,}")
    return data


def _embedded(rows: list[dict[str, Any]], settings: TaskSettings) -> list[dict[str, Any]]:
    """Add `embedding` and `model_id` to the rows that have a model input."""
    ready = [row for row in rows if row.get("model_input") is not None]
    if ready and settings.model_id:
        model = models.load_embedder(settings.extract.embedding, settings.extract.input_px, settings.task_cpus)
        if model.model_id != settings.model_id:
            raise TableError(
                f"this executor has model {model.model_id}, the driver {settings.model_id}: install the same"
            )
        vectors = model.embed(np.stack([row["model_input"] for row in ready])).astype("<f2")
        for row, vector in zip(ready, vectors, strict=True):
            row |= {"embedding": vector.tobytes(), "model_id": model.model_id}
    return rows


def _to_arrow(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    schema = _features_arrow_schema()
    return pa.RecordBatch.from_arrays(
        [pa.array([r.get(f.name) for r in rows], type=f.type) for f in schema], schema=schema
    )


def _in_groups(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while group := list(itertools.islice(rows, size)):
        yield group


@functools.cache
def _features_arrow_schema() -> pa.Schema:
    return to_arrow_schema(FEATURES.schema)


@functools.cache
def _decoders(signature: SignatureSettings, extract: ExtractSettings, n: int) -> DecoderPool:
    """Kept by the Python worker from task to task."""
    return DecoderPool(n, signature, extract.decoder_memory_bytes, extract.decoder_timeout_seconds)


def _guard_against_rejects(run: Run, max_share: float) -> None:
    read = run.tables.read(FEATURES).where(F.col("run_id") == run.run_id)
    counts = read.groupBy("reject_reason").count().orderBy(F.desc("count")).collect()
    n_read = sum(r["count"] for r in counts)
    n_rejected = sum(r["count"] for r in counts if r["reject_reason"] is not None)
    if n_read >= _MIN_IMAGES_FOR_GUARD and n_rejected > max_share * n_read:
        reasons = ", ".join(f"{r['reject_reason']} {r['count']:,}" for r in counts if r["reject_reason"])
        raise GuardError(
            f"{n_rejected:,} of {n_read:,} images read were rejected ({reasons}), more than extract.max_reject_share "
            f"({max_share:g}); look at the view quarantine, or allow it with --set extract.max_reject_share=1"
        )


def _require_conservation(run: Run) -> None:
    n_images, n_features = run.tables.read(IMAGES).count(), run.tables.read(FEATURES).count()
    if n_images != n_features:
        raise TableError(
            f"images has {n_images:,} rows and features {n_features:,}; is another run writing to these tables?"
        )
