"""Runs the step cluster on made-up rows, and reads the groups that it makes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from fabricated import exact_cosines, fill, frame, hamming, listed, readable
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.stages.cluster import step as cluster
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import PAIRS
from dedup_spark.store.tables import Tables

Row = dict[str, Any]


def run_cluster(tables: Tables, *overrides: str) -> dict[int, Row]:
    """Rows of `clusters` by image_id. The model is made up, so that nobody calibrated it: cosines decide."""
    config = load_config(None, ["cluster.uncalibrated=cosine", *overrides])
    cluster.run(tables.spark, config, Run(tables, config, "file:///lake", "r1"))
    assert not Path(tables.root, "_staging").exists()
    found = rows(tables.root, "clusters")
    assert len({r["image_id"] for r in found}) == len(found)
    return {r["image_id"]: r for r in found}


def append_pairs(tables: Tables, pairs: list[tuple[int, int, str, float | None, int]]) -> None:
    columns = [name for name in PAIRS.column_names if name != "engine"]
    made = [dict(zip(columns, (min(p[:2]), max(p[:2]), *p[2:]), strict=True)) for p in pairs]
    tables.append(PAIRS, frame(tables.spark, PAIRS.schema, made))


def groups_of(members: dict[int, Row]) -> list[list[int]]:
    grouped: dict[int, list[int]] = {}
    for image_id, row in members.items():
        grouped.setdefault(row["cluster_id"], []).append(image_id)
    return sorted(sorted(g) for g in grouped.values())


def embedded(tables: Tables, vectors: np.ndarray, ids: list[int], **facts: Any) -> np.ndarray:
    """Images with vectors and all their near pairs; `facts` are columns of features or images as lists."""
    cosines = exact_cosines(vectors)
    own = [{name: values[i] for name, values in facts.items()} for i in range(len(ids))]
    of_features = [{k: v for k, v in f.items() if k != "uri"} for f in own]
    fill(
        tables,
        [listed(i, **{k: v for k, v in f.items() if k == "uri"}) for i, f in zip(ids, own, strict=True)],
        [readable(i, v, **{"phash": 0} | f) for i, v, f in zip(ids, vectors, of_features, strict=True)],
    )
    near = [(i, j) for i, j in itertools.combinations(range(len(ids)), 2) if cosines[i, j] >= 0.45]
    hashes = [f.get("phash", 0) for f in of_features]
    append_pairs(
        tables, [(ids[i], ids[j], "embedding", float(cosines[i, j]), hamming(hashes[i], hashes[j])) for i, j in near]
    )
    return cosines
