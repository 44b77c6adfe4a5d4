"""`index export`: files that FAISS alone opens, a map that names every image, and places that are refused."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from fabricated import MODEL, fill, listed, random_ids, readable, rejected

from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands.export_index import command, text
from dedup_spark.commands.export_index.task import SHARD, WRITTEN, ExportSettings, export_batches
from dedup_spark.commands.export_index.values import ExportedFile, ExportedIndex
from dedup_spark.config import load_config
from dedup_spark.errors import ArtifactError, ConfigError, TableError
from dedup_spark.kernels.faiss_index import DEFAULT
from dedup_spark.kernels.joins.base import Block
from dedup_spark.stages.index import step as index
from dedup_spark.store import files, shards
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, SHARDS
from dedup_spark.store.tables import Tables

DOCS = Path(__file__).resolve().parents[3] / "docs"


D = 96


@dataclass(frozen=True)
class Indexed:
    """Tables with an index of made-up images: `groups` has the images of equal pixels by their representative."""

    tables: Tables
    vectors: dict[int, np.ndarray]
    groups: dict[int, set[int]]


@pytest.fixture
def indexed(tables: Tables) -> Indexed:
    rng = np.random.default_rng(5)
    vectors = {i: v / np.linalg.norm(v) for i in random_ids(700, rng) for v in [rng.standard_normal(D)]}
    first, *others = sorted(vectors)
    twins = {first + 1: first, first + 2: first, others[-1] + 1: others[-1]}
    rows_of = [readable(i, v) for i, v in vectors.items()]
    rows_of += [readable(i, vectors[of], pixel_hash=f"pixels of {of}") for i, of in twins.items()]
    rows_of += [readable(7), rejected(8)]
    images = [listed(r["image_id"], member="a member" if r["image_id"] == first else None) for r in rows_of]
    fill(tables, images, rows_of)
    run = Run(tables, load_config(None, ["index.max_shard_rows=256", "index.n_cells=4"]), "file:///lake", "r1")
    with run.step("index"):
        index.run(tables.spark, run.config, run)
    groups = {i: {i} | {twin for twin, of in twins.items() if of == i} for i in vectors}
    return Indexed(tables, vectors, groups)


def ids_of(to: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ds.dataset(str(to / "ids")).to_table().to_pylist()
    return found


def script_of_the_documents() -> str:
    found = re.search(r"```py\n(.*?)```", (DOCS / "vectors.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("merged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stranger_with_faiss_and_pyarrow_finds_the_neighbours_by_the_script_of_the_documents(
    indexed: Indexed, tmp_path: Path, merged: bool
) -> None:
    to, groups = tmp_path / "an [export] {1}" / "faiss", indexed.groups
    done = command.export_index(indexed.tables, str(to), merged=merged)

    about = json.loads((to / "manifest.json").read_text())
    assert (about["model_id"], about["dimensions"], about["cells"], about["nprobe"]) == (MODEL, D, 4, 4)
    assert (about["vectors"], about["images"]) == (700, 703) == (done.n_vectors, done.n_images)
    assert [f["name"] for f in about["files"]] == ["index.faiss"] if merged else len(about["files"]) > 1
    listed_ids = ids_of(to)
    for file in about["files"]:
        data = (to / file["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size_bytes"], file["sha256"])
        named = {row["faiss_id"] for row in listed_ids if row["file"] == file["name"]}
        assert faiss.read_index(str(to / file["name"])).ntotal == file["vectors"] == len(named)
    assert {row["faiss_id"] for row in listed_ids} == set(range(700))
    by_id: dict[int, set[int]] = {}
    for row in listed_ids:
        assert row["uri"] == f"file:///lake/{row['image_id']}.jpg"
        assert row["member"] == ("a member" if row["image_id"] == min(groups) else None)
        by_id.setdefault(row["faiss_id"], set()).add(row["image_id"])
    assert {min(group): group for group in by_id.values()} == groups
    assert not Path(indexed.tables.root, "_staging").exists()

    script = script_of_the_documents()
    assert all(f"    {line}".rstrip() in (to / "README.txt").read_text() for line in script.splitlines())
    (tmp_path / "search.py").write_text(script)
    for asked in (min(groups), max(groups)):
        np.save(tmp_path / "query.npy", 7 * indexed.vectors[asked])
        python = [sys.executable, "-I", "search.py", str(to), "query.npy"]
        answer = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert answer.returncode == 0, answer.stderr
        first, *others = answer.stdout.splitlines()
        assert first.startswith("1.000 ")
        assert set(first.split()[1:]) == {f"file:///lake/{image_id}.jpg" for image_id in groups[asked]}
        assert len(others) == 4
        assert all(0 < float(line.split()[0]) < 0.7 for line in others)


def test_places_where_an_export_would_do_harm_are_refused(indexed: Indexed, tmp_path: Path) -> None:
    tables, full = indexed.tables, tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").touch()
    for to, said in {
        f"{tables.root}/shard_files/mine": "is inside the tables",
        f"{tables.root}/../{Path(tables.root).name}/": "is inside the tables",
        "/lake/export": "is inside the lake",
        str(full): r"holds letter\.txt; expected a folder that is empty or not there",
        str(full / "letter.txt"): "is a file",
    }.items():
        with pytest.raises(ConfigError, match=said):
            command.export_index(tables, to)


@pytest.mark.slow
def test_an_index_that_is_missing_stale_or_too_large_for_one_file_is_refused(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, to = indexed.tables, tmp_path / "to"
    monkeypatch.setattr(command, "MAX_MERGED_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"--merged: the index has .*IndexShards searches them as one"):
        command.export_index(tables, str(to), merged=True)
    gone = tables.stage("gone", tables.read(FEATURES).where("embedding IS NOT NULL").select("image_id").limit(1))
    tables.delete(FEATURES, gone)
    with pytest.raises(ArtifactError, match="the index is not that of the images as they are now"):
        command.export_index(tables, str(to))
    tables.overwrite(SHARDS, tables.read(SHARDS).limit(0))
    with pytest.raises(TableError, match="there is no index with vectors"):
        command.export_index(tables, str(to))
    assert not to.exists()


# --- without Spark ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [False, True])
def test_a_task_writes_its_files_to_a_store_and_names_every_vector(tmp_path: Path, merged: bool) -> None:
    rng = np.random.default_rng(3)
    centroids = np.eye(4, 16, dtype=np.float32)
    ids = [rng.integers(-(1 << 62), 1 << 62, n) for n in (30, 1, 50)]
    given, listed = [], (shards.write_centroids(str(tmp_path), "build", centroids), centroids)
    for i, some in enumerate(ids):
        vectors = rng.standard_normal((len(some), 16)).astype(np.float16)
        block = Block(some, vectors, np.full(len(some), i, np.int32))
        row = shards.write_shard(str(tmp_path), f"s{i}.faiss", block, listed, seed=1)
        name, first_id = "all.faiss" if merged else f"{i}.faiss", (0, 30, 31)[i]
        given.append({"file": name, "first_id": first_id} | {c: row.get(c) for c in shards.ShardFiles._fields})
    batches = [pa.RecordBatch.from_pylist(given, schema=SHARD.arrow)]
    to = f"memory://exports/{tmp_path.name}"
    made = pa.Table.from_batches(export_batches(batches, ExportSettings(str(tmp_path), to)), schema=WRITTEN.arrow)
    assert made["faiss_id"].to_pylist() == list(range(81))
    assert made["representative_id"].to_pylist() == np.concatenate(ids).tolist()
    for row in made.group_by("file").aggregate([("faiss_id", "count"), ("file_bytes", "max")]).to_pylist():
        data = files.read_bytes(f"{to}/{row['file']}")
        assert len(data) == row["file_bytes_max"]
        assert faiss.deserialize_index(np.frombuffer(data, np.uint8)).ntotal == row["faiss_id_count"]
    assert len(set(made["file"].to_pylist())) == (1 if merged else 3)


@pytest.mark.parametrize("searched_type", [DEFAULT, "IVF,PQ64"])
def test_an_export_says_that_its_type_is_not_the_one_that_match_searches(searched_type: str) -> None:
    made = (ExportedFile("shard-00000.faiss", 10, 1000, "0" * 64),)
    exported = ExportedIndex("/to", MODEL, D, 10, 12, 4, 4, made, searched_type)
    said = text.describe_export(exported)
    assert said.startswith("10 vectors of 12 images were written to /to: 1 FAISS file, ")
    assert ("float16 by cells (IVF,SQfp16)" in said) == (searched_type != DEFAULT)
    assert ("index of type IVF,PQ64 that match searches stays in the tables" in said) == (searched_type != DEFAULT)
    assert json.loads(text.manifest_of(exported))["index"] == "IndexIVFScalarQuantizer, float16"


def test_the_script_of_the_documents_is_the_one_in_the_folder_and_is_short() -> None:
    assert script_of_the_documents() == text.SCRIPT
    assert len([line for line in text.SCRIPT.splitlines() if line]) <= 12


def test_an_option_before_the_second_word_counts_too() -> None:
    asked = make_parser().parse_args(["index", "--tables", "t", "--set", "a.b=1", "export", "--to", "x"])
    assert (asked.command, asked.tables, asked.set, asked.to, asked.merged) == (
        "index export", "t", ["a.b=1"], "x", False
    )  # fmt: skip
    assert make_parser().parse_args(["index", "--lake", "l"]).command == "index"
