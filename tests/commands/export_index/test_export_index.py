"""`index export`: files that FAISS alone opens, a map that names every image, and places that are refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from conftest import FinishedRun
from table_contents import rows

from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands.export_index import command, text
from dedup_spark.commands.export_index.task import SHARD, WRITTEN, ExportSettings, export_batches
from dedup_spark.errors import ArtifactError, ConfigError, TableError
from dedup_spark.kernels.vectors import build_shard
from dedup_spark.store import files, shards
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables

DOCS = Path(__file__).resolve().parents[3] / "docs"


def embedded(root: str) -> dict[int, dict[str, Any]]:
    """Rows of features with an embedding, by image_id."""
    return {row["image_id"]: row for row in rows(root, "features") if row["embedding"] is not None}


def of_same_pixels(root: str) -> dict[int, set[int]]:
    """From representative to its images."""
    groups: dict[str, set[int]] = {}
    for image_id, row in embedded(root).items():
        groups.setdefault(row["pixel_hash"], set()).add(image_id)
    return {min(group): group for group in groups.values()}


@pytest.mark.slow
@pytest.mark.parametrize("merged", [False, True])
def test_a_stranger_with_faiss_and_pyarrow_finds_the_neighbours_by_the_script_of_the_documents(
    finished: FinishedRun, tmp_path: Path, merged: bool
) -> None:
    root, to = finished.tables.root, tmp_path / "an [export] {1}" / "faiss"
    done = command.export_index(finished.tables, str(to), merged=merged)
    groups, uris = of_same_pixels(root), {r["image_id"]: r["uri"] for r in rows(root, "images")}

    about = json.loads((to / "manifest.json").read_text())
    assert (about["model_id"], about["dimensions"]) == (rows(root, "shards")[0]["model_id"], 512)
    assert (about["vectors"], about["images"]) == (len(groups), len(embedded(root))) == (done.n_vectors, done.n_images)
    assert ([f["name"] for f in about["files"]] == ["index.faiss"]) is merged
    found: set[int] = set()
    for file in about["files"]:
        data = (to / file["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size_bytes"], file["sha256"])
        named = {row["faiss_id"] for row in ids_of(to) if row["file"] == file["name"]}
        assert faiss.read_index(str(to / file["name"])).ntotal == file["vectors"] == len(named)
        found |= named
    assert found == set(range(len(groups)))
    listed = ids_of(to)
    assert sorted(r["image_id"] for r in listed) == sorted(embedded(root))
    assert all(r["uri"] == uris[r["image_id"]] for r in listed)
    by_id: dict[int, set[int]] = {}
    for row in listed:
        by_id.setdefault(row["faiss_id"], set()).add(row["image_id"])
    assert {min(group): group for group in by_id.values()} == groups

    script = re.search(r"```py\n(.*?)```", (DOCS / "vectors.md").read_text(), re.DOTALL)
    assert script is not None
    assert script[1] == text.SCRIPT
    (tmp_path / "search.py").write_text(script[1])
    asked = max(groups, key=lambda first: len(groups[first]))
    np.save(tmp_path / "query.npy", 7 * np.frombuffer(embedded(root)[asked]["embedding"], "<f2"))
    python = [sys.executable, "-I", "search.py", str(to), "query.npy"]
    answer = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stderr
    first, *others = answer.stdout.splitlines()
    assert first.startswith("1.000 ")
    assert sum(uris[image_id] in first for image_id in groups[asked]) == len(groups[asked])
    assert len(others) == 4
    assert all(f"    {line}".rstrip() in (to / "README.txt").read_text() for line in script[1].splitlines())
    assert not list(Path(root, "_staging").glob("guest-*/exported"))


def ids_of(to: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = ds.dataset(str(to / "ids")).to_table().to_pylist()
    return listed


@pytest.mark.slow
def test_places_where_an_export_would_do_harm_are_refused(finished: FinishedRun, tmp_path: Path) -> None:
    root = finished.tables.root
    with pytest.raises(ConfigError, match="is inside the tables"):
        command.export_index(finished.tables, f"{root}/shard_files/mine")
    with pytest.raises(ConfigError, match="is inside the tables"):
        command.export_index(finished.tables, f"{root}/../tables/")
    with pytest.raises(ConfigError, match="is inside the lake"):
        command.export_index(finished.tables, f"{finished.lake.folder}/export")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(ConfigError, match=r"holds letter\.txt; expected a folder that is empty or not there"):
        command.export_index(finished.tables, str(tmp_path / "full"))
    with pytest.raises(ConfigError, match="is a file"):
        command.export_index(finished.tables, str(tmp_path / "full" / "letter.txt"))
    assert not (finished.lake.folder / "export").exists()


@pytest.mark.slow
def test_an_index_that_is_missing_stale_or_too_large_for_one_file_is_refused(
    finished: FinishedRun, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TableError, match="there is no index with vectors"):
        command.export_index(tables, str(tmp_path / "to"))
    monkeypatch.setattr(command, "MAX_MERGED_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"--merged: the index has .*IndexShards searches them as one"):
        command.export_index(finished.tables, str(tmp_path / "to"), merged=True)
    stale = Tables(tables.spark, str(shutil.copytree(finished.tables.root, tmp_path / "stale")))
    gone = stale.stage("gone", stale.read(FEATURES).where("embedding IS NOT NULL").select("image_id").limit(1))
    stale.delete(FEATURES, gone)
    with pytest.raises(ArtifactError, match="the index is not that of the images as they are now"):
        command.export_index(stale, str(tmp_path / "to"))
    assert not (tmp_path / "to").exists()


# --- without Spark ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [False, True])
def test_a_task_writes_its_files_to_a_store_and_names_every_vector(tmp_path: Path, merged: bool) -> None:
    rng = np.random.default_rng(3)
    centroids = np.eye(4, 16, dtype=np.float32)
    ids = [rng.integers(-(1 << 62), 1 << 62, n) for n in (30, 1, 50)]
    listed = []
    for i, some in enumerate(ids):
        vectors = rng.standard_normal((len(some), 16)).astype(np.float16)
        index = build_shard(some, vectors, np.full(len(some), i, np.int32), centroids)
        _, sha256 = shards.write_shard(str(tmp_path), f"s{i}", index)
        name, first_id = "all.faiss" if merged else f"{i}.faiss", (0, 30, 31)[i]
        listed.append({"file": name, "path": f"s{i}", "sha256": sha256, "first_id": first_id})
    batches = [pa.RecordBatch.from_pylist(listed, schema=SHARD.arrow)]
    to = f"memory://exports/{tmp_path.name}"
    made = pa.Table.from_batches(export_batches(batches, ExportSettings(str(tmp_path), to)), schema=WRITTEN.arrow)
    assert made["faiss_id"].to_pylist() == list(range(81))
    assert made["representative_id"].to_pylist() == np.concatenate(ids).tolist()
    for row in made.group_by("file").aggregate([("faiss_id", "count"), ("file_bytes", "max")]).to_pylist():
        data = files.read_bytes(f"{to}/{row['file']}")
        assert len(data) == row["file_bytes_max"]
        assert faiss.deserialize_index(np.frombuffer(data, np.uint8)).ntotal == row["faiss_id_count"]
    assert len(set(made["file"].to_pylist())) == (1 if merged else 3)


def test_an_option_before_the_second_word_counts_too() -> None:
    asked = make_parser().parse_args(["index", "--tables", "t", "--set", "a.b=1", "export", "--to", "x"])
    assert (asked.command, asked.tables, asked.set, asked.to, asked.merged) == (
        "index export", "t", ["a.b=1"], "x", False
    )  # fmt: skip
    assert make_parser().parse_args(["index", "--lake", "l"]).command == "index"
