"""One address for one object, and its spellings for fsspec and Hadoop.

`canonical` is the one place where addresses get their form, whether they come from a person, a manifest, a listing or
a table. Two spellings that a store takes for one object become one address; two keys of a store stay two. A local file
is identified by its real path; where a file system takes two spellings for one file, `images.file_id` is equal.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from dedup_spark.errors import ConfigError
from dedup_spark.redaction import require_no_key, without_key, without_userinfo
from dedup_spark.sources import names
from dedup_spark.sources.times import modified_at
from dedup_spark.store import files
from dedup_spark.store.stores import what_is_missing

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NO_AUTHORITY = re.compile(r"(file|local|dbfs|hdfs(?=:/)|viewfs(?=:/)):(?!//)", re.IGNORECASE)
"""Schemes that are also written without an authority: `file:/a`, `dbfs:/a`."""
_ON_DISK = ("file", "local", "dbfs")
"""`local` is fsspec's other name of `file`."""
_LONGEST_PATH = 2**14
"""Of characters in which links are looked for, four times what Linux opens: no file has a longer one, and to look at
each part of one takes time that grows with its square."""
_AZURE = dict.fromkeys(("abfs", "wasb", "wasbs", "az"), "abfss")
_SAME_SCHEME = {"s3a": "s3", "s3n": "s3", "gcs": "gs", **_AZURE}
_LITERAL = ("s3://", "gs://")
"""An address that begins with one of these is canonical as it is: bucket and key are literal."""
_TREES = ("hdfs", "viewfs", "webhdfs", "swebhdfs")
"""File systems with real folders, where `//`, `.` and `..` are no part of a name."""
_DEFAULT_PORT = {"hdfs": ":8020", "http": ":80", "https": ":443"}
_AZURE_ENDPOINT = re.compile(r"\.(dfs|blob)\.")
_LOCALHOST = re.compile(r"^localhost(?=/|$)", re.IGNORECASE)
_GLOB_CHARACTER = r"[\[\]{}*?\\]"
_GLOB = re.compile(r"[*?\[]")
_HERE = re.compile(r"^(\./+)+")
"""`./` in front of a relative address is no part of a key."""


def canonical(address: str, folder: str = "") -> str:
    """The one spelling of an address; `canonical(canonical(a)) == canonical(a)`. It uses no network.

    Relative addresses count from `folder`, which is canonical itself, or from the working directory without it.
    In object stores a key is literal: a doubled slash, `.`, another case or Unicode form, `%`, `+` make another key.
    Local addresses become `file://` and the real path: links are followed, and any column can hold the text (`names`).
    """
    if address.startswith(_LITERAL):
        return without_userinfo(address) if "@" in address else address
    named = _SCHEME.match(address) or _NO_AUTHORITY.match(address)
    if named is None:
        if is_remote(folder) and not address.startswith("/"):
            return canonical(f"{folder.rstrip('/')}/{_HERE.sub('', address)}")
        return _local(address, folder)
    scheme, rest = named[1].lower(), address[named.end() :]
    if scheme == "dbfs":
        return _local(f"/dbfs/{rest}", folder)  # where Databricks mounts it
    if scheme in ("file", "local"):
        return _local(f"/{_LOCALHOST.sub('', rest)}" if "://" in named[0] else rest, folder)
    return _in_store(_SAME_SCHEME.get(scheme, scheme), rest)


def _local(path: str, folder: str) -> str:
    base = "" if path.startswith("/") else f"{to_path(folder) if folder else Path.cwd()}/"
    if len(path) > _LONGEST_PATH:
        return "file://" + os.path.normpath("/" + (base + path).lstrip("/"))
    path = base + (_as_named(base, path) if names.holds_bytes(path) else path)
    path = _out_of_dbfs("/" + path.lstrip("/"))
    try:
        path = _out_of_dbfs(os.path.realpath(path))
    except ValueError:  # it holds a NUL or half of a surrogate pair: there is no such file
        path = os.path.normpath(path)
    return "file://" + names.to_text(path)


def _as_named(base: str, path: str) -> str:
    """`path` below `base` with the names as the disk has them: those of `names.to_text`, or, where there is no such
    file, those that a person wrote with private-use characters as they are."""
    found: list[str] = []
    for part in path.split("/"):
        as_text, literal = (f"{base}{'/'.join([*found, name])}" for name in (names.from_text(part), part))
        is_literal = not os.path.lexists(as_text) and os.path.lexists(literal)
        found.append(part if is_literal else names.from_text(part))
    return "/".join(found)


