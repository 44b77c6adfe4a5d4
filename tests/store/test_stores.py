"""What is said where the package or the library for a store is missing."""

from __future__ import annotations

import importlib
import sys

import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.sources.addresses import kind_of, open_for_reading
from dedup_spark.store import files
from dedup_spark.store.stores import spark_needs, what_is_missing

MISSING = [
    ("s3://b/k", "s3fs", "s3"), ("s3a://b/k", "s3fs", "s3"), ("abfss://c@a.dfs.core.windows.net/k", "adlfs", "azure"),
    ("wasbs://c@a.blob.core.windows.net/k", "adlfs", "azure"), ("gs://b/k", "gcsfs", "gcs"),
]  # fmt: skip


def uninstall(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it fails, and fsspec has not done so yet."""
    monkeypatch.setitem(sys.modules, package, None)
    loaded = importlib.import_module("fsspec.registry")._registry  # fsspec.registry itself is a view of this dict
    for scheme in ("s3", "s3a", "abfs", "az", "gs", "gcs"):
        monkeypatch.delitem(loaded, scheme, raising=False)


@pytest.mark.parametrize(("uri", "package", "extra"), MISSING)
def test_the_package_of_a_store_is_named_with_the_extra_that_installs_it(
    uri: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall(package, monkeypatch)
    with pytest.raises(ImportError) as e:
        files.open_filesystem(uri)
    scheme = uri.partition("://")[0]
    assert str(e.value).startswith(f"{scheme}:// needs the package {package} on the driver and on all executors")
    assert f"(`pip install 'dedup-spark[{extra}]'`)" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_lake_whose_package_is_missing_is_refused_before_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall("gcsfs", monkeypatch)
    with pytest.raises(ConfigError, match=r"^gs://b/lake: cannot be looked at: gs:// needs the package gcsfs"):
        kind_of("gs://b/lake")


def test_a_task_whose_node_lacks_the_package_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall("s3fs", monkeypatch)
    open_for_reading.cache_clear()
    with pytest.raises(ImportError, match="s3:// needs the package s3fs"):
        open_for_reading("s3://b")


@pytest.mark.parametrize(
    "said",
    [
        "Unable to load libjvm\ndlopen(/usr/lib/jvm/libjvm.so) failed: no such file\n\tdlopen(...)",
        "Unable to load libhdfs: libhdfs.so: cannot open shared object file",
        "HDFS connection failed",
    ],
)
def test_a_machine_without_hadoop_is_told_what_hdfs_needs(said: str) -> None:
    says = r"JAVA_HOME, HADOOP_HOME.*CLASSPATH=\$\(hadoop classpath --glob\)"
    with pytest.raises(ImportError, match=says) as e, what_is_missing("hdfs://node:8020/lake"):
        raise OSError(said)
    assert "\n" not in str(e.value)


def test_a_fault_of_a_store_that_may_pass_stays_one() -> None:
    for uri in ("hdfs://node/lake", "s3://b/k"):
        with pytest.raises(OSError, match="timed out"), what_is_missing(uri):
            raise TimeoutError("timed out")


def test_a_scheme_that_python_does_not_know_is_left_to_spark_by_a_setting() -> None:
    with pytest.raises(ValueError, match=r"Protocol not known: viewfs; .* --set inventory\.source=binary_file"):
        files.open_filesystem("viewfs://cluster/lake")


@pytest.mark.parametrize(
    ("uri", "said", "needs"),
    [
        ("s3://b/t", 'UnsupportedFileSystemException: No FileSystem for scheme "s3"', "hadoop-aws"),
        ("s3a://b/t", "ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found", "hadoop-aws"),
        ("abfss://c@a/t", "ClassNotFoundException: Class org.x.SecureAzureBlobFileSystem not found", "hadoop-azure"),
        ("gs://b/t", 'No FileSystem for scheme "gs"', "gcs-connector"),
        ("oss://b/t", 'No FileSystem for scheme "oss"', "Hadoop's package for oss://"),
        ("/local/t", "ClassNotFoundException: org.x.Y", ""),
        ("s3a://b/t", "AccessDeniedException: 403", ""),
    ],
)
def test_what_spark_lacks_for_a_store_is_named(uri: str, said: str, needs: str) -> None:
    found = spark_needs(uri, said)
    assert (needs in found) if needs else found == ""
