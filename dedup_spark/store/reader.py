"""The tables without Spark: as Arrow, by the package `deltalake`, an implementation of Delta of its own.

For notebooks on a laptop, for services and for tests. It reads tables only: the views are SQL (`view_definitions.py`),
and `dedup_spark.sql(None, ...)` answers that without Spark too (`duck.py`). Tables in a catalog are read from the
folder where the catalog keeps them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.fs as fs

from dedup_spark.did_you_mean import did_you_mean
from dedup_spark.errors import ConfigError, TableError
from dedup_spark.store import dbfs
from dedup_spark.store.schema import ALL, Table
from dedup_spark.store.table_format import read_format
from dedup_spark.store.view_definitions import VIEWS

if TYPE_CHECKING:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

_S3 = ("s3://", "s3a://", "s3n://")
_OF_S3FS = {
    "key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL", "region_name": "AWS_REGION",
}  # fmt: skip
"""What fsspec calls the settings of S3, and what delta-rs calls them."""


def read_table(
    name: str,
    *,
    tables: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
    version: int | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> pa.Table:
    """Rows of one table, in memory: `read_table("clusters", tables="out", columns=["image_id", "cluster_id"])`.

    Args:
        name: `images`, `features`, `pairs`, `clusters`, `runs`, ...: see `store/schema.py`.
        tables: Where the tables live: a local path or a URI of S3, ADLS or GCS.
        columns: Those wanted, in this order; None: all. `features` has 12 KB per row with its thumbnail and embedding.
        where: Which rows: `pyarrow.compute.field("is_keeper")`. Files that cannot hold such rows are not read.
        version: Of the table, a number of Delta; None: the newest.
        storage_options: For the store, by the names of delta-rs (`AWS_ENDPOINT_URL`, ...). They go before those that
            fsspec is configured with; what neither names is taken from the environment.

    Raises:
        ConfigError: no such table or column, or the package `deltalake` is missing.
        TableError: the table is not there, or a newer version of dedup_spark wrote it.
    """
    found = open_table(name, tables=tables, version=version, storage_options=storage_options)
    unknown = [column for column in columns or () if column not in found.schema.names]
    if unknown:
        raise ConfigError(f"table '{name}' has no column {', '.join(unknown)}; it has {', '.join(found.schema.names)}")
    return found.to_table(columns=list(columns) if columns is not None else None, filter=where)


def open_table(
    name: str,
    *,
    tables: str | os.PathLike[str],
    version: int | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> ds.Dataset:
    """One table as a dataset of Arrow, of which nothing is read yet: for scans by batch, DuckDB or Polars.

    Arguments and errors as of `read_table`.
    """
    table, root = _named(name), root_of(os.fspath(tables))
    _deltalake()
    read_format(root, None)  # a table of a newer version may mean something else
    return dataset_of(root, table, version, storage_options)


def dataset_of(
    root: str, table: Table, version: int | None = None, storage_options: Mapping[str, str] | None = None
) -> ds.Dataset:
    """The dataset of one table; `root` as `root_of` gives it. Raises TableError where it cannot be opened."""
    place = f"{root}/{table.name}"
    options = _options(root, storage_options or {})
    return _opened(place, table, version, options).to_pyarrow_dataset(filesystem=_filesystem(place, options))


def newest_version(root: str, table: Table, storage_options: Mapping[str, str] | None = None) -> int:
    """The number of its newest commit; `root` as `root_of` gives it. Raises TableError where it cannot be opened."""
    version: int = _opened(f"{root}/{table.name}", table, None, _options(root, storage_options or {})).version()
    return version


def _opened(place: str, table: Table, version: int | None, options: dict[str, str]) -> Any:
    deltalake = _deltalake()
    try:
        return deltalake.DeltaTable(place, version=version, storage_options=options)
    except deltalake.exceptions.TableNotFoundError as e:
        raise TableError(f"table '{table.name}' not found at {place}: run the earlier steps first") from e
    except (deltalake.exceptions.DeltaError, OSError) as e:
        raise TableError(f"table '{table.name}' at {place} cannot be read: {str(e).strip().splitlines()[0]}") from e


def _named(name: str) -> Table:
    known = {table.name: table for table in ALL}
    if name in known:
        return known[name]
    if name in {view.name for view in VIEWS}:
        raise ConfigError(
            f"'{name}' is a view, SQL that needs an engine: query it by dedup_spark.sql(None, ...). Without an engine "
            f"there are the tables {', '.join(known)}"
        )
    raise ConfigError(f"no table '{name}'{did_you_mean(name, known) or f': {", ".join(known)}'}")


def root_of(tables: str) -> str:
    """The root of tables as delta-rs and fsspec both take it."""
    if tables.startswith("s3n://"):
        return "s3://" + tables.removeprefix("s3n://").rstrip("/")
    if tables.startswith("file:"):
        return os.path.realpath(re.sub("^file:/+", "/", tables))
    if tables.lower().startswith("dbfs:"):
        return os.path.realpath(dbfs.to_path(tables))
    return tables.rstrip("/") if "://" in tables else os.path.realpath(os.path.expanduser(tables))


def _options(root: str, given: Mapping[str, str]) -> dict[str, str]:
    """The storage options for delta-rs."""
    if not root.startswith(_S3):
        return dict(given)
    configured: dict[str, Any] = dict(fsspec.config.conf.get("s3", {}))
    known = configured | configured.get("client_kwargs", {})
    options = {ours: str(known[theirs]) for theirs, ours in _OF_S3FS.items() if known.get(theirs)}
    if known.get("anon"):
        options["AWS_SKIP_SIGNATURE"] = "true"
    options |= given
    if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options.setdefault("AWS_ALLOW_HTTP", "true")
    return options


def _filesystem(place: str, options: Mapping[str, str]) -> fs.FileSystem | None:
    """Arrow's own, below the folder of the table; None: that of deltalake.

    That one is Python called from threads of Arrow, and of 25 processes that read one small table by it 2 were aborted
    as they ended ("terminate called without an active exception").
    """
    if place.startswith(_S3):
        store = fs.S3FileSystem(
            access_key=options.get("AWS_ACCESS_KEY_ID"),
            secret_key=options.get("AWS_SECRET_ACCESS_KEY"),
            session_token=options.get("AWS_SESSION_TOKEN"),
            region=options.get("AWS_REGION"),
            endpoint_override=options.get("AWS_ENDPOINT_URL"),
            anonymous=options.get("AWS_SKIP_SIGNATURE") == "true",
        )
        return fs.SubTreeFileSystem(place.partition("://")[2], store)
    return None if "://" in place else fs.SubTreeFileSystem(place, fs.LocalFileSystem())


def _deltalake() -> Any:
    try:
        import deltalake.exceptions
    except ImportError as e:
        raise ConfigError("to read tables without Spark needs deltalake: `pip install 'dedup-spark[reader]'`") from e
    return deltalake