def _out_of_dbfs(path: str) -> str:
    """Databricks mounts its volumes at two places; this gives the shorter one."""
    return re.sub("^/dbfs/+Volumes(?=/|$)", "/Volumes", path)


def _in_store(scheme: str, rest: str) -> str:
    authority, slash, path = rest.partition("/")
    if scheme == "abfss":
        authority = _azure_container(authority)
    elif scheme in _DEFAULT_PORT:
        authority = authority.removesuffix(_DEFAULT_PORT[scheme])
    if scheme in ("http", "https"):
        return _on_the_web(scheme, rest)
    if scheme in _TREES and slash:
        path = posixpath.normpath("/" + path.lstrip("/"))[1:]
    return f"{scheme}://{authority}{slash}{path}"


def _on_the_web(scheme: str, rest: str) -> str:
    """The host in lower case and without its usual port; user names, passwords and signatures are no part of it."""
    authority, slash, path = without_key(f"{scheme}://{rest}").removeprefix(f"{scheme}://").partition("/")
    return f"{scheme}://{authority.lower().removesuffix(_DEFAULT_PORT[scheme])}{slash}{path}"


def _azure_container(authority: str) -> str:
    """`container@account.dfs.core.windows.net`: the two end points of an account (blob, dfs) lead to one store."""
    container, at, host = authority.rpartition("@")
    return f"{container}@" + _AZURE_ENDPOINT.sub(".dfs.", host.lower(), count=1) if at else authority


def is_remote(address: str) -> bool:
    """Whether `address` is a URI of a store; plain paths and `file:` are local."""
    named = _SCHEME.match(address)
    return named is not None and named[1].lower() not in _ON_DISK


def is_absolute(address: str) -> bool:
    """Whether `address` says by itself where it is: a URI, or a path from the root."""
    return address.startswith("/") or bool(_SCHEME.match(address) or _NO_AUTHORITY.match(address))


def to_uri(address: str) -> str:
    """The canonical address of a lake as a person writes it: `~` is their home, and a last slash means nothing."""
    require_no_key(address)
    store, path = split_store(canonical(os.path.expanduser(address)))
    return f"{store}/{path}".rstrip("/") if path.strip("/") else store


def to_prefix(address: str) -> str:
    """The canonical form of the beginning of addresses: a last slash stays, as it ends the name of a folder."""
    uri = canonical(os.path.expanduser(address))
    return f"{uri}/" if address.endswith("/") and not uri.endswith("/") else uri


def to_path(uri: str) -> str:
    """The local path of a `file://` URI, as `open` takes it."""
    return names.from_text(uri.removeprefix("file://")) or "/"


def split_store(uri: str) -> tuple[str, str]:
    """`s3://bucket/a::b?c` to (`s3://bucket`, `a::b?c`): nothing in a name is taken for syntax."""
    scheme, _, rest = uri.partition("://")
    authority, _, path = rest.partition("/")
    return f"{scheme}://{authority}", path


