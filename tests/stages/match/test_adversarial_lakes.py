"""Lakes made to break index and match: a million copies, equal and orthogonal vectors, one crowded cell, nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricated import directions, families, fill, near_pairs, random_ids, readable, to_bytes, unit_rows
from pyspark.sql import functions as F
from table_contents import counts_of, rows

from dedup_spark.config import load_config
from dedup_spark.errors import GuardError
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, PAIRS
from dedup_spark.store.tables import Tables

pytestmark = pytest.mark.slow


def index_and_match(tables: Tables, *overrides: str) -> None:
    config = load_config(None, overrides)
    run = Run(tables, config, "file:///lake", "r1")
    for step in ("index", "match"):
        run_step(tables.spark, config, run, find_step(step), force=True)


def embed(tables: Tables, vectors: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Pictures of their own, far from each other by pHash; returns their ids."""
    ids = random_ids(len(vectors), rng)
    hashes = random_ids(len(vectors), rng)
    fill(tables, feature_rows=[readable(i, v, phash=h) for i, v, h in zip(ids, vectors, hashes, strict=True)])
    return ids


def found_pairs(tables: Tables) -> set[tuple[int, int]]:
    return {(r["image_id_a"], r["image_id_b"]) for r in rows(tables.root, "pairs")}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_almost_no_images(tables: Tables, n: int) -> None:
    rng = np.random.default_rng(n)
    vectors = families([2], 0.9, rng)[:n]
    ids = embed(tables, vectors, rng) if n else []
    index_and_match(tables)
    assert found_pairs(tables) == near_pairs(ids, vectors, 0.45)
    assert len(rows(tables.root, "densities")) == n


def test_one_image_a_million_times_is_one_representative_and_a_pair_for_each_copy(tables: Tables) -> None:
    n = 1_000_000
    vector = bytes(to_bytes(directions(1, np.random.default_rng(1))[0]))
    one = {"object_version": 1, "status": "ok", "content_hash": "c", "pixel_hash": "p", "phash": 7, "model_id": "m/1"}
    columns = {name: F.lit(value) for name, value in one.items()} | {"embedding": F.lit(vector)}
    made = tables.spark.range(n).select(F.col("id").alias("image_id"), *(c.alias(k) for k, c in columns.items()))
    known = set(made.columns)
    tables.append(
        FEATURES,
        made.select(
            *(
                (F.col(name) if name in known else F.lit(None)).cast(type_name).alias(name)
                for name, type_name in FEATURES.schema.types.items()
            )
        ),
    )
    index_and_match(tables)
    assert counts_of(tables.root, "match")["representatives"] == 1
    said = tables.read(PAIRS).groupBy("image_id_a", "method").agg(F.countDistinct("image_id_b").alias("n")).collect()
    assert [(r["image_id_a"], r["method"], r["n"]) for r in said] == [(0, "same_bytes", n - 1)]


def test_equal_vectors_of_different_pictures_stop_the_step_before_anything_is_written(tables: Tables) -> None:
    rng = np.random.default_rng(2)
    embed(tables, np.repeat(directions(1, rng), 5_000, axis=0), rng)
    with pytest.raises(GuardError, match=r"pairs.*among 5,000 distinct images.*match\.max_pairs_per_image"):
        index_and_match(tables)
    assert found_pairs(tables) == set()


def test_orthogonal_vectors_make_no_pair(tables: Tables) -> None:
    embed(tables, np.eye(512), np.random.default_rng(3))
    index_and_match(tables)
    assert found_pairs(tables) == set()
    recall = next(r for r in rows(tables.root, "quality") if r["metric"] == "recall")
    assert (recall["n_true"], recall["value"]) == (0, None)


@pytest.mark.parametrize("engine", ["exact", "sketch", "routed"])
def test_half_the_lake_in_one_cell_is_split_over_shards_and_no_pair_is_lost(tables: Tables, engine: str) -> None:
    rng = np.random.default_rng(4)
    families_apart, crowd = families([2] * 700, 0.8, rng), families([2] * 700, 0.8, rng)
    centre = directions(1, rng)
    crowd = unit_rows(np.sqrt(0.3) * centre + np.sqrt(0.7) * crowd)  # all of them nearer to this than to any other
    vectors = np.concatenate([families_apart, crowd])
    ids = embed(tables, vectors, rng)
    index_and_match(
        tables, f"match.engine={engine}", "index.max_shard_rows=256", "index.n_cells=16", "match.min_similarity=0.6",
        "cluster.min_similarity=0.6", "match.neighbours=0", "match.min_recall=0.999999",
    )  # fmt: skip
    shards = rows(tables.root, "shards")
    assert max(s["n_images"] for s in shards) <= 2 * 256
    assert sum(s["n_images"] for s in shards) == len(ids)
    assert found_pairs(tables) == near_pairs(ids, vectors, 0.6)
    assert not Path(tables.root, "_staging").exists()
