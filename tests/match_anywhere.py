"""Indexes and matches one lake by every engine, on any Spark cluster; `test_engines_anywhere.py` runs it as a process.

    python tests/match_anywhere.py FOLDER MASTER SEED MAX_SHARD_ROWS

The seed decides in which order, and in how many files, the images are in `features`. It prints one JSON object: for
each engine its pairs, its densities and its settings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import own_cluster
from fabricated import arc, directions, families, far_hash, fill, random_ids, readable
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables

ENGINES = ("exact", "sketch", "routed", "faiss_ivf")


def lake() -> tuple[list[int], np.ndarray]:
    """2,400 images: families near, around and below the thresholds, a chain, and images unlike all others."""
    rng = np.random.default_rng(31)
    near = families([2] * 200 + [3] * 100 + [40], 0.75, rng)
    far = families([2] * 200 + [6] * 60, 0.47, rng)
    made = np.concatenate([near, far, arc(60, 0.6, rng)])
    vectors = np.concatenate([made, directions(2400 - len(made), rng)])
    return random_ids(len(vectors), rng), vectors


def fill_features(tables: Tables, seed: int) -> None:
    ids, vectors = lake()
    rng = np.random.default_rng(seed)
    for part in np.array_split(rng.permutation(len(ids)), 1 + seed):
        fill(tables, feature_rows=[readable(ids[i], vectors[i], phash=far_hash(ids[i])) for i in part.tolist()])
    assert tables.read(FEATURES).count() == len(ids)


def main() -> None:
    folder, master, seed, max_shard_rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    spark = own_cluster.start(master, folder)
    found = {}
    for engine in ENGINES:
        options = (f"match.engine={engine}", "match.neighbours=3", "match.min_recall=0.6", "match.floor_recall=0.3",
                   f"index.max_shard_rows={max_shard_rows}")  # fmt: skip
        config = load_config(None, options)
        tables = Tables(spark, str(folder / engine))
        tables.create_missing()
        fill_features(tables, seed)
        run = Run(tables, config, "file:///lake", engine)
        for step in ("index", "match"):
            run_step(spark, config, run, find_step(step))
        pairs = [(r["image_id_a"], r["image_id_b"], r["similarity"]) for r in rows(tables.root, "pairs")]
        near = [(r["image_id"], r["similarities"]) for r in rows(tables.root, "densities")]
        n_shards = len(rows(tables.root, "shards"))
        (notes,) = (json.loads(r["notes"]) for r in rows(tables.root, "runs") if r["notes"] and r["step"] == "match")
        n_bytes = tables.read(FEATURES).selectExpr("sum(octet_length(embedding))").first()[0]
        chosen = {name: notes[name] for name in ("sketch", "floor", "n_probes")}
        found[engine] = {"pairs": sorted(pairs), "densities": sorted(near), "n_shards": n_shards, "chosen": chosen,
                         "read": notes["shard_bytes_read"] / n_bytes}  # fmt: skip
    spark.stop()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
