"""FAISS shard files: written with a checksum, verified before use. Runs on executors; the rows are in `shards`."""

from __future__ import annotations

import hashlib

import faiss
import numpy as np

from dedup_spark.errors import ArtifactError
from dedup_spark.kernels import vectors
from dedup_spark.kernels.joins.base import Block
from dedup_spark.store import files
from dedup_spark.store.kept import Kept

FOLDER = "shard_files"
"""Below the tables root; one folder in it for each build of the index."""

REBUILD = "rebuild the index: `dedup-spark index --force` with the same --tables"


def write_shard(root: str, path: str, index: faiss.Index) -> tuple[int, str]:
    """Write `index` to `path` below `root`, atomically. Returns its size in bytes and its SHA-256, hex."""
    data = faiss.serialize_index(index).tobytes()
    files.write_atomically(f"{root}/{path}", data)
    return len(data), hashlib.sha256(data).hexdigest()


def read_shard(root: str, path: str, sha256: str) -> Block:
    """The vectors of a shard. The last two stay in memory, as work comes in pairs of shards, and of small ones more.

    Raises:
        ArtifactError: the file is missing, or is not the one that the table lists.
    """
    key = (root, path, sha256)
    return _blocks.get(key, lambda: Block(*vectors.shard_vectors(read_index(*key))))


_blocks = Kept[Block](128 << 20, 2, lambda block: block.vectors.nbytes)
"""Two shards of index.max_shard_rows (65,536) rows of 512 dimensions: what a task holds anyway."""


def read_centroids(root: str, path: str, sha256: str) -> vectors.Floats:
    """(cells, d) float32: the centroids of all cells, which every shard holds."""
    return vectors.shard_centroids(read_index(root, path, sha256))


def read_index(root: str, path: str, sha256: str) -> faiss.Index:
    """A shard as FAISS opens it. Raises ArtifactError, as `read_shard` does."""
    try:
        data = files.read_bytes(f"{root}/{path}")
    except FileNotFoundError as e:
        raise ArtifactError(f"shard file {root}/{path} is missing; {REBUILD}") from e
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ArtifactError(
            f"shard file {root}/{path} has SHA-256 {found[:12]}..., listed with {sha256[:12]}... "
            f"({len(data):,} bytes): it is damaged or of another build; {REBUILD}"
        )
    return faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
