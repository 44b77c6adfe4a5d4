"""Tar files and WebDataset shards: which members are images, where they are, and what damage costs."""

from __future__ import annotations

import io
import re
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from listings import ODD_NAME, address_of, fetched, listed, passed_over
from pyspark.sql import SparkSession

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.passed_over import PassedOver
from dedup_spark.sources.tar import TarSource, glob_regex, list_members, sample_key

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def write_tar(path: Path, members: dict[str, bytes], mtime: int = int(NOON.timestamp()), **options: Any) -> Path:
    with tarfile.open(path, options.pop("mode", "w"), **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            tar.addfile(info, io.BytesIO(data))
    return path


def members(path: Path, skip_hidden: bool = True) -> list[dict[str, Any]]:
    return list(list_members(f"file://{path}", None, skip_hidden))


def names(rows: list[dict[str, Any]]) -> list[Any]:
    return [row.get("member") for row in rows]


def test_a_shard_gives_the_images_of_each_sample_with_place_and_key(spark: SparkSession, tmp_path: Path) -> None:
    pictures = {f"{n:03}.{kind}": f"{n} {kind}".encode() * n for n in (1, 2) for kind in ("jpg", "seg.png")}
    others = {f"{n:03}.{kind}": b"{}" for n in (1, 2) for kind in ("json", "txt", "cls", "NPY")}
    path = write_tar(tmp_path / "shard.tar", {**pictures, **others})
    source = TarSource(str(path))
    rows = listed(source, spark)
    assert {row["member"]: data for row, data in zip(rows, fetched(source, rows), strict=True)} == pictures
    assert {row["uri"] for row in rows} == {f"file://{path.resolve()}"} == {source.root}
    assert {row["modified_at"].astimezone(UTC) for row in rows} == {NOON}
    assert [row["attributes"]["key"] for row in rows] == ["001", "001", "002", "002"]
    assert {row["location"] for row in rows} == {None}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "odd [x] folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.tar", "sub/B.TAR", "sub/.hidden.tar"):
        write_tar(folder / name, {"1.jpg": name.encode()})
    (folder / "a.tar.json").write_text("{}")
    return folder


@pytest.mark.parametrize(("below", "found"), [("", ["a.tar", "sub/B.TAR"]), ("/sub/*.[tT]AR", ["sub/B.TAR"])])
def test_a_lake_is_a_folder_or_a_glob(below: str, found: list[str], spark: SparkSession, shards: Path) -> None:
    source = TarSource(str(shards).replace("[x]", "[[]x]") + below if below else str(shards))
    rows = listed(source, spark)
    assert [data.decode() for data in fetched(source, rows)] == found
    assert TarSource(source.root).root == source.root  # an address of the same lake


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("*.tar", "a.tar"),
        ("sub/?.tar", "sub/c.tar"),
        ("*/c.t*", "sub/c.tar"),
        ("**/*.tar", "a.tar sub/c.tar x/y/z.tar"),
    ],
)
def test_globs_match_as_in_a_shell(pattern: str, matching: str) -> None:
    paths = ["a.tar", "sub/c.tar", "x/y/z.tar", "a.tar.json"]
    assert [path for path in paths if re.search(glob_regex(pattern), path)] == matching.split()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_long_and_odd_names_are_kept_whole(form: int, tmp_path: Path) -> None:
    pictures = {"deep/" * 60 + ODD_NAME: b"1", "no extension": b"2", "x.unknown": b"3", "caf\udce9.jpg": b"4"}
    path = write_tar(tmp_path / "a.tar", pictures, format=form)
    rows = members(path)
    assert names(rows)[:3] == list(pictures)[:3]
    assert names(rows)[3] == "caf\uf7e9.jpg"  # a name that is not UTF-8, as in sources/names.py
    data = path.read_bytes()
    assert [data[r["position"] :][: r["size_bytes"]] for r in rows] == list(pictures.values())


def test_members_that_are_no_images_are_passed_over_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"1", "._1.jpg": b"AppleDouble", "1.txt": b"caption"})
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind!r}.jpg")
            info.type, info.linkname = kind, "1.jpg"
            tar.addfile(info)
    assert names(members(path)) == ["1.jpg"]
    assert names(members(path, skip_hidden=False)) == ["1.jpg", "._1.jpg"]
    (tmp_path / "link.tar").symlink_to("a.tar")
    uri = f"file://{path}"
    assert passed_over(TarSource(str(tmp_path)), spark) == {
        "hidden file": (1, f"{uri} ._1.jpg"),
        "txt file": (1, f"{uri} 1.txt"),
        "link in a tar file": (2, f"{uri} {tarfile.SYMTYPE!r}.jpg"),
        "device": (1, f"{uri} {tarfile.FIFOTYPE!r}.jpg"),
        "link to a file": (1, f"file://{tmp_path}/link.tar"),
    }


def test_members_of_one_name_are_all_images(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"old"})
    write_tar(path, {"1.jpg": b"newer"}, mode="a")
    assert [(row["member"], row["size_bytes"]) for row in members(path)] == [("1.jpg", 3), ("1.jpg#2", 5)]


