"""Which source serves a lake: the one that `inventory.source` names; with `auto` the first rule that fits.

1. a name ending in `.csv`, `.csv.gz` or `.csv.bz2`: a manifest
2. `manifest.json`: an S3 Inventory (a folder with its dated reports needs `inventory.source`)
3. a name ending in `.tar`, or a glob whose last part has it: tar files; compressed ones too, which are then refused
4. a name ending in `.parquet`, or a folder that holds a `_delta_log`: a table when a column holds bytes (BINARY, or
   a struct with BINARY `bytes`) or `inventory.bytes_column` is set, otherwise a manifest
5. anything else: a folder

So a folder of tar or Parquet files without such a name is a folder of objects unless `inventory.source` says
otherwise, and `auto` never chooses `binary_file`. Only rule 4 reads from the lake, on the driver: whether there is a
`_delta_log`, and the schema of one data file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from dedup_spark.config import InventorySettings
from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses, names, parquet_rows
from dedup_spark.sources.base import Source
from dedup_spark.sources.binary_file import BinaryFileSource
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.manifest import CSV_SUFFIXES, ManifestSource
from dedup_spark.sources.s3_inventory import MANIFEST_NAME, S3InventorySource
from dedup_spark.sources.table import PARQUET_SUFFIXES, TableSource, is_delta
from dedup_spark.sources.tar import COMPRESSED_NAME, TAR_NAME, TarSource

_MAKERS: dict[str, Callable[[str, InventorySettings], Source]] = {
    "folder": lambda lake, settings: FolderSource(lake, settings.skip_hidden),
    "manifest": lambda lake, settings: ManifestSource(lake),
    "s3_inventory": lambda lake, settings: S3InventorySource(lake, settings.skip_hidden),
    "tar": lambda lake, settings: TarSource(lake, settings.skip_hidden),
    "table": lambda lake, settings: TableSource(lake, settings.bytes_column, settings.key_column),
    "binary_file": lambda lake, settings: BinaryFileSource(lake, settings.max_binary_files),
}


def open_source(lake: str, settings: InventorySettings) -> Source:
    """The source for an address, which may also be the `root` of a source opened before with the same settings.

    Raises:
        ConfigError: rule 4 has to read from the lake and cannot.
    """
    kind = settings.source if settings.source != "auto" else _kind(lake, settings)
    return _MAKERS[kind](lake, settings)


def _kind(lake: str, settings: InventorySettings) -> str:
    name = lake.rstrip("/").rpartition("/")[2]
    if name.lower().endswith(CSV_SUFFIXES):
        return "manifest"
    if name == MANIFEST_NAME:
        return "s3_inventory"
    if re.search(TAR_NAME, name) or re.search(COMPRESSED_NAME, name) or ("*" in name and ".tar" in name):
        return "tar"
    uri = addresses.to_uri(lake)
    if not (name.lower().endswith(PARQUET_SUFFIXES) or (addresses.kind_of(uri) == "folder" and is_delta(uri))):
        return "folder"
    holds_bytes = bool(settings.bytes_column) or any(parquet_rows.bytes_columns(_schema(uri)))
    return "table" if holds_bytes else "manifest"


def _schema(uri: str) -> pa.Schema:
    """The schema of the Parquet file, or of the first one in the folder."""
    file = uri if addresses.kind_of(uri) == "file" else next(_parquet_files(uri), None)
    if file is None:
        raise ConfigError(f"lake {uri}: no such file, or a folder without Parquet files")
    try:
        with parquet_rows.open_bytes(file) as f:
            return pq.read_schema(f)
    except (OSError, pa.ArrowInvalid) as e:
        raise ConfigError(f"{file}: cannot be read as Parquet: {e}") from e


def _parquet_files(folder: str) -> Iterator[str]:
    if addresses.is_remote(folder):
        filesystem, path = addresses.open_store(folder)
        found = ((top, files) for top, _, files in filesystem.walk(path))
    else:
        path = addresses.to_path(folder)
        found = ((names.to_text(top), map(names.to_text, files)) for top, _, files in os.walk(path))
    for top, files in found:
        for name in sorted(files):
            if name.lower().endswith(PARQUET_SUFFIXES) and not name.startswith((".", "_")) and "_delta_log" not in top:
                yield f"{folder}{top.removeprefix(names.to_text(path.rstrip('/')))}/{name}"
