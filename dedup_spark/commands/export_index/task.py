"""What `index export` does on executors: it reads shard files and writes plain FAISS files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dedup_spark.columns import Columns
from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.plain_index import PlainIndex
from dedup_spark.store import exports, shards

SHARD = Columns(f"file string, first_id bigint, {shards.FILES_DDL}")
"""The files of a shard, and the file below the folder of the export that gets its vectors, with ids from `first_id` on.
"""
WRITTEN = Columns("file string, faiss_id bigint, representative_id bigint, file_bytes bigint, file_sha256 string")
"""One row per vector: FAISS answers `faiss_id` from `file`.

It counts from 0 over all files and is no image_id: half of those are negative, and where FAISS puts results of several
files together, it takes a negative id for no result.
"""

_IDS_PER_BATCH = 65_536


@dataclass(frozen=True)
class ExportSettings:
    """`root`: where the shard files are; `to`: the folder of the export."""

    root: str
    to: str


def export_batches(batches: Iterable[pa.RecordBatch], settings: ExportSettings) -> Iterator[pa.RecordBatch]:
    """WRITTEN from SHARD, whose rows are ordered by file. Memory: the vectors of one file and of one shard."""
    name, index, ids = "", None, []  # ids: pairs of faiss_id and representative_id
    for row in (row for batch in batches for row in batch.to_pylist()):
        shard = shards.read_shard(settings.root, shards.ShardFiles.of(row))
        if index is not None and row["file"] != name:
            yield from _finished(name, index, ids, settings)
            index, ids = None, []
        name, index = row["file"], index or PlainIndex(shard.centroids)
        numbers = row["first_id"] + np.arange(len(shard.block.ids))
        index.add(numbers, shard.block.vectors, shard.block.cells)
        ids.append(np.stack([numbers, shard.block.ids]))
    if index is not None:
        yield from _finished(name, index, ids, settings)


def _finished(name: str, index: PlainIndex, ids: list[Int64], settings: ExportSettings) -> Iterator[pa.RecordBatch]:
    size, sha256 = exports.write_faiss(index.index, f"{settings.to}/{name}")
    together = np.concatenate(ids, axis=1)
    for begin in range(0, together.shape[1], _IDS_PER_BATCH):
        numbers, representatives = together[:, begin : begin + _IDS_PER_BATCH]
        same = [pa.repeat(pa.scalar(value), len(numbers)) for value in (name, size, sha256)]
        columns = [same[0], pa.array(numbers), pa.array(representatives), *same[1:]]
        yield pa.RecordBatch.from_arrays(columns, schema=WRITTEN.arrow)