def test_a_repeated_name_never_takes_that_of_another_member(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, name in enumerate(("a.jpg", "a.jpg", "a.jpg#2", "b.jpg"), 1):
            info = tarfile.TarInfo(name)
            info.size = i
            tar.addfile(info, io.BytesIO(bytes(i)))
    rows = {row["member"]: row["size_bytes"] for row in members(tmp_path / "a.tar")}
    assert rows == {"a.jpg": 1, "a.jpg#3": 2, "a.jpg#2": 3, "b.jpg": 4}


def test_repeated_names_before_damage_are_images(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"old"})
    write_tar(path, {"1.jpg": b"newer"}, mode="a")
    data = path.read_bytes()
    path.write_bytes(data[:2048] + b"?" * 512 + data[2560:])
    assert sorted(map(str, names(members(path)))) == ["1.jpg", "1.jpg#2", "None"]


def test_an_image_under_the_name_of_a_caption_is_an_image(tmp_path: Path) -> None:
    jpeg = b"\xff\xd8\xff\xe0" + b"\0" * 600
    path = write_tar(tmp_path / "a.tar", {"1.txt": jpeg, "2.txt": b"caption", "3.json": b"", "4.tar.gz": b"\x1f\x8bxx"})
    counts = PassedOver()
    rows = list(list_members(f"file://{path}", None, True, counts))
    assert names(rows) == ["1.txt"]
    assert {row["passed_over"]: row["n_passed_over"] for row in counts.rows()} == {
        "txt file": 1, "json file": 1, "gz file": 1,
    }  # fmt: skip


def test_what_lies_beside_the_tar_files_of_a_folder_is_counted(spark: SparkSession, tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar", {"1.jpg": b"1"})
    for name in ("00000.parquet", "00000_stats.json", "preview.jpg", "notes"):
        (tmp_path / name).write_bytes(b"x")
    assert {reason: n for reason, (n, _) in passed_over(TarSource(str(tmp_path)), spark).items()} == {
        "parquet file": 1, "json file": 1, "file beside tar files": 2,
    }  # fmt: skip


def test_a_member_without_a_time_has_that_of_its_tar_file(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"1"}, mtime=0)
    (row,) = list_members(f"file://{path}", NOON, True)
    assert row["modified_at"] == NOON


def test_a_cut_tar_file_gives_what_it_has_and_a_row_for_the_rest(spark: SparkSession, tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole", {f"{n}.jpg": bytes([n]) * 5000 for n in range(4)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:13_000])  # in the third member's data
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "text.tar").write_bytes(b"<html>not found</html>" * 100)
    source = TarSource(str(tmp_path))
    rows = listed(source, spark)
    assert [(row["uri"].rpartition("/")[2], row["member"]) for row in rows] == [
        ("cut.tar", None), ("cut.tar", "0.jpg"), ("cut.tar", "1.jpg"), ("cut.tar", "2.jpg"),
        ("empty.tar", None), ("text.tar", None),
    ]  # fmt: skip
    assert source.fetch(address_of(rows[2])) == b"\1" * 5000
    with pytest.raises(ImageRejected, match="truncated: the tar file ends"):
        source.fetch(address_of(rows[3]))
    with pytest.raises(ImageRejected, match="corrupt: damaged at byte"):
        source.fetch(address_of(rows[0]))
    with pytest.raises(ImageRejected, match="corrupt: the tar file cannot be opened"):
        source.fetch(address_of(rows[4]))


def test_damage_inside_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(write_tar(tmp_path / "a.tar", {f"{n}.jpg": b"x" * 600 for n in range(4)}).read_bytes())
    data[2 * 1536 : 2 * 1536 + 512] = b"?" * 512  # the third header
    (tmp_path / "a.tar").write_bytes(data)
    assert names(members(tmp_path / "a.tar")) == ["0.jpg", "1.jpg", None]


def test_tar_files_written_one_after_another_are_not_half_forgotten(tmp_path: Path) -> None:
    one = write_tar(tmp_path / "1.tar", {"1.jpg": b"1"}).read_bytes()
    (tmp_path / "2.tar").write_bytes(one + one)
    assert names(members(tmp_path / "2.tar")) == ["1.jpg", None]


def test_no_end_mark_is_no_damage(tmp_path: Path) -> None:
    data = write_tar(tmp_path / "a.tar", {"1.jpg": b"1"}).read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:1024])
    assert names(members(tmp_path / "a.tar")) == ["1.jpg"]


def test_compressed_tar_files_are_counted_and_refused_where_there_are_no_others(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_tar(tmp_path / "a.tar", {"1.jpg": b"1"})
    for name, mode in (("b.tar.gz", "w:gz"), ("c.tgz", "w:gz"), ("d.tar.xz", "w:xz")):
        write_tar(tmp_path / name, {"1.jpg": b"1"}, mode=mode)
    (found,) = passed_over(TarSource(str(tmp_path)), spark).items()
    reason, (n, example) = found
    assert (reason, n, example in {f"file://{tmp_path}/{name}" for name in ("b.tar.gz", "c.tgz", "d.tar.xz")}) == (
        "compressed tar file", 3, True,
    )  # fmt: skip
    (tmp_path / "a.tar").unlink()
    with pytest.raises(ConfigError, match=r"3 compressed tar files, for example file:.*/b\.tar\.gz"):
        TarSource(str(tmp_path)).list_images(spark)
    with pytest.raises(ConfigError, match="1 compressed"):
        TarSource(str(tmp_path / "c.tgz")).list_images(spark)


def test_a_lake_without_tar_files_is_said(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tar file there"):
        TarSource(str(tmp_path)).list_images(spark)
    with pytest.raises(ConfigError, match="no such tar file"):
        _ = TarSource(f"{tmp_path}/none.tar").root


def test_keys_are_webdatasets() -> None:
    assert sample_key("a/b.c/img.seg.png") == "a/b.c/img"
    assert sample_key("./0001.jpg") == "./0001"
