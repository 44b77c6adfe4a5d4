"""The files of shards: written with checksums, checked before use. Runs on executors; the rows are in `shards`.

A shard is three files that begin alike. `.faiss` is an index that FAISS alone opens and searches, for others. Beside it
lie flat arrays in NumPy's format, which match reads in its place, mapped, so that the workers of a machine share the
pages: `.rows.npy` (n,) of `kernels/joins/stored.ROW`, 148 bytes a vector with its id, cell and sketch, and
`.vectors.npy` (n, d) little-endian float16, in the same order, by cell. The centroids of all cells stand once in a
build of the index, in `centroids.npy` (k, d) float32.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import faiss
import numpy as np
from cachetools import LRUCache, cached

from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.arrays import Float16, Float32
from dedup_spark.kernels.faiss_index import over_all_cells
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.sketch import BlockSketches, sketch_block
from dedup_spark.kernels.joins.sketches import SketchFilter
from dedup_spark.kernels.joins.stored import StoredRows, block_of, rows_of, sketches_of
from dedup_spark.kernels.plain_index import PlainIndex
from dedup_spark.kernels.vectors import build_shard
from dedup_spark.store import files
from dedup_spark.store.node_files import REBUILD, local_file

FOLDER = "shard_files"
"""Below the tables root; one folder in it for each build of the index."""

_MOST_USUAL_CELLS = 16_384
_USUAL_BYTES = 1024  # of a vector of 512 numbers, for which the bounds of the settings are measured


def rows_within_memory(n_rows: int, vector_bytes: int | None) -> int:
    """A bound on rows, lower by as much as a vector is longer than 512 numbers, but at least 256."""
    return max(256, int(n_rows / max(1, (vector_bytes or 0) / _USUAL_BYTES)))


_ITEMS_PER_CORE = 16
"""Work items of a match of everything for each core: enough that the last ones leave few cores idle. Four times as many
shards are sixteen times as many items, each with its reads and its start."""

_LEAST_ROWS = 4096
"""Smaller shards cost more in files than they gain in parallel work."""


def rows_per_shard(n_vectors: int, n_cores: int, max_rows: int) -> int:
    """Rows of a shard such that every two shards make _ITEMS_PER_CORE work items a core, at most `max_rows`.

    S shards make S^2 / 2 items, so S is the root of twice the items. The survey has a task for each shard: up to 32
    cores that is one for each core, above it a task is at most some seconds of one product.
    """
    n_shards = math.ceil(math.sqrt(2 * _ITEMS_PER_CORE * n_cores))
    return min(max_rows, max(_LEAST_ROWS, -(-n_vectors // n_shards)))


def usual_cells(n_vectors: int) -> int:
    """Cells of an index of so many vectors where no setting says how many: half the square root, at most 16,384."""
    return max(1, min(_MOST_USUAL_CELLS, round(math.sqrt(n_vectors) / 2)))


class CellsFile(NamedTuple):
    """The file of the centroids of all cells, of one build of the index."""

    centroids_path: str
    centroids_sha256: str


class ShardFiles(NamedTuple):
    """The files of one shard and of its build, as a row of `shards` names them."""

    path: str
    sha256: str
    rows_sha256: str
    vectors_sha256: str
    sketch_seed: int
    centroids_path: str
    centroids_sha256: str
    index_path: str | None = None
    index_sha256: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], side: str = "") -> Self:
        """Of a row that has them with `side` before their names, and others.

        Raises:
            ArtifactError: the row is of a version that wrote FAISS files alone.
        """
        named = cls(*(row[f"{side}{name}"] for name in cls._fields))
        if named.rows_sha256 is None:
            raise ArtifactError(f"shard file {named.path} is of an older version, and has no rows beside it; {REBUILD}")
        return named

    @property
    def cells(self) -> CellsFile:
        return CellsFile(self.centroids_path, self.centroids_sha256)


FILES_DDL = (
    "path string, sha256 string, rows_sha256 string, vectors_sha256 string, sketch_seed bigint, "
    "centroids_path string, centroids_sha256 string, index_path string, index_sha256 string"
)
"""Columns of ShardFiles."""


def write_centroids(root: str, folder: str, centroids: Float32) -> CellsFile:
    """Write the (k, d) centroids of all cells into a folder below `root`."""
    path = f"{folder}/centroids.npy"
    return CellsFile(path, _write(root, path, _npy(np.ascontiguousarray(centroids, "<f4"))))


def write_shard(root: str, path: str, block: Block, cells: tuple[CellsFile, Float32], seed: int) -> dict[str, Any]:
    """Write the files of a shard, `path` and those beside it, each atomically. Returns what `shards` lists of them.

    Args:
        path: Below `root`; ends in `.faiss`.
        cells: The file of the centroids, and what is in it.
        seed: Of the sketches.
    """
    listed, centroids = cells
    data = faiss.serialize_index(build_shard(block.ids, block.vectors, block.cells, centroids)).tobytes()
    return listed._asdict() | {
        "path": path,
        "n_images": len(block),
        "size_bytes": len(data),
        "cells": list(block.cell_bounds),
        "sha256": _write(root, path, data),
        "vectors_sha256": _write(root, _beside(path, "vectors"), _npy(np.ascontiguousarray(block.vectors, "<f2"))),
        "rows_sha256": _write(root, _beside(path, "rows"), _npy(rows_of(block, centroids, seed))),
        "sketch_seed": seed,
    }


def write_index(root: str, path: str, index: Any) -> str:
    """Write an index of another type, of the same rows, below `root`. Returns its SHA-256, hex."""
    return _write(root, path, faiss.serialize_index(index).tobytes())


def _beside(path: str, what: str) -> str:
    return f"{path.removesuffix('.faiss')}.{what}.npy"


def _npy(array: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()


def _write(root: str, path: str, data: bytes) -> str:
    files.write_atomically(f"{root}/{path}", data)
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, eq=False)
class Shard:
    """What one reading of the files of a shard gave. Vectors, rows and centroids are mapped: pages are read when used.

    Attributes:
        root, named: the same values, the same vectors.
        block: its vectors, by cell.
        rows: what is stored of each of them.
        centroids: (cells, d) float32 of all cells of the index.
        index: what FAISS searches, over all cells, where it was asked for: in memory, a second time.
    """

    root: str
    named: ShardFiles
    block: Block
    rows: StoredRows
    centroids: Float32
    index: Any

    @property
    def nbytes(self) -> int:
        """Of the vectors."""
        return self.block.vectors.nbytes * (1 if self.index is None else 2)

    @functools.cached_property
    def home_cosines(self) -> Float32:
        """(n,): of each row to the centroid of its cell."""
        return np.ascontiguousarray(self.rows["home_cosine"])

    def sketches(self, sketch_filter: SketchFilter, seed: int) -> BlockSketches:
        """Those stored; made anew where the index was built with another seed."""
        if seed == self.named.sketch_seed:
            return sketches_of(self.rows, sketch_filter)
        return sketch_block(self.block, sketch_filter, seed)


_ALWAYS_KEPT = 2  # shards that a task joins


def bounded_cache[V](max_bytes: int, bytes_of: Callable[[V], int]) -> LRUCache[Hashable, V]:
    """The values used last, within `max_bytes`; the last two stay, however large they are. Not for several threads.

    No value counts for more than half of the bound, so the last two always fit and none is refused as too large.
    """
    return LRUCache(max_bytes, getsizeof=lambda value: min(bytes_of(value), max_bytes // _ALWAYS_KEPT))


_KEPT_BYTES = 128 << 20
"""Two shards of index.max_shard_rows (65,536) rows of 512 dimensions, which a task needs in any case."""

_kept: LRUCache[Hashable, Shard] = bounded_cache(_KEPT_BYTES, lambda shard: shard.nbytes)


@cached(_kept, key=lambda root, named, *, with_index=False: (root, named, with_index))
def read_shard(root: str, named: ShardFiles, *, with_index: bool = False) -> Shard:
    """A shard. The last two stay open, as work comes in pairs of shards; of small shards, more than two.

    `with_index`: with the index that faiss_ivf searches.

    Raises:
        ArtifactError: a file is missing, or is not the one that the table lists.
    """
    rows = _mapped(root, _beside(named.path, "rows"), named.rows_sha256)
    vectors: Float16 = _mapped(root, _beside(named.path, "vectors"), named.vectors_sha256)
    block, centroids = block_of(rows, vectors), read_centroids(root, named.cells)
    return Shard(root, named, block, rows, centroids, _index_of(root, named, block, centroids) if with_index else None)


def read_centroids(root: str, named: CellsFile) -> Float32:
    """(cells, d) float32 of all cells, mapped. Raises ArtifactError, as `read_shard` does."""
    centroids: Float32 = _mapped(root, *named)
    return centroids


def _mapped(root: str, path: str, sha256: str) -> Any:
    """An array of a file; it can be written to, as some libraries ask, and the file stays as it is."""
    with local_file(f"{root}/{path}", sha256) as local:
        return np.asarray(np.load(local, mmap_mode="c"))


def _index_of(root: str, named: ShardFiles, block: Block, centroids: Float32) -> Any:
    """Of a type of its own from its file; of the usual one from the vectors that are read anyway: half the bytes."""
    if named.index_path is None or named.index_sha256 is None:
        plain = PlainIndex(centroids)
        plain.add(block.ids, block.vectors, block.cells)
        return plain.index
    with local_file(f"{root}/{named.index_path}", named.index_sha256) as local:
        index = faiss.read_index(str(local))
    return over_all_cells(index, np.array(list(block.cell_bounds), np.int32), centroids)
