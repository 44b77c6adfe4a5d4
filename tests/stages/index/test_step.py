"""Index: cells and shards that hold every representative once, and a training sample that order cannot change."""

from __future__ import annotations

import hashlib
import itertools
import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from fabricated import (
    MODEL,
    built_from_features,
    directions,
    families,
    fill,
    frame,
    random_ids,
    readable,
    rejected,
    to_bytes,
)
from pyspark.sql import DataFrame, SparkSession
from table_contents import rows

from dedup_spark.config import IndexSettings, load_config
from dedup_spark.errors import TableError
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.index import step as index
from dedup_spark.store import shards
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CENTROIDS, SHARDS
from dedup_spark.store.tables import Tables


def run_index(tables: Tables, *overrides: str, run_id: str = "r1") -> Run:
    config = load_config(None, overrides)
    run = Run(tables, config, "file:///lake", run_id)
    index.run(tables.spark, config, run)
    return run


# --- cells to shards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_packing_keeps_cells_whole_and_shards_full_but_within_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.permutation(200)[: rng.integers(1, 60)].tolist()
    sizes = {cell: int(rng.choice([1, 5, 40, 99, 100, 101, 250])) for cell in cells}
    shard_of = index.pack_cells(sizes, 100)
    assert set(shard_of) == set(sizes)
    in_order = [shard_of[cell] for cell in sorted(sizes)]
    assert in_order[0] == 0
    held = sorted(set(in_order))
    filled = {s: sum(sizes[c] for c in sizes if shard_of[c] == s) for s in held}
    assert all(total <= 100 or in_order.count(s) == 1 for s, total in filled.items())
    taken = {s: -(-total // 100) for s, total in filled.items()}  # shards of at most 100: a large cell has several
    first = {s: sizes[min(c for c in sizes if shard_of[c] == s)] for s in held}
    for s, behind in itertools.pairwise(held):
        assert behind == s + taken[s]  # no number left out
        assert filled[s] + first[behind] > 100  # the next cell would not have fitted


def test_no_cells_need_no_shards() -> None:
    assert index.pack_cells({}, 100) == {}


# --- the training sample ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(31)
    vectors = families([100] * 12, 0.7, rng)
    ids = random_ids(len(vectors), rng)
    made = [(i, MODEL, to_bytes(v)) for i, v in zip(ids, vectors, strict=True)]
    return local_relation(spark, made, "image_id bigint, model_id string, embedding binary").cache()


def test_the_sample_depends_on_ids_and_seed_and_not_on_order_or_partitions(crowd: DataFrame) -> None:
    settings = IndexSettings(n_cells=4)  # 4 x 64 of 1,200 rows are drawn
    trained = index.train(crowd.orderBy("image_id").coalesce(1), 1200, settings)
    assert trained.shape == (4, 512)
    assert np.linalg.norm(trained, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(index.train(crowd.orderBy("embedding").repartition(7), 1200, settings), trained)
    assert not np.array_equal(index.train(crowd, 1200, IndexSettings(n_cells=4, seed=1)), trained)


def test_the_sample_is_drawn_from_the_whole_range_of_ids(crowd: DataFrame) -> None:
    """Not the first rows of an ordered lake: as many cells as families, each centroid near one of them."""
    centroids = index.train(crowd, 1200, IndexSettings(n_cells=12))
    vectors = np.stack([np.frombuffer(r["embedding"], "<f2") for r in crowd.collect()]).astype(np.float32)
    assert (vectors @ centroids.T).max(axis=1).min() > 0.5  # the families are 0.7 apart inside and 0 outside


@pytest.mark.parametrize(("n_vectors", "n_cells"), [(1, 1), (2, 1), (5, 5)])
def test_there_are_never_more_cells_than_vectors(crowd: DataFrame, n_vectors: int, n_cells: int) -> None:
    few = crowd.orderBy("image_id").limit(n_vectors)
    asked = 0 if n_vectors < 5 else 100
    assert index.train(few, n_vectors, IndexSettings(n_cells=asked)).shape == (n_cells, 512)


# --- the step --------------------------------------------------------------------------------------------


def test_every_representative_is_in_one_shard_in_its_nearest_cell(tables: Tables) -> None:
    rng = np.random.default_rng(32)
    vectors = families([60] * 15, 0.7, rng)
    ids = random_ids(len(vectors), rng)
    copies = [readable(max(ids) - 1 - i, vectors[i], pixel_hash="one picture") for i in range(3)]
    without = [readable(2, pixel_hash="no embedding"), rejected(3)]
    fill(tables, feature_rows=[*(readable(i, v) for i, v in zip(ids, vectors, strict=True)), *copies, *without])
    old = Path(tables.root, shards.FOLDER, "an older build")
    old.mkdir(parents=True)
    (old / "shard-00000.faiss").write_bytes(b"old")
    run_index(tables, "index.max_shard_rows=256", "index.n_cells=3", run_id="r7")

    stored = {i: v.astype(np.float16) for i, v in zip(ids, vectors, strict=True)}
    stored[min(c["image_id"] for c in copies)] = vectors[2].astype(np.float16)  # the smallest id stands for the three
    centroids = {r["cell"]: r for r in rows(tables.root, "centroids")}
    matrix = np.stack([np.frombuffer(centroids[cell]["centroid"], "<f4") for cell in range(3)])
    assert np.linalg.norm(matrix, axis=1) == pytest.approx(1, abs=1e-5)
    nearest = {i: int(np.argmax(matrix.astype(np.float64) @ v.astype(np.float64))) for i, v in stored.items()}

    found: dict[int, np.ndarray] = {}
    for row in rows(tables.root, "shards"):
        file = Path(tables.root, row["path"])
        data = file.read_bytes()
        assert (row["size_bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert row["model_id"] == MODEL
        shard = shards.read_shard(tables.root, shards.ShardFiles.of(row))
        block = shard.block
        assert np.array_equal(shard.centroids, matrix)
        ids_in, vectors_in = block.ids, block.vectors
        assert row["n_images"] == len(ids_in)
        assert row["n_images"] <= 256
        assert row["cells"] == sorted({nearest[i] for i in ids_in.tolist()})
        assert all(centroids[cell]["shard"] <= row["shard"] for cell in row["cells"])
        assert not set(found) & set(ids_in.tolist())
        found |= dict(zip(ids_in.tolist(), vectors_in, strict=True))
        assert_faiss_finds_each_in_its_cell(file, row["cells"], ids_in, vectors_in, nearest)
    assert set(found) == set(stored)
    assert all(np.array_equal(found[i], stored[i]) for i in stored)
    assert {cell: r["n_images"] for cell, r in centroids.items()} == {
        c: list(nearest.values()).count(c) for c in range(3)
    }
    [build] = Path(tables.root, shards.FOLDER).iterdir()
    assert build.name.startswith("r7-")
    assert not Path(tables.root, "_staging").exists()


def assert_faiss_finds_each_in_its_cell(
    file: Path, cells: list[int], ids: np.ndarray, halves: np.ndarray, nearest: dict[int, int]
) -> None:
    """With one probe, by FAISS alone: the file is an ordinary IVF index, whose lists are these cells."""
    opened: Any = faiss.read_index(str(file))
    opened.nprobe = 1
    _, best = opened.search(halves.astype(np.float32), 1)
    vector_of = dict(zip(ids.tolist(), halves.tolist(), strict=True))  # one vector has two ids: either is right
    assert [vector_of[i] for i in best[:, 0].tolist()] == halves.tolist()
    assert opened.nlist == len(cells)
    for number, cell in enumerate(cells):
        size = opened.invlists.list_size(number)
        held = faiss.rev_swig_ptr(opened.invlists.get_ids(number), size).tolist()
        assert all(nearest[i] == cell for i in held)


def test_the_number_of_cells_grows_with_the_square_root(tables: Tables) -> None:
    vectors = directions(100, np.random.default_rng(33))
    fill(tables, feature_rows=(readable(i, v) for i, v in enumerate(vectors)))
    run = run_index(tables)
    assert run._mark.counts == {"vectors": 100, "cells": round(math.sqrt(100) / 2), "shards": 1}
    assert len(rows(tables.root, "centroids")) == 5
    assert {r["built_from"] for r in rows(tables.root, "shards")} == {built_from_features(tables)}


def test_embeddings_of_two_models_are_refused_and_the_old_index_stays(tables: Tables) -> None:
    vectors = directions(2, np.random.default_rng(34))
    fill(tables, feature_rows=[readable(1, vectors[0]), readable(2, vectors[1], model_id="made-up/2")])
    tables.append(SHARDS, frame(tables.spark, SHARDS.schema, [{"shard": 0, "path": "old"}]))
    with pytest.raises(TableError, match=r"2 models \(made-up/1, made-up/2\), which cannot be compared"):
        run_index(tables)
    assert [r["path"] for r in rows(tables.root, "shards")] == ["old"]


def test_features_without_embeddings_make_an_empty_index(tables: Tables) -> None:
    fill(tables, feature_rows=[readable(1), rejected(2)], shard_rows=[{"shard": 0, "path": "shard_files/old/x"}])
    tables.append(CENTROIDS, frame(tables.spark, CENTROIDS.schema, [{"cell": 0, "n_images": 5}]))
    run_index(tables)
    assert rows(tables.root, "shards") == rows(tables.root, "centroids") == []


def test_an_empty_index_leaves_no_files_behind(tables: Tables) -> None:
    old = Path(tables.root, shards.FOLDER, "an older build")
    old.mkdir(parents=True)
    run_index(tables)
    assert not old.exists()
    assert not Path(tables.root, "_staging").exists()


def test_what_an_attempt_wrote_that_another_overtook_is_deleted(tables: Tables) -> None:
    vectors = directions(20, np.random.default_rng(35))
    fill(tables, feature_rows=(readable(i, v) for i, v in enumerate(vectors)))
    run_index(tables)
    [row] = rows(tables.root, "shards")
    build = Path(tables.root, row["path"]).parents[1]
    lost = build / "lost"
    lost.mkdir()
    (lost / "shard-00000.faiss").write_bytes(b"of an attempt that was too late")
    index._delete_lost_attempts(tables, build.name)
    assert sorted(build.iterdir()) == sorted([build / "centroids.npy", Path(tables.root, row["path"]).parent])
    assert Path(tables.root, row["path"]).exists()
