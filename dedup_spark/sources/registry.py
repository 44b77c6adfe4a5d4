"""Which source serves a lake: the one that `inventory.source` names; with `auto` the first rule that fits.

1. a name ending in `.csv` or `.tsv`, also in `.gz`, `.bz2` or `.xz` of it: a manifest
2. `manifest.json`: an S3 Inventory (a folder with its dated reports needs `inventory.source`)
3. a name ending in `.tar`, or a glob whose last part has it: tar files; compressed ones too, which are then refused
4. a name ending in `.parquet`, or a folder that holds a `_delta_log`: a table when a column holds bytes (BINARY, or
   a struct with BINARY `bytes`), `inventory.bytes_column` is set, or one column of text begins as an image in Base64;
   otherwise a manifest
5. a folder in which tar files are found and nothing that may be an image: tar files; one in which Parquet files are
   found and neither: as in rule 4
6. anything else: a folder

`auto` never chooses `binary_file`. Rules 4 and 5 read from the lake, on the driver: whether there is a `_delta_log`,
the schema of one data file, and for rule 5 at most 1,000 names of each of the first 20 folders, which takes a request
per folder in S3. A folder source passes containers over and counts them, and a tar source what lies beside the tar
files.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from dedup_spark.config import InventorySettings
from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.sources import addresses, parquet_rows
from dedup_spark.sources.base import Source
from dedup_spark.sources.binary_file import BinaryFileSource
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.manifest import CSV_SUFFIXES, ManifestSource
from dedup_spark.sources.other_files import other_kind
from dedup_spark.sources.s3_inventory import MANIFEST_NAME, S3InventorySource
from dedup_spark.sources.table import PARQUET_SUFFIXES, TableSource, first_file, is_delta, schema_of
from dedup_spark.sources.tar import ANY_TAR_NAME, TarSource

_BY_COLUMNS = "by columns"
"""A kind for Parquet and Delta: `table` or `manifest`."""
_FOLDERS_LOOKED_AT, _NAMES_LOOKED_AT = 20, 1000

_MAKERS: dict[str, Callable[[str, InventorySettings], Source]] = {
    "folder": lambda lake, settings: FolderSource(lake, settings.skip_hidden),
    "manifest": lambda lake, settings: ManifestSource(lake, settings.allowed_prefixes),
    "s3_inventory": lambda lake, settings: S3InventorySource(lake, settings.skip_hidden, settings.allowed_prefixes),
    "tar": lambda lake, settings: TarSource(lake, settings.skip_hidden),
    "table": lambda lake, settings: TableSource(lake, settings.bytes_column, settings.key_column),
    "binary_file": lambda lake, settings: BinaryFileSource(lake, settings.max_binary_files),
}


def open_source(lake: str, settings: InventorySettings) -> Source:
    """The source for an address, which may also be the `root` of a source opened before with the same settings.

    Raises:
        ConfigError: rule 4 or 5 has to read from the lake and cannot.
    """
    kind = settings.source if settings.source != "auto" else _kind(lake)
    if kind == _BY_COLUMNS:
        kind, settings = _by_columns(addresses.to_uri(lake), settings)
    return _MAKERS[kind](lake, settings)


def _kind(lake: str) -> str:
    name = lake.rstrip("/").rpartition("/")[2]
    if name.lower().endswith(CSV_SUFFIXES):
        return "manifest"
    if name == MANIFEST_NAME:
        return "s3_inventory"
    if re.search(ANY_TAR_NAME, name) or ("*" in name and ".tar" in name):
        return "tar"
    if name.lower().endswith(PARQUET_SUFFIXES):
        return _BY_COLUMNS
    uri = addresses.to_uri(lake)
    if addresses.kind_of(uri) != "folder":
        return "folder"
    return _BY_COLUMNS if is_delta(uri) else _kind_of_files(uri)


def _by_columns(uri: str, settings: InventorySettings) -> tuple[str, InventorySettings]:
    """`table` or `manifest`, and the settings, which name a column of text that holds images."""
    schema = schema_of(uri)
    if settings.bytes_column or any(parquet_rows.bytes_columns(schema)):
        return "table", settings
    if "uri" in (name.strip().lower() for name in schema.names):
        return "manifest", settings
    texts = parquet_rows.base64_columns(first_file(uri))
    if len(texts) == 1:
        return "table", replace(settings, bytes_column=texts[0])
    return ("table" if texts or parquet_rows.list_columns(schema) else "manifest"), settings


def _kind_of_files(folder: str) -> str:
    """`tar` or _BY_COLUMNS where the first names show such files and nothing that may be an image; else `folder`."""
    source, kinds = FolderSource(folder), set[str | None]()
    waiting, n_folders = deque([folder]), 0
    with contextlib.suppress(SourceError, ConfigError):  # the listing meets it as well, and says it
        while waiting and n_folders < _FOLDERS_LOOKED_AT and None not in kinds:
            n_folders += 1
            for entry in source.first_entries(waiting.popleft(), _NAMES_LOOKED_AT):
                if entry.is_folder:
                    waiting.append(entry.uri)
                else:
                    kinds.add(_container(entry.uri))
    if None in kinds:
        return "folder"
    return next((kind for kind in ("tar", _BY_COLUMNS) if kind in kinds), "folder")


def _container(uri: str) -> str | None:
    """`tar` or _BY_COLUMNS for a container, `other` for another file that is no image; None where it may be one."""
    if re.search(ANY_TAR_NAME, uri):
        return "tar"
    if uri.lower().endswith(PARQUET_SUFFIXES):
        return _BY_COLUMNS
    return "other" if other_kind(uri) else None