def open_store(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem and the path in it; takes any name that a store can hold."""
    if not is_remote(uri):
        return fsspec.filesystem("file"), to_path(uri)
    store, path = split_store(uri)
    filesystem, base = files.open_filesystem(store)
    return filesystem, f"{base.rstrip('/')}/{path}" if path else base


def kind_of(uri: str) -> str | None:
    """`file`, `folder`, or None when there is nothing at the address. The driver asks.

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
    except (ImportError, ValueError) as e:  # no package, no such scheme: a sentence says what to do
        raise ConfigError(f"{uri}: cannot be looked at: {e}") from e
    except Exception as e:  # each store has error types of its own, not all of them OSError
        raise ConfigError(f"{uri}: cannot be looked at: {type(e).__name__}: {e}") from e
    return "folder" if facts["type"] == "directory" else "file"


def folder_of(lake: str) -> str:
    """What relative addresses count from, in a file of the user about `lake`: the lake, or the folder of its files
    where it is one file or a glob. The driver asks.

    A lake in a store that no package of Python's knows is a folder: only Spark lists it.

    Raises:
        ConfigError: as kind_of, for other reasons.
    """
    try:
        kind = kind_of(lake)
    except ConfigError as e:
        if isinstance(e.__cause__, ValueError | ImportError):  # fsspec's errors for a scheme that it cannot serve
            return lake
        raise
    glob = _GLOB.search(lake) if kind is None else None
    end = len(lake) if kind == "file" else glob.start() if glob else None
    return lake if end is None else lake[: lake.rfind("/", 0, end)]


def last_written(uri: str) -> datetime | None:
    """When a file, or the newest file in the folder of a table, was written; None where the store does not say."""
    filesystem, path = open_store(uri)
    filesystem.invalidate_cache(path)
    if kind_of(uri) == "file":
        return modified_at(filesystem.info(path))
    found = filesystem.ls(path, detail=True)
    if kind_of(f"{uri}/_delta_log") == "folder":
        found += filesystem.ls(f"{path.rstrip('/')}/_delta_log", detail=True)
    return max(filter(None, (modified_at(facts) for facts in found if facts["type"] == "file")), default=None)


def to_hadoop(spark: SparkSession, uri: str, *, literal: bool = True) -> str:
    """The address for Spark's readers: glob characters are escaped, and `s3:` is `s3a:` where Hadoop knows only that.

    With `literal` false glob characters stay as they are, for readers that expand no globs (Delta).
    """
    store, path = split_store(uri)
    conf = hadoop_conf(spark)
    if store.startswith("s3://") and not conf.get("fs.s3.impl"):
        store = "s3a://" + store.removeprefix("s3://")
    if uri.startswith(("file:///Volumes/", "file:///dbfs/")) and conf.get("fs.dbfs.impl"):
        store, path = "dbfs:", path.removeprefix("dbfs/")
    return f"{store}/" + (re.sub(f"({_GLOB_CHARACTER})", r"\\\1", path) if literal else path)


def to_hadoop_column(spark: SparkSession, uri: Column, root: str, *, literal: bool = True) -> Column:
    """`to_hadoop` of each address below `root`."""
    from pyspark.sql import functions as F  # here, because commands that need no Spark canonicalise addresses too

    store, there = split_store(root)[0], to_hadoop(spark, root, literal=False)
    is_dbfs = there.startswith("dbfs:")
    prefix = "dbfs:/" if is_dbfs else f"{split_store(there)[0]}/"
    path = F.regexp_replace(uri, f"^{re.escape(store)}/{'(dbfs/)?' if is_dbfs else ''}", "")
    return F.concat(F.lit(prefix), F.regexp_replace(path, rf"({_GLOB_CHARACTER})", r"\\$1") if literal else path)


def is_globbed_in_vain(uri: Column) -> Column:
    """Whether Hadoop's globbing fails on the escaped address: it takes a name with a colon for one with a scheme."""
    from pyspark.sql import functions as F

    path = F.regexp_replace(uri, "^[^:]*://[^/]*/", "")
    return path.contains(":") & path.rlike(_GLOB_CHARACTER)


def from_hadoop(path: Column, root: str) -> Column:
    """Addresses of files below `root` as Hadoop writes them (`file:/a`, `s3a://b/a`), in the spelling of `root`.

    Links on the way to a local file are not resolved.
    """
    from pyspark.sql import functions as F

    below_store = F.regexp_replace(path, "^[A-Za-z][A-Za-z0-9+.-]*:(//[^/]*)?/", "")
    of_dbfs = path.rlike("^dbfs:/+(?!Volumes/)")
    store = F.when(of_dbfs, F.lit("file:///dbfs")).otherwise(F.lit(split_store(root)[0]))
    return F.concat(store, F.lit("/"), below_store)


def file_uri(path: str) -> str:
    """`file:///a` for what Hadoop calls `file:/a` on the driver."""
    return re.sub("^file:/+", "file:///", path)


def hadoop_conf(spark: SparkSession) -> Any:
    """A copy of Hadoop's settings as Spark's readers see them: with what was set on this session, credentials too."""
    return spark._jsparkSession.sessionState().newHadoopConf()


@functools.cache
def open_for_reading(store: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a store (`s3://bucket`) for reading whole objects and ranges; the process keeps it.

    By default s3fs asks for the size first, reads concurrent parts and tries five times, and botocore tries five times
    within each. Here one read is one request, and `fetching.py`, which counts attempts, alone tries again.
    """
    if not store.startswith(("s3://", "s3a://", "s3n://")):
        return files.open_filesystem(store)
    configured = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    once = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 256, **configured}
    with what_is_missing(store):
        filesystem = fsspec.filesystem("s3", max_concurrency=1, config_kwargs=once)
    filesystem.retries = 1
    return filesystem, store.partition("://")[2]
