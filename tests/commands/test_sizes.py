"""A lake is small where names on this machine's disks say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup_spark.commands import sizes
from dedup_spark.commands.sizes import is_small
from dedup_spark.config import InventorySettings
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.registry import open_source


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MOST_IMAGES", 5)


def lake_of(folder: Path, n_files: int, suffix: str = ".jpg") -> Path:
    for i in range(n_files):
        path = folder / "lake" / f"{i % 2}" / f"{i}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff")
    return folder / "lake"


def tables_of(folder: Path, n_bytes: int) -> str:
    path = folder / "tables" / "features" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(n_bytes)
    return str(folder / "tables")


@pytest.mark.parametrize(("n_files", "small"), [(0, True), (5, True), (6, False), (50, False)])
def test_a_folder_is_small_up_to_so_many_files(tmp_path: Path, n_files: int, small: bool) -> None:
    folder = lake_of(tmp_path, n_files)
    folder.mkdir(exist_ok=True)
    assert is_small(str(tmp_path / "none"), None, open_source(str(folder), InventorySettings())) is small


@pytest.mark.parametrize(("n_bytes", "small"), [(0, True), (50_000, True), (50_001, False)])
def test_tables_are_small_by_the_bytes_of_their_features(tmp_path: Path, n_bytes: int, small: bool) -> None:
    root, lake = tables_of(tmp_path, n_bytes), open_source(str(lake_of(tmp_path, 2)), InventorySettings())
    assert is_small(root, None, lake) is small
    assert is_small(root, None) is small


def test_what_names_on_a_disk_do_not_tell_counts_as_large(tmp_path: Path) -> None:
    root, settings = str(tmp_path / "none"), InventorySettings()
    assert not is_small(root, None, FolderSource("s3://bucket/photos"))
    assert not is_small(root, None, open_source(str(lake_of(tmp_path, 2, ".tar")), settings))
    listed = tmp_path / "list.csv"
    listed.write_text("uri\na.jpg\n")
    assert not is_small(root, None, open_source(str(listed), settings))
    assert not is_small("s3://bucket/tables", None)
    assert not is_small(root, "a_database")
