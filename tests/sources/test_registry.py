"""Which source serves an address: the rules of sources/registry.py, one by one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from dedup_spark.config import InventorySettings
from dedup_spark.errors import ConfigError
from dedup_spark.sources.base import Source
from dedup_spark.sources.binary_file import BinaryFileSource
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.manifest import ManifestSource
from dedup_spark.sources.registry import open_source
from dedup_spark.sources.s3_inventory import S3InventorySource
from dedup_spark.sources.table import TableSource
from dedup_spark.sources.tar import TarSource

AUTO = InventorySettings()
HOLDS_BYTES = pa.table({"id": [1], "image": [{"bytes": b"1", "path": "a"}]})
NO_BYTES = pa.table({"uri": ["a.jpg"], "size_bytes": [1]})


@pytest.mark.parametrize(
    ("lake", "kind"),
    [
        ("/data/list.csv", ManifestSource),
        ("s3://bucket/LIST.CSV.gz", ManifestSource),
        ("s3://reports/lake/all/2026-11-23T01-00Z/manifest.json", S3InventorySource),
        ("/data/shard-0001.tar", TarSource),
        ("s3://bucket/shards/train-*.tar", TarSource),
        ("/data/shards/*.tar*", TarSource),
        ("/data/photos.tar.gz", TarSource),
        ("/data/photos", FolderSource),
        ("/data/photos.csv/", ManifestSource),
        ("memory://lake/photos", FolderSource),
    ],
)
def test_the_name_decides(lake: str, kind: type[Source]) -> None:
    assert type(open_source(lake, AUTO)) is kind


@pytest.mark.parametrize(("rows", "kind"), [(HOLDS_BYTES, TableSource), (NO_BYTES, ManifestSource)])
@pytest.mark.parametrize("form", ["file", "folder", "delta"])
def test_the_columns_of_a_table_decide(form: str, rows: pa.Table, kind: type[Source], tmp_path: Path) -> None:
    path = tmp_path / ("table" if form == "delta" else "table.parquet")
    if form == "delta":
        write_deltalake(path, rows)
    elif form == "folder":
        (path / "data").mkdir(parents=True)
        (path / "data" / "_SUCCESS.parquet").write_bytes(b"")
        pq.write_table(rows, path / "data" / "train-0.parquet")
    else:
        pq.write_table(rows, path)
    assert type(open_source(str(path), AUTO)) is kind
    assert type(open_source(open_source(str(path), AUTO).root, AUTO)) is kind


def test_a_named_bytes_column_makes_it_a_table(tmp_path: Path) -> None:
    pq.write_table(NO_BYTES, tmp_path / "t.parquet")
    source = open_source(str(tmp_path / "t.parquet"), InventorySettings(bytes_column="image", key_column="id"))
    assert source == TableSource(str(tmp_path / "t.parquet"), "image", "id")


def test_the_setting_overrules_the_name() -> None:
    assert open_source("/data/list.csv", InventorySettings(source="folder")) == FolderSource("/data/list.csv")
    source = open_source("s3a://b/x", InventorySettings(source="binary_file", max_binary_files=7))
    assert source == BinaryFileSource("s3a://b/x", max_files=7)
    assert open_source("/x", InventorySettings(source="tar", skip_hidden=False)) == TarSource("/x", skip_hidden=False)


def test_a_table_that_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file, or a folder without Parquet files"):
        open_source(str(tmp_path / "none.parquet"), AUTO)
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        open_source(str(tmp_path / "text.parquet"), AUTO)
