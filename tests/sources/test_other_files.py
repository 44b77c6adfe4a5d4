"""Files beside images in listings: passed over and counted by kind; nothing that may be an image is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dedup_spark.sources import addresses
from dedup_spark.sources.base import LISTING
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.other_files import _sort_out
from dedup_spark.sources.tar import ANY_TAR_NAME

JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 100


def rows_of(batches: Any) -> list[dict[str, Any]]:
    return pa.Table.from_batches(list(batches), LISTING.arrow).to_pylist()


def found(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["uri"].rpartition("/")[2] for row in rows if row["passed_over"] is None)


def counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["passed_over"]: row["n_passed_over"] for row in rows if row["passed_over"]}


def listed(source: FolderSource) -> list[dict[str, Any]]:
    """What one task lists of the whole folder."""
    task = pa.RecordBatch.from_pylist([{"path": source.root, "recursive": True}])
    return rows_of(source._list_places([task]))


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """As img2dataset writes it with output_format=files, and what people and file managers leave beside it."""
    shard = tmp_path / "crawl" / "00000"
    shard.mkdir(parents=True)
    for k in range(4):
        (shard / f"{k:09}.jpg").write_bytes(JPEG)
        (shard / f"{k:09}.txt").write_text(f"a picture number {k}")
        (shard / f"{k:09}.json").write_text("{}")
    for name in ("00000.parquet", "00000_stats.json", "Thumbs.db", "README", "data.yaml", "masks.npy", "empty.json"):
        (shard.parent / name).write_bytes(b"" if name == "empty.json" else b"PAR1")
    (shard / "noext").write_bytes(JPEG)
    (shard / "really.txt").write_bytes(JPEG)
    (shard / "page.jpg").write_text("<html>not found</html>")
    return shard.parent


def test_a_folder_gives_images_and_counts_of_the_rest(crawl: Path) -> None:
    rows = listed(FolderSource(str(crawl)))
    assert found(rows) == [*(f"{k:09}.jpg" for k in range(4)), "noext", "page.jpg", "really.txt"]
    assert counted(rows) == {
        "txt file": 4, "json file": 6, "parquet file": 1, "file of a file manager": 1, "yaml file": 1, "npy file": 1,
        "readme, licence or checksum": 1,
    }  # fmt: skip


def test_a_listing_of_another_source_is_sorted_out_in_the_same_way(crawl: Path) -> None:
    uris = [f"file://{path}" for path in sorted(crawl.rglob("*")) if path.is_file()]
    hidden = {"uri": "file:///x/.a.json", "passed_over": "hidden file", "n_passed_over": 1}
    batch = pa.RecordBatch.from_pylist([*({"uri": uri} for uri in uris), hidden], schema=LISTING.arrow)
    rows, by_folder = rows_of(_sort_out([batch, batch.slice(0, 0)])), listed(FolderSource(str(crawl)))
    assert found(rows) == found(by_folder)
    assert counted(rows) == counted(by_folder) | {"hidden file": 1}


def test_beside_tar_files_everything_is_counted(crawl: Path) -> None:
    for name in ("00001.tar", "x/00002.TAR", "old.tar.gz"):
        (crawl / name).parent.mkdir(exist_ok=True)
        (crawl / name).write_bytes(b"")
    rows = listed(FolderSource(str(crawl), only=ANY_TAR_NAME))
    assert found(rows) == ["00001.tar", "00002.TAR", "old.tar.gz"]
    assert counted(rows)["file beside tar files"] == 6
    assert counted(rows)["txt file"] == 5


def test_in_a_store_the_name_decides_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "open_store", lambda uri: pytest.fail("asked"))
    uris = ["s3://b/1.jpg", "s3://b/1.txt", "gs://b/x.json", "s3://b/noext", "s3://b/a.json/noext"]
    rows = rows_of(_sort_out([pa.RecordBatch.from_pylist([{"uri": uri} for uri in uris], schema=LISTING.arrow)]))
    assert found(rows) == ["1.jpg", "noext", "noext"]
    assert counted(rows) == {"txt file": 1, "json file": 1}


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "nowhere.json").symlink_to("none")
    assert found(listed(FolderSource(str(tmp_path)))) == []
    uris = [{"uri": f"file://{tmp_path}/{name}"} for name in ("pipe.txt", "nowhere.json")]
    assert found(rows_of(_sort_out([pa.RecordBatch.from_pylist(uris, schema=LISTING.arrow)]))) == []
