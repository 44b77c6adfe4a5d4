"""What each kind of store needs besides this package: for Python, by fsspec, and for Spark, by Hadoop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class _Store:
    """`python`: the package that Python reads it by, and `extra` installs. `hadoop`: the jar that Spark needs."""

    python: str
    extra: str
    hadoop: str


_S3 = _Store("s3fs", "s3", "org.apache.hadoop:hadoop-aws of Spark's Hadoop version, and an address that begins s3a://")
_AZURE = _Store("adlfs", "azure", "org.apache.hadoop:hadoop-azure of Spark's Hadoop version")
_GCS = _Store("gcsfs", "gcs", "Google's connector (gcs-connector-hadoop3, shaded)")
_STORES = {
    **dict.fromkeys(("s3", "s3a", "s3n"), _S3),
    **dict.fromkeys(("abfs", "abfss", "az", "wasb", "wasbs"), _AZURE),
    **dict.fromkeys(("gs", "gcs"), _GCS),
}
_HDFS = (
    "hdfs:// is read by pyarrow through Hadoop's client, which is not found on this machine ({}): set JAVA_HOME, "
    "HADOOP_HOME (or ARROW_LIBHDFS_DIR, the folder of libhdfs.so) and CLASSPATH=$(hadoop classpath --glob) on the "
    "driver and on all executors (spark.executorEnv.CLASSPATH, ...), or use webhdfs://"
)
_UNKNOWN = (
    "Protocol not known: {0}; Python reads s3://, abfss://, gs://, hdfs://, webhdfs://, https:// and folders. A lake "
    "at {0}:// can be listed and read by Spark: --set inventory.source=binary_file"
)


@contextmanager
def what_is_missing(uri: str) -> Iterator[None]:
    """Where the filesystem of `uri` cannot be opened for want of a package, say in one sentence what to install.

    Raises:
        ImportError: this machine lacks the package, or the libraries of the package for HDFS.
        ValueError: Python knows no such scheme.
    """
    scheme = uri.partition("://")[0].lower()
    try:
        yield
    except ImportError as e:
        raise ImportError(_to_install(scheme, e)) from e
    except ValueError as e:
        raise ValueError(_UNKNOWN.format(scheme) if "Protocol not known" in str(e) else str(e)) from e
    except OSError as e:
        if scheme != "hdfs" or not _is_library_missing(e):
            raise
        raise ImportError(_HDFS.format(_first_line(e))) from e


def spark_needs(uri: str, said: str) -> str:
    """What Spark lacks for a store, by what Hadoop said; empty where that is not why it failed."""
    scheme = uri.partition("://")[0].lower()
    if "://" not in uri or not any(sign in said for sign in ("No FileSystem for scheme", "ClassNotFoundException")):
        return ""
    store = _STORES.get(scheme)
    return f"; Spark needs {store.hadoop}" if store else f"; Spark needs Hadoop's package for {scheme}://"


def _to_install(scheme: str, e: ImportError) -> str:
    store = _STORES.get(scheme)
    if store is None:
        return f"{scheme}:// needs a package that is not installed here: {_first_line(e)}"
    return (
        f"{scheme}:// needs the package {store.python} on the driver and on all executors "
        f"(`pip install 'dedup-spark[{store.extra}]'`): {_first_line(e)}"
    )


def _is_library_missing(e: OSError) -> bool:
    return any(word in str(e) for word in ("libjvm", "libhdfs", "HDFS connection failed"))


def _first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
