"""Whatever is done to a manifest, a table or an inventory, its listing has rows or ends with a sentence."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing.campaign import LONG_SECONDS, campaign
from pyspark.sql import SparkSession

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.sources import spark_reader
from dedup_spark.sources.base import Source
from dedup_spark.sources.manifest import ManifestSource
from dedup_spark.sources.s3_inventory import S3InventorySource
from dedup_spark.sources.table import TableSource

Files = list[tuple[str, bytes]]
Write = Callable[[Path, bytes], Source]
_ROWS = [{"uri": f"s3://lake/{i:03} é.jpg", "size_bytes": i, "modified_at": "2026-11-23T12:00:00Z", "note": 'a "b", c'}
         for i in range(30)]  # fmt: skip


def csv_manifest() -> Files:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(_ROWS[0]))
    writer.writeheader()
    writer.writerows(_ROWS)
    return [("csv", text.getvalue().encode())]


def parquet_manifest() -> Files:
    return [(compression, _parquet(pa.Table.from_pylist(_ROWS), compression)) for compression in ("none", "snappy")]


def table() -> Files:
    rows = pa.table({"image": pa.array([b"bytes %d" % i for i in range(30)]), "name": [str(i) for i in range(30)]})
    return [(compression, _parquet(rows, compression)) for compression in ("none", "zstd")]


def inventory() -> Files:
    """The data file of an S3 Inventory, before it is compressed."""
    lines = (f'"lake","photos/{i}+%C3%A9.jpg","{i}","2026-11-23T12:00:00.000Z"\n' for i in range(30))
    return [("csv", "".join(lines).encode())]


def _parquet(rows: pa.Table, compression: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out, compression=compression, row_group_size=10)
    return out.getvalue()


def write_csv(folder: Path, data: bytes) -> Source:
    (folder / "m.csv").write_bytes(data)
    return ManifestSource(f"{folder}/m.csv")


def write_parquet(folder: Path, data: bytes) -> Source:
    (folder / "m.parquet").write_bytes(data)
    return ManifestSource(f"{folder}/m.parquet")


def write_table(folder: Path, data: bytes) -> Source:
    (folder / "t.parquet").write_bytes(data)
    return TableSource(f"{folder}/t.parquet")


def write_inventory(folder: Path, data: bytes) -> Source:
    packed = gzip.compress(data)
    (folder / "0.csv.gz").write_bytes(packed)
    report = {
        "destinationBucket": "arn:aws:s3:::reports", "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate", "files": [{"key": "data/0.csv.gz", "size": len(packed)}],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(report))
    return S3InventorySource(f"{folder}/manifest.json")


def whole_lines(data: bytes, sound: bytes) -> int:
    """How many lines stand in front of the first changed byte."""
    n = min(len(data), len(sound))
    differing = np.flatnonzero(np.frombuffer(data, np.uint8, n) != np.frombuffer(sound, np.uint8, n))
    return sound[: int(differing[0]) if differing.size else n].count(b"\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "write"),
    [(csv_manifest, write_csv), (parquet_manifest, write_parquet), (table, write_table), (inventory, write_inventory)],
)
def test_a_damaged_listing_has_rows_or_a_sentence(
    make: Callable[[], Files], write: Write, spark: SparkSession, tmp_path: Path
) -> None:
    """Of a text every row in front of the damage is listed."""
    numbers = itertools.count()
    n_header = 1 if make is csv_manifest else 0

    def read(data: bytes) -> str:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        source = write(folder, data)
        try:
            with spark_reader.listing_errors(source.root):
                rows = source.list_images(spark).collect()
        except (ConfigError, SourceError) as e:
            assert "Traceback" not in str(e)
            return "refused"
        if make in (csv_manifest, inventory):
            assert len(rows) >= whole_lines(data, make()[0][1]) - n_header
        return "ok"

    outcomes = campaign(make.__name__, make(), read, LONG_SECONDS / 6)
    assert outcomes.total()
