"""The images of a run as they are mapped: found by hash and id, with the values of the tables, and kept up to date."""

from __future__ import annotations

import os
import time
from pathlib import Path

import lookups
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from dedup_spark.lookup import data_files
from dedup_spark.lookup.finished import finished_run
from dedup_spark.lookup.places import cache_folder, delete_others, state_folder
from dedup_spark.lookup.scanning import SketchScan
from dedup_spark.lookup.snapshot import Snapshot, forget_others, open_snapshot, unit
from dedup_spark.store.reader import read_table
from dedup_spark.store.schema import CLUSTERS, GUARDED
from lookup.conftest import images_of_lake


def snapshot_of(root: Path, folder: Path) -> Snapshot:
    folder.mkdir(exist_ok=True)
    return open_snapshot(finished_run(str(root)), folder)


def test_every_image_has_the_values_of_the_tables(looked_up_tables: Path, tmp_path: Path) -> None:
    snapshot = snapshot_of(looked_up_tables, tmp_path)
    rows = {row["image_id"]: row for row in read_table("features", tables=looked_up_tables).to_pylist()}
    uris = {row["image_id"]: row["uri"] for row in read_table("images", tables=looked_up_tables).to_pylist()}
    for image_id, row in rows.items():
        at = snapshot.row_of(image_id)
        assert at is not None
        assert snapshot.content_hash(at) == row["content_hash"]
        assert snapshot.thumbnail(at) == row["thumbnail"]
        assert snapshot.vectors(np.array([at]))[0].tobytes() == row["embedding"]
        assert (snapshot.facts(at)["uri"], snapshot.facts(at)["phash"]) == (uris[image_id], row["phash"])
        same = [other for other, one in rows.items() if one["pixel_hash"] == row["pixel_hash"]]
        found = [snapshot.facts(int(r))["image_id"] for r in snapshot.rows_with("pixel_hash", row["pixel_hash"])]
        assert found == sorted(same)
    assert snapshot.row_of(12345) is None
    assert len(snapshot.rows_with("content_hash", "0" * 64)) == 0


def test_of_equal_pixels_one_image_is_compared_and_says_how_many(looked_up_tables: Path, tmp_path: Path) -> None:
    snapshot = snapshot_of(looked_up_tables, tmp_path)
    facts = [snapshot.facts(int(row)) for row in snapshot.pictures]
    assert sorted((one["uri"].rpartition("/")[2], one["n_equal"]) for one in facts) == [
        ("bricks.jpg", 1), ("cat.jpg", 2), ("coffee.jpg", 2), ("rocket.jpg", 1),
    ]  # fmt: skip


def test_the_image_that_is_compared_is_the_one_whose_neighbours_the_run_knows(
    looked_up_tables: Path, tmp_path: Path
) -> None:
    """Not the one of smallest id: a copy that came later may have that, and no density."""
    snapshot = snapshot_of(looked_up_tables, tmp_path)
    matched = read_table("densities", tables=looked_up_tables)["image_id"].to_pylist()
    assert sorted(snapshot.facts(int(row))["image_id"] for row in snapshot.pictures) == sorted(matched)


def test_clusters_and_guards_are_those_of_the_run(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    lookups.finish_run(root, images_of_lake())
    cluster = {"image_id": 2, "cluster_id": 9, "keeper_image_id": 1, "is_keeper": False, "cluster_size": 2}
    for table, row in ((CLUSTERS, cluster), (GUARDED, {"image_id": 3, "guard": "text", "n_neighbours": 4})):
        write_deltalake(str(root / table.name), pa.Table.from_pylist([row], table.schema.arrow), mode="overwrite")
    lookups.marks(root, "r2", {}, {})
    snapshot = snapshot_of(root, tmp_path / "cache")
    facts = {one["image_id"]: one for one in (snapshot.facts(row) for row in range(len(snapshot)))}
    assert (facts[2]["cluster_id"], facts[2]["keeper_image_id"], facts[3]["guard"]) == (9, 1, "text")
    assert (facts[1]["cluster_id"], facts[1]["guard"]) == (None, None)


def test_a_lake_without_vectors_is_known_by_its_hashes(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    lookups.finish_run(root, images_of_lake())
    lookups.without_vectors(root)
    snapshot = snapshot_of(root, tmp_path / "cache")
    assert (len(snapshot), snapshot.n_vectors, snapshot.model_id) == (6, 0, None)
    assert len(snapshot.near(np.ones(512, np.float32) / 22.6)) == 0


def test_a_lake_without_images_is_opened(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    lookups.finish_run(root, images_of_lake())
    lookups.empty(root)
    snapshot = snapshot_of(root, tmp_path / "cache")
    assert len(snapshot) == 0
    assert len(snapshot.rows_with("content_hash", "0" * 64)) == 0
    assert snapshot.row_of(1) is None


def test_a_large_lake_is_scanned_by_sketches_in_the_order_of_its_rows(
    looked_up_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = snapshot_of(looked_up_tables, tmp_path)
    monkeypatch.setattr("dedup_spark.lookup.snapshot.EXACT_ROWS", 0)
    sketched = snapshot_of(looked_up_tables, tmp_path)
    assert isinstance(sketched.scan, SketchScan)
    for row in exact.pictures.tolist():
        vector = unit(exact.vectors(np.array([row]))[0])
        near = set(sketched.near(vector).tolist())
        assert row in near
        certain = {r for r in exact.near(vector).tolist() if _cosine(exact, row, r) >= 0.45}
        assert certain <= near | {row}
        assert set(sketched.near(vector, exactly=True).tolist()) == set(exact.near(vector).tolist())


def _cosine(snapshot: Snapshot, a: int, b: int) -> float:
    x, y = (unit(snapshot.vectors(np.array([row]))[0]) for row in (a, b))
    return float(x @ y)


def test_data_files_that_are_known_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tmp_path / "tables", tmp_path / "cache"
    lookups.finish_run(root, images_of_lake())
    first = snapshot_of(root, folder)
    monkeypatch.setattr(data_files, "_copy", lambda *_: pytest.fail("a data file was read again"))
    assert len(snapshot_of(root, folder)) == len(first) == 6
    forget_others(first.run, folder)
    assert len(snapshot_of(root, folder)) == 6


def test_what_another_process_is_writing_is_not_deleted(tmp_path: Path) -> None:
    for name in ("a.arrow", "b.arrow", "c.arrow.1.tmp", "d.arrow.2.tmp"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / "d.arrow.2.tmp", (time.time() - 1e6, time.time() - 1e6))
    delete_others(tmp_path.glob("*"), "a.arrow".__eq__)
    assert {path.name for path in tmp_path.iterdir()} == {"a.arrow", "c.arrow.1.tmp"}


def test_each_set_of_tables_has_folders_of_its_own_that_others_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folders = [place(root) for place in (cache_folder, state_folder) for root in ("s3://a", "s3://b")]
    assert len(set(folders)) == 4
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders)
    assert cache_folder("s3://a", str(tmp_path / "own")).is_relative_to(tmp_path / "own")
