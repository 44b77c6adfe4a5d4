"""One address for one object: what a store takes for the same has one spelling, keys that differ stay apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedup_spark.sources import addresses
from dedup_spark.sources.addresses import canonical

AZURE = "abfss://box@account.dfs.core.windows.net/a//b.jpg"

SPELLINGS = [
    # Hadoop's and fsspec's names for one store
    ("s3://b/k.jpg", "s3://b/k.jpg"),
    ("s3a://b/k.jpg", "s3://b/k.jpg"),
    ("s3n://b/k.jpg", "s3://b/k.jpg"),
    ("S3A://b/k.jpg", "s3://b/k.jpg"),
    ("gs://b/k.jpg", "gs://b/k.jpg"),
    ("gcs://b/k.jpg", "gs://b/k.jpg"),
    ("GS://b/k.jpg", "gs://b/k.jpg"),
    ("abfs://box@account.dfs.core.windows.net/a//b.jpg", AZURE),
    ("abfss://box@ACCOUNT.DFS.core.windows.net/a//b.jpg", AZURE),
    ("wasb://box@account.blob.core.windows.net/a//b.jpg", AZURE),
    ("wasbs://box@account.blob.core.windows.net/a//b.jpg", AZURE),
    ("az://box@account.blob.core.windows.net/a//b.jpg", AZURE),
    ("wasbs://box@account.blob.core.chinacloudapi.cn/a", "abfss://box@account.dfs.core.chinacloudapi.cn/a"),
    ("az://box/a.jpg", "abfss://box/a.jpg"),
    ("abfs://box/a.jpg", "abfss://box/a.jpg"),
    ("hdfs://nn:8020/a.jpg", "hdfs://nn/a.jpg"),
    ("hdfs://nn:9000/a.jpg", "hdfs://nn:9000/a.jpg"),
    ("HDFS://nn/a//b/./c/../d.jpg", "hdfs://nn/a/b/d.jpg"),
    ("hdfs://nn/../../a.jpg", "hdfs://nn/a.jpg"),
    ("hdfs:/a//b.jpg", "hdfs:///a/b.jpg"),
    ("hdfs:///a/b.jpg", "hdfs:///a/b.jpg"),
    ("hdfs://MyCluster/a.jpg", "hdfs://MyCluster/a.jpg"),
    ("HTTPS://Host.example:443/A.jpg?b=C", "https://host.example/A.jpg?b=C"),
    ("oss://Bucket/a//b.jpg", "oss://Bucket/a//b.jpg"),
    # keys are literal
    ("s3a://b/a//b.jpg", "s3://b/a//b.jpg"),
    ("s3a://b//a/./b/../c.jpg", "s3://b//a/./b/../c.jpg"),
    ("s3a://b/a%20b+c d#e?f.jpg", "s3://b/a%20b+c d#e?f.jpg"),
    ("s3a://b/caf\u00e9.jpg", "s3://b/caf\u00e9.jpg"),
    ("s3a://b/cafe\u0301.jpg", "s3://b/cafe\u0301.jpg"),
    ("s3a://b/UPPER/", "s3://b/UPPER/"),
    ("gcs://b/a//../c", "gs://b/a//../c"),
    # Databricks mounts its file system and its volumes
    ("dbfs:/Volumes/main/x/a.jpg", "file:///Volumes/main/x/a.jpg"),
    ("dbfs:///Volumes/main/x//a.jpg", "file:///Volumes/main/x/a.jpg"),
    ("/dbfs/Volumes/main/x/a.jpg", "file:///Volumes/main/x/a.jpg"),
    ("/Volumes/main/x/a.jpg", "file:///Volumes/main/x/a.jpg"),
    ("file:/dbfs/Volumes/main/x/a.jpg", "file:///Volumes/main/x/a.jpg"),
    ("dbfs:/mnt/a.jpg", "file:///dbfs/mnt/a.jpg"),
    ("DBFS:///mnt/./a.jpg", "file:///dbfs/mnt/a.jpg"),
    ("/dbfs/mnt/a.jpg", "file:///dbfs/mnt/a.jpg"),
    ("dbfs:/VolumesOfMine/a.jpg", "file:///dbfs/VolumesOfMine/a.jpg"),
    # local paths
    ("/no/such/a.jpg", "file:///no/such/a.jpg"),
    ("//no//such/./x/../a.jpg", "file:///no/such/a.jpg"),
    ("file:/no/such/a.jpg", "file:///no/such/a.jpg"),
    ("file:///no/such/a.jpg", "file:///no/such/a.jpg"),
    ("file:////no/such//a.jpg", "file:///no/such/a.jpg"),
    ("file://localhost/no/such/a.jpg", "file:///no/such/a.jpg"),
    ("file://LocalHost//no/such/a.jpg", "file:///no/such/a.jpg"),
    ("FILE:///no/such/a.jpg", "file:///no/such/a.jpg"),
    ("file:///localhost/a.jpg", "file:///localhost/a.jpg"),
    ("/no/such/NFC \u00e9 NFD e\u0301 %20+.jpg", "file:///no/such/NFC \u00e9 NFD e\u0301 %20+.jpg"),
    ("/no/such/s3://b/a.jpg", "file:///no/such/s3:/b/a.jpg"),
    ("/no/nul\0/../a.jpg", "file:///no/a.jpg"),
    ("/", "file:///"),
    ("file://", "file:///"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "wanted"), SPELLINGS)
def test_an_address_has_one_form(address: str, wanted: str) -> None:
    assert canonical(address) == wanted
    assert canonical(wanted) == wanted


def test_different_objects_keep_different_addresses() -> None:
    keys = ["a//b", "a/b", "a/./b", "A/b", "a/b/", "a b", "a+b", "a%20b", "caf\u00e9", "cafe\u0301"]
    assert len({canonical(f"s3a://bucket/{key}") for key in keys}) == len(keys)
    assert len({canonical(f"{scheme}://one/a") for scheme in ("s3", "gs", "abfss", "hdfs", "http", "https")}) == 6
    assert canonical("s3://Bucket/a") != canonical("s3://bucket/a")
    assert canonical("wasbs://box@one.blob.core.windows.net/a") != canonical("wasbs://box@two.blob.core.windows.net/a")


def test_nine_spellings_of_a_local_file_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = tmp_path / "lake"
    (lake / "img").mkdir(parents=True)
    (lake / "img/a.jpg").touch()
    (lake / "link").symlink_to("img")
    (lake / "other.jpg").symlink_to("img/a.jpg")
    folder = addresses.to_uri(str(lake))
    spelled = [
        "img/a.jpg", "./img/a.jpg", "img/../img/a.jpg", "img//a.jpg", "link/a.jpg", "other.jpg", f"{lake}/img/a.jpg",
        f"file://{lake}/img/a.jpg", f"file:{lake}/img/a.jpg", f"file://localhost{lake}/link/../img/a.jpg",
    ]  # fmt: skip
    assert {canonical(address, folder) for address in spelled} == {f"file://{lake}/img/a.jpg"}
    monkeypatch.chdir(lake)
    assert {canonical(address) for address in [*spelled, "file:img/a.jpg"]} == {f"file://{lake}/img/a.jpg"}


def test_a_way_up_is_taken_from_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "short").symlink_to("a/b")
    assert canonical(f"{tmp_path}/short/../x.jpg") == f"file://{tmp_path}/a/x.jpg"


def test_links_that_lead_nowhere_or_in_a_circle_have_a_form_too(tmp_path: Path) -> None:
    for name, target in (("one", "two"), ("two", "one"), ("dangling", "nothing")):
        (tmp_path / name).symlink_to(target)
    for name in ("one", "two", "dangling"):
        found = canonical(f"{tmp_path}/{name}")
        assert canonical(found) == found
    assert canonical(f"{tmp_path}/one") != canonical(f"{tmp_path}/two")


def test_names_that_are_no_unicode_come_back(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    file.write_bytes(b"1")
    for address in (str(file), f"file://{file}", canonical(str(file))):
        found = canonical(address)
        assert found.encode("utf-8").endswith(b"caf\xef\x9f\xa9.jpg")
        assert Path(addresses.to_path(found)).read_bytes() == b"1"
    assert canonical(os.fsdecode(b"caf\xe9.jpg"), f"file://{tmp_path}") == canonical(str(file))


@pytest.mark.parametrize(
    ("relative", "folder", "wanted"),
    [
        ("img//a.jpg", "s3://reports", "s3://reports/img//a.jpg"),
        ("././a.jpg", "s3://reports/x", "s3://reports/x/a.jpg"),
        ("../a.jpg", "s3://reports/x", "s3://reports/x/../a.jpg"),
        ("../y//a.jpg", "hdfs://nn/x", "hdfs://nn/y/a.jpg"),
        ("/a.jpg", "s3://reports/x", "file:///a.jpg"),
        ("s3a://b/a.jpg", "file:///x", "s3://b/a.jpg"),
        ("a::b.jpg", "file:///no", "file:///no/a::b.jpg"),
        ("~/a.jpg", "file:///no", "file:///no/~/a.jpg"),
    ],
)
def test_relative_addresses_count_from_a_folder(relative: str, folder: str, wanted: str) -> None:
    assert canonical(relative, folder) == wanted


@pytest.mark.parametrize(
    ("lake", "root"),
    [
        ("s3a://bucket/photos/", "s3://bucket/photos"),
        ("s3a://bucket//", "s3://bucket"),
        ("s3://bucket/a//b/", "s3://bucket/a//b"),
        ("hdfs://nn:8020/", "hdfs://nn"),
        ("hdfs:///", "hdfs://"),
        ("dbfs:/Volumes/main/", "file:///Volumes/main"),
        ("/", "file://"),
    ],
)
def test_the_root_of_a_lake_has_no_last_slash_and_opens_the_same_lake(lake: str, root: str) -> None:
    assert addresses.to_uri(lake) == root
    assert addresses.to_uri(root) == root


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("s3a://bucket/originals/", "s3://bucket/originals/"),
        ("s3a://bucket/orig", "s3://bucket/orig"),
        ("/no/originals/", "file:///no/originals/"),
        ("file:/no//originals", "file:///no/originals"),
        ("hdfs://nn:8020/a/", "hdfs://nn/a/"),
        ("/", "file:///"),
    ],
)
def test_a_prefix_keeps_the_slash_that_ends_a_folder(prefix: str, wanted: str) -> None:
    assert addresses.to_prefix(prefix) == wanted


def test_what_is_a_store_is_told_by_the_scheme_alone() -> None:
    assert addresses.is_remote("s3://b/a")
    assert not addresses.is_remote("/lake/a://b")
    assert not addresses.is_remote("FILE:///a")
    assert [addresses.is_absolute(a) for a in ("/a", "s3a://b", "dbfs:/a", "file:/a", "a/b", "a:b")] == [True] * 4 + [
        False
    ] * 2


def test_relative_addresses_count_from_the_lake_or_from_the_folder_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    for name in ("list.csv", "a.tar", "b [1].tar"):
        (tmp_path / "lake" / name).touch()
    lake = f"file://{tmp_path}/lake"
    for one in ("", "/list.csv", "/a.tar", "/b [1].tar", "/*.tar", "/[ab]*/c?.tar"):
        assert addresses.folder_of(f"{lake}{one}") == lake
    assert addresses.folder_of(f"{lake}/gone") == f"{lake}/gone"
    assert addresses.folder_of("viewfs://name/lake") == "viewfs://name/lake"  # Python has no package for it
