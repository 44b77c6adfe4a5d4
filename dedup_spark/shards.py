"""FAISS shard files: written with a checksum, verified before use. Runs on executors; the rows are in `shards`."""

from __future__ import annotations

import functools
import hashlib

import faiss
import numpy as np

from dedup_spark import storage
from dedup_spark.errors import ArtifactError
from dedup_spark.kernels import ann

FOLDER = "shard_files"
"""Below the tables root; one folder in it for each build of the index."""

_REBUILD = "rebuild the index: `dedup-spark index --force` with the same --tables"


def write_shard(root: str, path: str, index: faiss.Index) -> tuple[int, str]:
    """Write `index` to `path` below `root`, atomically. Returns its size in bytes and its SHA-256, hex."""
    data = faiss.serialize_index(index).tobytes()
    storage.write_atomically(f"{root}/{path}", data)
    return len(data), hashlib.sha256(data).hexdigest()


@functools.lru_cache(maxsize=2)
def read_shard(root: str, path: str, sha256: str) -> tuple[ann.Ids, ann.Halves]:
    """Ids (n,) and vectors (n, d) float16 of a shard; the last two stay in memory, as work comes in pairs of shards.

    Raises:
        ArtifactError: the file is missing, or is not the one that the table lists.
    """
    try:
        data = storage.read_bytes(f"{root}/{path}")
    except FileNotFoundError as e:
        raise ArtifactError(f"shard file {root}/{path} is missing; {_REBUILD}") from e
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ArtifactError(
            f"shard file {root}/{path} has SHA-256 {found[:12]}..., listed with {sha256[:12]}... "
            f"({len(data):,} bytes): it is damaged or of another build; {_REBUILD}"
        )
    index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    return ann.shard_vectors(index)
