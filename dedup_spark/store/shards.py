"""FAISS shard files: written with a checksum, checked before use. Runs on executors; the rows are in `shards`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from cachetools import LRUCache, cached

from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.arrays import Float32
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.vectors import shard_centroids, shard_vectors
from dedup_spark.store import files

FOLDER = "shard_files"
"""Below the tables root; one folder in it for each build of the index."""

REBUILD = "rebuild the index: `dedup-spark index --force` with the same --lake and --tables"


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


def write_shard(root: str, path: str, index: faiss.Index) -> tuple[int, str]:
    """Write `index` to `path` below `root`, atomically. Returns its size in bytes and its SHA-256, hex."""
    data = faiss.serialize_index(index).tobytes()
    files.write_atomically(f"{root}/{path}", data)
    return len(data), hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, eq=False)
class Shard:
    """What one reading of a shard file gave.

    Attributes:
        name: root, path and SHA-256: the same name, the same vectors.
        block: its vectors, by cell.
        centroids: (cells, d) float32 of all cells of the index, which every shard holds; one array for all shards.
        index: what FAISS searches, where it was asked for: this file or another, with the vectors a second time.
    """

    name: tuple[str, str, str]
    block: Block
    centroids: Float32
    index: faiss.Index | None

    @property
    def nbytes(self) -> int:
        """Of the vectors."""
        return self.block.vectors.nbytes * (1 if self.index is None else 2)


_ALWAYS_KEPT = 2  # shards that a task joins


def bounded_cache[V](max_bytes: int, bytes_of: Callable[[V], int]) -> LRUCache[Hashable, V]:
    """The values used last, within `max_bytes`; the last two stay, however large they are. Not for several threads.

    No value counts for more than half of the bound, so the last two always fit and none is refused as too large.
    """
    return LRUCache(max_bytes, getsizeof=lambda value: min(bytes_of(value), max_bytes // _ALWAYS_KEPT))


_KEPT_BYTES = 128 << 20
"""Two shards of index.max_shard_rows (65,536) rows of 512 dimensions, which a task needs in any case."""

_kept: LRUCache[Hashable, Shard] = bounded_cache(_KEPT_BYTES, lambda shard: shard.nbytes)


@cached(_kept, key=lambda root, path, sha256, index_file=None: (root, path, sha256, index_file))
def read_shard(root: str, path: str, sha256: str, index_file: tuple[str, str] | None = None) -> Shard:
    """A shard. The last two stay in memory, as work comes in pairs of shards; of small shards, more than two.

    `index_file` is the path and the SHA-256 of the index to search: this file itself, or one with the same ids.

    Raises:
        ArtifactError: a file is missing, or is not the one that the table lists.
    """
    held = _open(root, path, sha256)
    block, centroids = Block(*shard_vectors(held)), _one_for_all(shard_centroids(held))
    index = None if index_file is None else held if index_file == (path, sha256) else _open(root, *index_file)
    return Shard((root, path, sha256), block, centroids, index)


@cached(LRUCache(1), key=lambda centroids: (centroids.shape, hashlib.sha256(centroids).digest()))
def _one_for_all(centroids: Float32) -> Float32:
    """Of equal arrays the one given first, so that one is held: 32 MB at 16,384 cells of 512 dimensions."""
    return centroids


def index_file_of(row: Mapping[str, Any], side: str = "") -> tuple[str, str]:
    """Path and SHA-256 of the index that FAISS searches, of a row of `shards`: a file of its own, or the shard."""
    if row[f"{side}index_path"]:
        return row[f"{side}index_path"], row[f"{side}index_sha256"]
    return row[f"{side}path"], row[f"{side}sha256"]


def read_centroids(root: str, path: str, sha256: str) -> Float32:
    """The `centroids` of a shard, without its vectors. Raises ArtifactError, as `read_shard` does."""
    return shard_centroids(_open(root, path, sha256))


def _open(root: str, path: str, sha256: str) -> faiss.Index:
    """A shard as FAISS opens it. Raises ArtifactError, as `read_shard` does."""
    try:
        data = files.read_bytes(f"{root}/{path}")
    except FileNotFoundError as e:
        raise ArtifactError(f"shard file {root}/{path} is missing; {REBUILD}") from e
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ArtifactError(
            f"shard file {root}/{path} has SHA-256 {found[:12]}..., listed with {sha256[:12]}... "
            f"({len(data):,} bytes): it is damaged, or of another build of the index; {REBUILD}"
        )
    return faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
