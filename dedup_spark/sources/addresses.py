"""One address in the spellings of its readers: ours (`file://`, literal text), fsspec's and Hadoop's."""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import fsspec
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from dedup_spark import storage
from dedup_spark.errors import ConfigError
from dedup_spark.sources import names

_FILE = "^file:/+"


def is_remote(address: str) -> bool:
    """Whether `address` is a URI of a store; plain paths and `file:` are local."""
    return "://" in address and not address.startswith("file:")


def to_uri(address: str) -> str:
    """The normalised form: `file://` and the real path of what is local; else as it is, without a last slash."""
    if is_remote(address):
        return address.rstrip("/")
    path = "/" + address.removeprefix("file:").lstrip("/") if address.startswith("file:") else address
    return "file://" + names.to_text(os.path.realpath(os.path.expanduser(path)).rstrip("/"))


def to_path(uri: str) -> str:
    """The local path of a `file://` URI, as `open` takes it."""
    return names.from_text(uri.removeprefix("file://")) or "/"


def split_store(uri: str) -> tuple[str, str]:
    """`s3://bucket/a::b?c` to (`s3://bucket`, `a::b?c`): nothing in a name is taken for syntax."""
    scheme, _, rest = uri.partition("://")
    authority, _, path = rest.partition("/")
    return f"{scheme}://{authority}", path


def open_store(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem and the path in it; as `storage.open_filesystem`, for any name that a store can hold."""
    if not is_remote(uri):
        return fsspec.filesystem("file"), to_path(uri)
    store, path = split_store(uri)
    filesystem, base = storage.open_filesystem(store)
    return filesystem, f"{base.rstrip('/')}/{path}" if path else base


def kind_of(uri: str) -> str | None:
    """`file`, `folder`, or None when there is nothing; a look by the driver.

    Raises:
        ConfigError: the store cannot be asked: no package for the scheme, no credentials, no access.
    """
    if not is_remote(uri):
        path = to_path(uri)
        return "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else None
    try:
        filesystem, path = open_store(uri)
        facts: dict[str, Any] = filesystem.info(path)
    except FileNotFoundError:
        return None
    except Exception as e:  # each store has error types of its own, not all of them OSError
        raise ConfigError(f"{uri}: cannot be looked at: {type(e).__name__}: {e}") from e
    return "folder" if facts["type"] == "directory" else "file"


def to_hadoop(spark: SparkSession, uri: str, *, literal: bool = True) -> str:
    """For Spark's readers: glob characters escaped, and `s3:` as `s3a:` where Hadoop knows only that.

    With `literal` false they are not escaped, for readers that expand no globs (Delta).
    """
    store, path = split_store(uri)
    if store.startswith("s3://") and not _hadoop_conf(spark).get("fs.s3.impl"):
        store = "s3a://" + store.removeprefix("s3://")
    return f"{store}/" + (re.sub(r"([\[\]{}*?\\])", r"\\\1", path) if literal else path)


def from_hadoop(path: Column) -> Column:
    """What Hadoop calls `file:/a` is `file:///a` here; other schemes are left as they are."""
    return F.regexp_replace(path, _FILE, "file:///")


def file_uri(path: str) -> str:
    """The same for one path on the driver."""
    return re.sub(_FILE, "file:///", path)


def _hadoop_conf(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.hadoopConfiguration()


@functools.cache
def open_for_reading(store: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a store (`s3://bucket`) for whole objects and ranges, kept by the process.

    s3fs would ask for the size first, read in concurrent parts, try five times, and botocore five times within
    each: here one read is one request, and trying again is left to `fetching.py`, which counts it.
    """
    if not store.startswith(("s3://", "s3a://", "s3n://")):
        return storage.open_filesystem(store)
    configured = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    once = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 256, **configured}
    filesystem = fsspec.filesystem("s3", max_concurrency=1, config_kwargs=once)
    filesystem.retries = 1
    return filesystem, store.partition("://")[2]
