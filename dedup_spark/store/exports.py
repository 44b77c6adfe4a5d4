"""Files for others than us: plain FAISS files, Parquet and texts at a place that the user names.

They lie outside the tables root, and nothing here reads them again. FAISS files are written by executors.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import faiss
from pyspark.sql import DataFrame

from dedup_spark.store import files


def write_faiss(index: faiss.Index, uri: str) -> tuple[int, str]:
    """Write a file that `faiss.read_index` opens, whole or not at all. Returns its size in bytes and SHA-256, hex.

    Through a file on the local disk, so that the index is in memory once.
    """
    with tempfile.TemporaryDirectory(prefix="dedup_spark-") as folder:
        local = Path(folder, "index.faiss")
        faiss.write_index(index, str(local))
        with local.open("rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        size = local.stat().st_size
        files.put_file(local, uri)
    return size, sha256


def write_parquet(rows: DataFrame, place: str) -> None:
    """Write rows as Parquet files in a new folder; `place` as Hadoop names it."""
    rows.write.mode("error").parquet(place)


def write_text(text: str, uri: str) -> None:
    """Write a small text, in UTF-8."""
    files.write_atomically(uri, text.encode())
