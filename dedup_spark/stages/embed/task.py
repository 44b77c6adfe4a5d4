"""What embed does on executors: it turns thumbnails or addresses into vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
from PIL import UnidentifiedImageError

from dedup_spark.columns import Columns
from dedup_spark.errors import TableError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import input_of_thumbnail
from dedup_spark.printable import in_hex
from dedup_spark.stages.reading.decoder_pool import DecoderPool
from dedup_spark.stages.reading.embedding import with_embeddings
from dedup_spark.stages.reading.read_ahead import TIMINGS, TaskSettings, decoders_of, fetch_row, read_ahead
from dedup_spark.stages.reading.reuse import Planner, planner_of

VECTORS = Columns("image_id bigint, model_id string, embedding binary")
"""`embedding` as in features; it and `model_id` are null where the image could not be read again."""
EMBEDDED = VECTORS + TIMINGS


def embed_thumbnails(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[pa.RecordBatch]:
    """EMBEDDED from (image_id, thumbnail, size_bytes), in the same order.

    Threads decode: thumbnails are our own small JPEGs, and other threads run while Pillow decodes.
    """
    return _embedded(batches, settings, functools.partial(_of_thumbnail, settings=settings))


def embed_originals(batches: Iterable[pa.RecordBatch], settings: TaskSettings) -> Iterator[pa.RecordBatch]:
    """EMBEDDED from (image_id, object_version and the address), in the same order."""
    decoders = decoders_of(settings, input_only=True)
    return _embedded(batches, settings, functools.partial(_of_original, settings=settings, decoders=decoders))


def _embedded(
    batches: Iterable[pa.RecordBatch], settings: TaskSettings, read: Callable[..., dict[str, Any]]
) -> Iterator[pa.RecordBatch]:
    model = settings.model
    assert model is not None  # the step refuses to begin without one
    schema, planner = EMBEDDED.arrow, planner_of(settings.extract.reuse_embedding, model.model)
    rows_read = read_ahead(batches, settings, functools.partial(read, planner=planner))
    for rows in with_embeddings(rows_read, model.batch_images, model.load, planner):
        columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _of_thumbnail(row: dict[str, Any], settings: TaskSettings, planner: Planner) -> dict[str, Any]:
    try:
        pixels = input_of_thumbnail(row["thumbnail"], settings.signature)
    except (UnidentifiedImageError, OSError, TypeError) as e:
        raise TableError(f"the thumbnail of image {in_hex(row['image_id'])} in features cannot be decoded: {e}") from e
    return {"image_id": row["image_id"], "model_input": planner.input_of(pixels)}


def _of_original(
    row: dict[str, Any], settings: TaskSettings, decoders: DecoderPool, planner: Planner
) -> dict[str, Any]:
    if row["uri"] is None:  # no longer listed
        return {"image_id": row["image_id"]}
    try:
        data, _ = fetch_row(row, settings)
        return {"image_id": row["image_id"], "model_input": planner.input_of(decoders.input_of(data))}
    except ImageRejected:  # the next extract makes a row with the reason
        return {"image_id": row["image_id"]}
