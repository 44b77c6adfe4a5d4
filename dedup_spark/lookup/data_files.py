"""The images of one data file of `features`, as a file of Arrow on this disk that is mapped and not read.

Parquet gives no single row quickly, and a look-up needs single thumbnails. The data files of Delta never change, so
each is copied once: what a new run leaves as it was is not read again. About as large as the data file (12 KB an image
with thumbnail and vector) and 128 bytes more, its sign sketch.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from dedup_spark.kernels import vectors
from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.features.hashing import digest_of
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.sketches import MOST_BITS, make_sketches
from dedup_spark.lookup.places import delete_others, written_whole
from dedup_spark.vocabulary import FeatureStatus

log = logging.getLogger(__name__)

_FORM = "2"
"""Raise where the columns below, or what they hold, change: files of other forms are made anew."""
_ROWS = 4096
_HASHES = ("content_hash", "pixel_hash")
_FACTS = (
    "image_id", "phash", "width_px", "height_px", "n_frames", "frame_phashes", "duration_ms", "captured_at", "camera",
    "model_id", "thumbnail",
)  # fmt: skip
_FOLDER = "data_files"
_NOTHING = pa.schema(
    [("image_id", pa.int64()), ("phash", pa.int64()), ("thumbnail", pa.binary())]
    + [(name, pa.binary(32)) for name in _HASHES]
)
"""Of a lake without a readable image."""


def images_of(features: ds.Dataset, folder: Path, seed: int) -> pa.Table:
    """The readable images of the table, mapped, in chunks: `_FACTS`, hashes as 32 bytes, and `embedding` and `sketch`,
    null without a vector.

    Args:
        folder: Where the copies are kept; those that are missing are made.
        seed: Of the sketches.
    """
    place = folder / _FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    copies = [(fragment, place / _name(fragment.path, seed)) for fragment in features.get_fragments()]
    missing = [(fragment, copy) for fragment, copy in copies if not is_whole(copy)]
    n_bytes = _vector_bytes(features) if missing else 0
    for number, (fragment, copy) in enumerate(missing):
        log.info("lookup: copying data file %d of %d", number + 1, len(missing))
        _copy(_Copied(fragment, features.schema, seed, n_bytes), copy)
    held = [table for table in (_mapped(copy) for _, copy in copies) if len(table)]
    return pa.concat_tables(held, promote_options="default") if held else _NOTHING.empty_table()


def _vector_bytes(features: ds.Dataset) -> int:
    """Of each vector; 0 where no image has one."""
    one = features.head(1, columns=["embedding"], filter=pc.field("model_id").is_valid(), use_threads=False)
    return len(one["embedding"][0].as_py()) if len(one) else 0


def forget_others(features: ds.Dataset, folder: Path, seed: int) -> None:
    """Delete the copies of data files that the table has no more, and what was left half written."""
    known = {_name(fragment.path, seed) for fragment in features.get_fragments()}
    delete_others((folder / _FOLDER).glob("*"), known.__contains__)


def _name(path: str, seed: int) -> str:
    return hashlib.sha256(f"{_FORM} {seed} {path}".encode()).hexdigest()[:32] + ".arrow"


def is_whole(path: Path) -> bool:
    """Whether there is such a file of Arrow. What else has its name, as after a loss of power, is made anew."""
    try:
        with pa.memory_map(str(path)) as source:
            pa.ipc.open_file(source)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return True


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


@dataclass(frozen=True)
class _Copied:
    """A data file, with the schema of its table, and how its images are stored."""

    fragment: ds.Fragment
    schema: pa.Schema
    seed: int
    vector_bytes: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The readable images, a few at a time: 50 MB."""
        columns = [c for c in (*_FACTS, *_HASHES, "embedding") if c in self.schema.names]
        readable = pc.field("status") == FeatureStatus.OK
        rows = self.fragment.to_batches(
            schema=self.schema, columns=columns, filter=readable, batch_size=_ROWS, batch_readahead=1, use_threads=False
        )
        yield from (self._as_stored(batch) for batch in rows if len(batch))

    def _as_stored(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        stored = {name: batch[name] for name in _FACTS if name in batch.schema.names}
        stored |= {name: _digests(batch[name]) for name in _HASHES}
        return pa.RecordBatch.from_pydict(stored | self._vectors(batch["embedding"]))

    def _vectors(self, column: pa.Array) -> dict[str, pa.Array]:
        """`embedding` and `sketch` of fixed size."""
        if not self.vector_bytes:
            return {}
        is_held = np.asarray(column.is_valid())
        numbers = vectors.from_bytes(column.drop_null().to_pylist() or [bytes(self.vector_bytes)])
        block = Block(np.arange(len(numbers)), numbers, np.zeros(len(numbers), np.int32))
        sketches = make_sketches(block.unit_vectors(slice(None)), MOST_BITS, self.seed)
        place = pa.array(np.maximum(np.cumsum(is_held) - 1, 0), mask=~is_held)
        columns = {"embedding": fixed_size(numbers.view(np.uint8)), "sketch": fixed_size(sketches)}
        return {name: values.take(place) for name, values in columns.items()}


def _copy(copied: _Copied, path: Path) -> None:
    with written_whole(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        _write(sink, copied.batches())


def _write(sink: pa.NativeFile, batches: Iterator[pa.RecordBatch]) -> None:
    writer = None
    for batch in batches:
        writer = writer or pa.ipc.new_file(sink, batch.schema)
        writer.write_batch(batch)
    (writer or pa.ipc.new_file(sink, pa.schema([("image_id", pa.int64())]))).close()


def _digests(column: pa.Array) -> pa.Array:
    data = bytes.fromhex("".join(map(digest_of, column.to_pylist())))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(column), [None, pa.py_buffer(data)])


def fixed_size(rows: UInt8) -> pa.FixedSizeBinaryArray:
    """(n, bytes) as a column of n values."""
    n, size = rows.shape
    data = pa.py_buffer(np.ascontiguousarray(rows).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), n, [None, data])


def bytes_of(column: pa.FixedSizeBinaryArray) -> UInt8:
    """(n, bytes): the values in place; those of nulls are anything."""
    n, size = len(column), column.type.byte_width
    data = np.frombuffer(column.buffers()[1], np.uint8)
    return data[column.offset * size : (column.offset + n) * size].reshape(n, size)
