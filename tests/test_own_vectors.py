"""The whole job with vectors that users bring, of dimensions that no model of ours has, and the index given back."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from conftest import run_everything
from table_contents import cluster_pairs, counts_of, rows, true_pairs
from tiny_lake import TinyLake, build_tiny_lake

import dedup_spark
from dedup_spark.config import load_config
from dedup_spark.store.tables import Tables

pytestmark = pytest.mark.slow

PRIOR = "cluster.prior=[-10.193, 27.767, -15.045, 3.973]"
"""As `calibrate` writes it: these vectors separate copies from strangers as well as those of SSCD do."""


def vectors_of(lake: TinyLake, d: int, seed: int) -> dict[str, np.ndarray]:
    """A model that knows the truth: images of one picture lie near each other, others anywhere. Of any length."""
    rng = np.random.default_rng(seed)
    centres = {picture: rng.standard_normal(d) for picture in sorted(set(lake.truth.values()))}
    return {
        path: rng.uniform(0.1, 9) * (centres[picture] + 0.2 * rng.standard_normal(d))
        for path, picture in sorted(lake.truth.items())
    }


def write(path: Path, vectors: dict[str, np.ndarray]) -> None:
    listed = pa.array([v.tolist() for v in vectors.values()], pa.list_(pa.float64()))
    pq.write_table(pa.table({"uri": list(vectors), "embedding": listed}), path)


@pytest.mark.parametrize(("d", "engine"), [(96, "auto"), (768, "routed")])
def test_own_vectors_find_the_copies_and_the_index_is_searched_by_faiss_alone(
    tables: Tables, tmp_path: Path, d: int, engine: str
) -> None:
    lake = build_tiny_lake(tmp_path / "lake")
    vectors = vectors_of(lake, d, seed=d)
    without = "singles/moon.png"
    write(tmp_path / "v.parquet", {path: v for path, v in vectors.items() if path != without})
    given = ["extract.embedding=table", f"vectors.table={tmp_path}/v.parquet", "vectors.model=oracle"]
    run_everything(tables, lake.folder, load_config(None, [*given, PRIOR, f"match.engine={engine}"]))

    assert {r["model_id"] for r in rows(tables.root, "features")} == {f"table/oracle/{d}", None}
    assert counts_of(tables.root, "extract")["without_vector"] == 1
    assert cluster_pairs(tables.root, lake.folder) == true_pairs(lake.truth)
    recall = [row for row in rows(tables.root, "quality") if row["metric"] == "recall"]
    assert recall
    assert all(row["n_found"] == row["n_true"] for row in recall)

    to = tmp_path / "export"
    done = dedup_spark.export_index(tables.spark, tables=tables.root, to=to)
    assert (done.n_dimensions, done.model_id) == (d, f"table/oracle/{d}")
    names = {row["faiss_id"]: row["uri"] for row in ds.dataset(str(to / "ids")).to_table().to_pylist()}
    query = vectors["singles/coins.png"].astype(np.float32)[None]
    found = [
        faiss.read_index(str(to / file["name"])).search(query / np.linalg.norm(query), 1)
        for file in json.loads((to / "manifest.json").read_text())["files"]
    ]
    cosine, nearest = max((float(cosines[0, 0]), int(ids[0, 0])) for cosines, ids in found)
    assert names[nearest].endswith("/singles/coins.png")
    assert cosine == pytest.approx(1, abs=1e-3)
