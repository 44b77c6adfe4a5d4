"""Which source serves an address: the rules of sources/registry.py, one by one."""

from __future__ import annotations

import io
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


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def parquet(rows: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(rows, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"0.tar": b"", "0.parquet": parquet(NO_BYTES), "0_stats.json": b""}, TarSource),
        ({"a/b/0.TAR": b"", "README.md": b"#"}, TarSource),
        ({"old.tar.gz": b""}, TarSource),
        ({"0.parquet": parquet(HOLDS_BYTES), "0_stats.json": b""}, TableSource),
        ({"README.md": b"", "data/train-0.parquet": parquet(HOLDS_BYTES), ".gitattributes": b""}, TableSource),
        ({"part-0.parquet": parquet(NO_BYTES), "_SUCCESS": b""}, ManifestSource),
        ({"0/1.jpg": b"", "0/1.json": b"", "0.parquet": parquet(NO_BYTES), "0_stats.json": b""}, FolderSource),
        ({"0.tar": b"", "photo.jpg": b""}, FolderSource),
        ({"0.tar": b"", "IMG_0001": b""}, FolderSource),
        ({"a.txt": b"caption"}, FolderSource),
        ({"a.zip": b"PK"}, FolderSource),
        ({}, FolderSource),
    ],
    ids=str,
)
def test_auto_looks_into_a_folder(files: dict[str, bytes], kind: type[Source], tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path, files)), AUTO)
    assert type(source) is kind
    assert type(open_source(source.root, AUTO)) is kind


def test_auto_looks_at_some_names_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{n}.tar": b"" for n in range(30)} | {f"sub/{n}/a.json": b"" for n in range(40)})
    seen: list[str] = []
    look = FolderSource.first_entries
    monkeypatch.setattr(FolderSource, "first_entries", lambda self, at, n: (seen.append(at), look(self, at, n))[1])
    assert type(open_source(str(tmp_path), AUTO)) is TarSource
    assert len(seen) == 20


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
