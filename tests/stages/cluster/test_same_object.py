"""The guard against one object under two names: pairs of addresses and facts, and what must be said of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fabricated import frame
from pyspark.sql import SparkSession

from dedup_spark.stages.cluster.same_object import FACTS, may_be_one_object
from dedup_spark.store.schema import FEATURES, IMAGES

_KINDS = IMAGES.schema.types | FEATURES.schema.types
_SCHEMA = ", ".join(f"{prefix}{name} {_KINDS[name]}" for prefix in ("", "near_") for name in FACTS)
AT = datetime(2024, 5, 1, 12, 0, 7, 250_000, tzinfo=UTC)
PLAIN = {"size_bytes": 100, "modified_at": AT, "content_hash": "x"}
DISK, OTHER_DISK = {"file_id": "host1/2049:77"}, {"file_id": "host1/2065:77"}
FUSE, OTHER_FUSE = {"file_id": "host1/51:5"}, {"file_id": "host1/52:9"}
NEXT, FAR, FAR_NEXT = ({"file_id": file_id} for file_id in ("host1/2049:78", "host2/7:77", "host2/7:78"))
IN_TAR = {"member": "a"}

Facts = dict[str, Any]


def one(uri: str, keeper_uri: str, member: Facts | None = None, keeper: Facts | None = None, **both: Any) -> tuple:
    return True, uri, keeper_uri, PLAIN | both | (member or {}), PLAIN | both | (keeper or {})


def two(uri: str, keeper_uri: str, member: Facts | None = None, keeper: Facts | None = None, **both: Any) -> tuple:
    return (False, *one(uri, keeper_uri, member, keeper, **both)[1:])


UNKNOWN = {"size_bytes": None, "modified_at": None}
CASES = {
    # spellings of one address, as tables of older versions hold them
    "s3a and s3": one("s3a://lake/a.jpg", "s3://lake/a.jpg", etag="e"),
    "s3n, other facts": one("s3n://lake/a.jpg", "s3://lake/a.jpg", {"size_bytes": 1, "content_hash": "y"}),
    "gcs and gs": one("gcs://lake/a.jpg", "gs://lake/a.jpg"),
    "wasbs and abfss": one("wasbs://c@acc.blob.core.windows.net/a", "abfss://c@acc.dfs.core.windows.net/a"),
    "abfs and its secondary": one("abfs://c@acc-secondary.dfs.core.windows.net/a", "abfss://c@acc.dfs.core.windows.net/a"),
    # stores that are named
    "two buckets": two("s3://one/a.jpg", "s3://two/a.jpg", etag="e"),
    "two buckets, a key of several lines": two("s3://one/p\nq/a.jpg", "s3://two/p\nq/a.jpg", etag="e"),
    "two keys": two("s3://lake/a/a.jpg", "s3://lake/b/a.jpg", etag="e"),
    "a doubled slash is a key of S3": two("s3://lake/x//a.jpg", "s3://lake/x/a.jpg", etag="e"),
    "a first slash is a key of S3": two("s3://lake//a.jpg", "s3://lake/a.jpg", etag="e"),
    "dots are a key of S3": two("s3://lake/x/../a.jpg", "s3a://lake/a.jpg", etag="e"),
    "case and normal form are keys of S3": two("s3://lake/Caf\u00e9.jpg", "s3://lake/cafe\u0301.jpg", etag="e"),
    "and of GCS": two("gs://lake/x//A.jpg", "gs://lake/x/a.jpg", etag="e"),
    "ADLS has folders": one("abfss://c@acc.dfs.core.windows.net/x//a", "abfss://c@acc.dfs.core.windows.net/x/a"),
    "two containers": two("abfss://c@acc.dfs.core.windows.net/a", "abfss://d@acc.dfs.core.windows.net/a"),
    "two accounts": two("abfss://c@one.dfs.core.windows.net/a", "abfss://c@two.dfs.core.windows.net/a"),
    "a container without its account": one("abfss://c/a.jpg", "abfss://c@acc.dfs.core.windows.net/a.jpg", etag="e"),
    "two containers, one without its account": two("abfss://d/a.jpg", "abfss://c@acc.dfs.core.windows.net/a.jpg"),
    # aliases of a bucket
    "an access point of Outposts": one("s3://p-0abc--op-s3/a.jpg", "s3://lake/a.jpg"),
    "an access point of a directory bucket": one("s3://p--usw2-az1--xa-s3/a.jpg", "s3://lake--usw2-az1--x-s3/a.jpg"),
    "a point of many regions": one("s3://mabc.mrap/a.jpg", "s3://lake/a.jpg"),
    "S3's form of another store's ETag": one("s3://lake/a.jpg", "gs://lake/a.jpg", {"etag": "e"}, {"etag": "f"}),
    "an access point": one("s3://photos-0abc-s3alias/x/a.jpg", "s3://lake/x/a.jpg", etag="e"),
    "an access point, another ETag": two("s3://p-0abc-s3alias/a.jpg", "s3://lake/a.jpg", {"etag": "e"}, {"etag": "f"}),
    "an object lambda": one("s3://lake/a.jpg", "s3://p-0abc--ol-s3/a.jpg"),
    "an access point by its ARN": one("s3://arn:aws:s3:eu-west-1:123:accesspoint/p/a.jpg", "s3://lake/a.jpg"),
    "two keys of one alias": two("s3://p-0abc-s3alias/x/a.jpg", "s3://p-0abc-s3alias/y/a.jpg"),
    "a shortcut of OneLake": one("abfss://w@onelake.dfs.fabric.microsoft.com/l/Files/s/a.jpg",
                                 "abfss://c@acc.dfs.core.windows.net/a.jpg"),
    "GCS by the protocol of S3": one("s3://lake/a.jpg", "gs://lake/a.jpg"),
    # files of disks
    "a hard link": one("file:///lake/a.jpg", "file:///lake/other.jpg", **DISK),
    "a hard link, listed before it grew": one("file:///lake/a.jpg", "file:///lake/b.jpg", {"size_bytes": 9}, **DISK),
    "two files": two("file:///lake/x/a.jpg", "file:///lake/y/a.jpg", NEXT, DISK),
    "two disks": two("file:///lake/a.jpg", "file:///backup/a.jpg", {"file_id": "host1/2065:5"}, DISK),
    "a disk and a pool that shows it": one("file:///mnt/pool/a.jpg", "file:///mnt/disk1/a.jpg", FUSE, DISK),
    "two mounts of one bucket": one("file:///mnt/bucket/photos/a.jpg", "file:///mnt/photos/a.jpg", FUSE, OTHER_FUSE),
    "two mounts, other facts": two("file:///mnt/x/a.jpg", "file:///mnt/y/a.jpg", FUSE, OTHER_FUSE | {"size_bytes": 9}),
    "two files of one mount": two("file:///mnt/x/a.jpg", "file:///mnt/y/a.jpg", FUSE, {"file_id": "host1/51:6"}),
    "two disks, one number by chance": two("file:///lake/a", "file:///b/b", OTHER_DISK, DISK | {"modified_at": None} |
                                           {"size_bytes": 99}),
    "a disk mounted twice": one("file:///lake/a.jpg", "file:///mnt/lake/a.jpg", OTHER_DISK, DISK),
    "a disk of two hosts": one("file:///lake/a.jpg", "file:///mnt/b.jpg", FAR | {"modified_at": None}, DISK),
    "two hosts, two files": two("file:///lake/a.jpg", "file:///mnt/b.jpg", FAR_NEXT, DISK),
    "two hosts that number a mounted store": one("file:///lake/a.jpg", "file:///mnt/a.jpg", FAR_NEXT, DISK),
    "nothing is numbered": two("file:///lake/a.jpg", "file:///lake/b.jpg", file_id="host1/99:0"),
    "a disk that knows no case": one("file:///lake/IMG/a.jpg", "file:///lake/img/A.JPG", **DISK),
    "a disk that knows case": two("file:///lake/IMG/a.jpg", "file:///lake/img/A.JPG", NEXT, DISK),
    # local files that nobody looked at
    "spellings in a manifest": one("file:///m/img//a.jpg", "file:///m/x/.././img/./a.jpg", **UNKNOWN),
    "normal forms": one("file:///m/caf\u00e9.jpg", "file:///m/cafe\u0301.jpg", **UNKNOWN),
    "a mounted folder": one("file:///mnt/lake/a.jpg", "file:///lake/a.jpg"),
    "a mounted folder, one not listed": one("file:///mnt/lake/a.jpg", "file:///lake/a.jpg", UNKNOWN),
    "nothing known, other bytes": two("file:///x/a.jpg", "file:///y/a.jpg", UNKNOWN | {"content_hash": "y"}),
    "two folders, another name": two("file:///mnt/lake/a.jpg", "file:///lake/b.jpg"),
    "two folders, another size": two("file:///mnt/lake/a.jpg", "file:///lake/a.jpg", {"size_bytes": 99}),
    "two folders, another time": two("file:///x/a.jpg", "file:///y/a.jpg", {"modified_at": AT + timedelta(seconds=1)}),
    # other ways to one store
    "a bucket on a disk": one("file:///mnt/lake/Caf\u00e9.jpg", "s3://lake/cafe\u0301.jpg",
                              {"modified_at": AT.replace(microsecond=0)}, {"etag": "e"}),
    "a volume": one("dbfs:/Volumes/main/x/a.jpg", "file:///Volumes/main/x/a.jpg"),
    "two mounts of Databricks": one("file:///dbfs/mnt/x/a.jpg", "file:///dbfs/mnt/y/a.jpg", NEXT, DISK),
    "two folders of a mount": one("dbfs:/mnt/x/a.jpg", "dbfs:/mnt/y/a.jpg"),
    "a URL": one("https://lake.s3.amazonaws.com/x/a%20b+c.jpg?versionId=3", "s3://lake/x/a b+c.jpg"),
    "two URLs": two("https://host/x/a.jpg", "https://host/x/b.jpg"),
    "two name nodes": one("hdfs://active/x/a.jpg", "hdfs://standby/x/a.jpg"),
    "two paths in HDFS": two("hdfs://name/x/a.jpg", "hdfs://name/y/a.jpg"),
    "a store by another protocol": one("webhdfs://name:9870/x/a.jpg", "hdfs://name/x/a.jpg"),
    "a store that nobody knows": one("oss://one/a.jpg", "oss://two/a.jpg"),
    "a mount with times of its own": one("file:///mnt/a.jpg", "s3://lake/a.jpg",
                                         {"modified_at": AT - timedelta(days=1)}),
    "a mount, other times and bytes": two("file:///mnt/a.jpg", "s3://lake/a.jpg",
                                          {"modified_at": AT - timedelta(days=1), "content_hash": "y"}),
    # containers
    "a row of a table by two names": one("file:///t", "file:///t/y", {"member": "y/p.parquet#3"},
                                         {"member": "p.parquet#3"}, location="file:///t/y/p.parquet", position=3),
    "two rows of a table": two("file:///t", "file:///t", {"member": "a", "position": 1},
                               {"member": "b", "position": 2}, location="file:///t/p.parquet"),
    "two members of a tar": two("s3://lake/x.tar", "s3://lake/x.tar", {"member": "a"}, {"member": "b"}),
    "a member and a file": two("s3://lake/x.tar", "s3a://lake/x.tar", {"member": "a"}),
    "one member by two addresses": one("s3a://lake/x.tar", "s3://lake/x.tar", IN_TAR, IN_TAR),
    "one name in two tars": two("s3://lake/x.tar", "s3://lake/y.tar", {"member": "a"}, {"member": "a"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(spark: SparkSession) -> dict[str, bool]:
    rows = []
    for case, (_, uri, keeper_uri, member, keeper) in CASES.items():
        of_keeper = {f"near_{name}": value for name, value in keeper.items()}
        rows.append({"uri": uri, "near_uri": keeper_uri, "case": case} | member | of_keeper)
    found = frame(spark, f"case string, {_SCHEMA}", rows).select("case", may_be_one_object().alias("one"))
    return {row["case"]: row["one"] for row in found.collect()}


@pytest.mark.parametrize("case", CASES)
def test_what_may_be_one_object_is_taken_for_one_and_what_cannot_be_is_not(said: dict[str, bool], case: str) -> None:
    assert said[case] is CASES[case][0]


def test_it_does_not_matter_which_of_two_is_the_keeper(spark: SparkSession, said: dict[str, bool]) -> None:
    rows = []
    for case, (_, uri, keeper_uri, member, keeper) in CASES.items():
        swapped = {f"near_{name}": value for name, value in member.items()}
        rows.append({"uri": keeper_uri, "near_uri": uri, "case": case} | keeper | swapped)
    found = frame(spark, f"case string, {_SCHEMA}", rows).select("case", may_be_one_object().alias("one"))
    assert {row["case"]: row["one"] for row in found.collect()} == said
