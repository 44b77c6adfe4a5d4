"""What extract does on executors: it turns addresses into rows of `features`.

How objects are fetched and decoded ahead of the model is in `stages/reading/`.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import fields, replace
from typing import Any

import pyarrow as pa
from cachetools import LRUCache

from dedup_spark.kernels.decoding.images import ImageRejected, sniff_format
from dedup_spark.kernels.decoding.other_kinds import HEAD_BYTES, claims_to_be_image, kind_of_bytes
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.kernels.features.signature import Signature, rejected_version
from dedup_spark.stages.reading.embedding import in_groups, with_embeddings
from dedup_spark.stages.reading.read_ahead import RETRIABLE, TIMINGS, TaskSettings, decoders_of, fetch_row, read_ahead
from dedup_spark.stages.reading.reuse import EveryImage, ModelInput, Planner, planner_of
from dedup_spark.store.schema import FEATURES
from dedup_spark.vocabulary import FeatureStatus, RejectReason

READ = FEATURES.schema + TIMINGS

_SIGNATURE_COLUMNS = tuple(f.name for f in fields(Signature) if f.name != "model_input")
_ROWS_PER_BATCH = 64
"""Rows of features per Arrow batch: about 1 MB. Each batch costs Spark the headers of 27 columns."""

_Signed = tuple[Signature, ModelInput | None]
"""A signature without its model input, and that."""


def extract_batches(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[pa.RecordBatch]:
    """On executors: FEATURES and TIMINGS from (image_id, object_version and the address), in the same order."""
    model = settings.model
    planner = planner_of(settings.extract.reuse_embedding, model.model) if model else EveryImage()
    rows = _signed(batches, settings, planner)
    if model:
        rows = itertools.chain.from_iterable(with_embeddings(rows, model.batch_images, model.load, planner))
    for group in in_groups(rows, _ROWS_PER_BATCH):
        yield _to_arrow(group)


def _signed(batches: Iterable[pa.RecordBatch], settings: TaskSettings, planner: Planner) -> Iterator[dict[str, Any]]:
    sign = _Recent(functools.partial(_sign, decode=decoders_of(settings).sign, planner=planner), planner.recent_images)
    return read_ahead(batches, settings, functools.partial(_read_one, settings=settings, sign=sign))


def _sign(data: bytes, decode: Callable[[bytes], Signature], planner: Planner) -> _Signed:
    signature = decode(data)
    pixels = signature.model_input
    given = planner.input_of(pixels, signature.phash) if pixels is not None else None
    return replace(signature, model_input=None), given


def _read_one(row: dict[str, Any], settings: TaskSettings, sign: Callable[[str, bytes], _Signed]) -> dict[str, Any]:
    """One row of features without the embedding, with `model_input` beside it; a bad image is a row too."""
    done = {name: row.get(name) for name in ("image_id", "object_version", "reading_key")}
    done["run_id"] = settings.run_id
    try:
        data, n_retries = fetch_row(row, settings)
        digest = content_hash(data)
        done |= {"n_retries": n_retries, "read_bytes": len(data), "content_hash": digest}
        done["magic_format"] = sniff_format(data)
        signature, model_input = sign(digest, data)
    except ImageRejected as e:
        if e.reason == RejectReason.NOT_AN_IMAGE and not claims_to_be_image(row.get("member") or row["uri"]):
            done["magic_format"] = kind_of_bytes(data[:HEAD_BYTES])
        rejected = {"reject_reason": e.reason, "reject_message": e.message, "retriable": e.reason in RETRIABLE}
        version = rejected_version(settings.signature)
        return done | rejected | {"status": FeatureStatus.REJECTED, "signature_version": version}
    found = {name: getattr(signature, name) for name in _SIGNATURE_COLUMNS}
    return done | found | _given(row, settings) | {"status": FeatureStatus.OK, "model_input": model_input}


def _given(row: dict[str, Any], settings: TaskSettings) -> dict[str, Any]:
    """The vector that stands beside the address, where a table of the user has one for this image."""
    embedding = row.get("embedding")
    return {} if embedding is None else {"embedding": embedding, "model_id": settings.given_model_id}


class _Recent:
    """Makes signatures and keeps the last few, so that identical bytes near each other in a task are decoded once.

    Also where several threads get them at the same time, and where they are rejected, which may take a decoder its
    whole time limit: kept are futures. `cachetools.cached(condition=...)` remembers no error, so each thread that
    waited would decode such an image again.
    """

    def __init__(self, sign: Callable[[bytes], _Signed], size: int) -> None:
        self._sign = sign
        self._known: LRUCache[str, Future[_Signed]] = LRUCache(size)
        self._lock = threading.Lock()

    def __call__(self, digest: str, data: bytes) -> _Signed:
        with self._lock:
            known = self._known.get(digest)
            future: Future[_Signed] = known or Future()
            self._known[digest] = future
        if known is None:
            try:
                future.set_result(self._sign(data))
            except BaseException as e:
                future.set_exception(e)
        return future.result()


def _to_arrow(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    schema = READ.arrow
    return pa.RecordBatch.from_arrays(
        [pa.array([r.get(f.name) for r in rows], type=f.type) for f in schema], schema=schema
    )
