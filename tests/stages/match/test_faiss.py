"""faiss_ivf as a user asks for it, from index to quality: its pairs and groups beside those of exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from fabricated import arc, directions, families, far_hash, fill, near_pairs, random_ids, readable
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.kernels.clusters.components import label_components
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.store.runs import Run
from dedup_spark.store.tables import Tables

RNG = np.random.default_rng(41)
VECTORS = np.concatenate([families([2] * 60 + [5] * 40, 0.7, RNG), arc(20, 0.6, RNG), directions(200, RNG)])
IDS = random_ids(len(VECTORS), RNG)
COMMON = ("match.neighbours=3", "match.min_recall=0.99", "index.n_cells=12", "index.max_shard_rows=256")


def run_with(tables: Tables, run_id: str, *overrides: str) -> dict[str, Any]:
    """Index and match; returns the recall that was audited, the notes of match, and the pairs above 0.45."""
    run = Run(tables, load_config(None, [*COMMON, *overrides]), "file:///lake", run_id, full=True)
    for step in ("index", "match"):
        run_step(tables.spark, run.config, run, find_step(step), force=True)
    (recall,) = (r for r in rows(tables.root, "quality") if (r["run_id"], r["metric"]) == (run_id, "recall"))
    found = {(r["image_id_a"], r["image_id_b"]) for r in rows(tables.root, "pairs") if r["similarity"] >= 0.45}
    (notes,) = (
        r["notes"] for r in rows(tables.root, "runs") if (r["run_id"], r["step"]) == (run_id, "match") and r["notes"]
    )
    return {"recall": recall, "pairs": found, "notes": json.loads(notes)}


def groups_of(pairs: set[tuple[int, int]]) -> set[frozenset[int]]:
    a, b = np.array(sorted(pairs)).T
    ids, labels = label_components(a, b)
    return {frozenset(ids[labels == label].tolist()) for label in np.unique(labels)}


@pytest.mark.slow
def test_faiss_finds_the_groups_of_exact_with_the_recall_that_it_says(tables: Tables) -> None:
    made = [readable(i, v, phash=far_hash(i)) for i, v in zip(IDS, VECTORS, strict=True)]
    fill(tables, feature_rows=made)
    truth = near_pairs(IDS, VECTORS, 0.45)
    exact = run_with(tables, "r0", "match.engine=exact")
    assert exact["pairs"] == truth
    for n, index_type in enumerate(("IVF,SQfp16", "IVF,SQ8", "IVF,PQ32", "SQ4"), 1):
        found = run_with(tables, f"r{n}", "match.engine=faiss_ivf", f"index.faiss_index={index_type}")
        share = len(found["pairs"] & truth) / len(truth)
        assert found["pairs"] <= truth
        assert found["recall"]["low"] <= share <= found["recall"]["high"]
        assert share >= 0.98
        lost = len(groups_of(truth) - groups_of(found["pairs"]))
        assert lost <= (1 - found["recall"]["low"]) * len(truth)
        assert {r["engine"] for r in rows(tables.root, "pairs") if r["method"] == "embedding"} == {"faiss_ivf"}
        assert_files_are_of_the_type(tables, index_type)
        assert found["notes"]["predicted_core_seconds"]["faiss_ivf"] > 0


def assert_files_are_of_the_type(tables: Tables, index_type: str) -> None:
    """Each shard is a file that FAISS opens; another type than the default has a second one with the same ids."""
    for row in rows(tables.root, "shards"):
        assert row["index_type"] == index_type
        shard: Any = faiss.read_index(str(Path(tables.root, row["path"])))
        assert (shard.ntotal, shard.nprobe, type(shard).__name__) == (
            row["n_images"], min(12, shard.nlist), "IndexIVFScalarQuantizer",
        )  # fmt: skip
        assert (row["index_path"] is None) == (index_type == "IVF,SQfp16")
        if row["index_path"]:
            own: Any = faiss.read_index(str(Path(tables.root, row["index_path"])))
            query = VECTORS[:1].astype(np.float32)
            every = [index.search(query, row["n_images"])[1].ravel().tolist() for index in (shard, own)]
            assert sorted(every[0]) == sorted(every[1])
