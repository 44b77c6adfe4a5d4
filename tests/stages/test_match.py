"""Match against brute force: every pair that must be found, no pair that must not, each once and with its scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import (
    exact_cosines,
    families,
    features,
    fill,
    flip_bits,
    frame,
    hamming,
    random_ids,
    readable,
    rejected,
    to_bytes,
    write_shards,
)
from pyspark.sql import DataFrame, SparkSession
from table_contents import rows

from dedup_spark.config import MatchSettings, load_config
from dedup_spark.errors import ArtifactError, GuardError
from dedup_spark.runs import Run
from dedup_spark.stages import match
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.tables import PAIRS, SHARDS, Tables

SIGNATURES = "image_id bigint, phash bigint, embedding binary"

Pairs = set[tuple[int, int]]


def ordered(a: int, b: int) -> tuple[int, int]:
    return min(a, b), max(a, b)


def id_pairs(found: DataFrame) -> Pairs:
    """The pairs as a set, after a look that each is there once, with the smaller id first."""
    pairs = [(r["image_id_a"], r["image_id_b"]) for r in found.collect()]
    assert len(set(pairs)) == len(pairs)
    assert all(a < b for a, b in pairs)
    return set(pairs)


# --- near pHash ------------------------------------------------------------------------------------------


def hashes(seed: int) -> dict[int, int]:
    """Random hashes and neighbours of some at 0 to 4 bits, with bits at the borders of the parts among them."""
    rng = np.random.default_rng(seed)
    found = rng.integers(-(2**63), 2**63 - 1, 150).tolist()
    for n_bits in range(5):
        found += [flip_bits(p, rng.choice(64, n_bits, replace=False).tolist()) for p in found[:25]]
    borders = [0, 12, 13, 25, 26, 37, 38, 50, 51, 63]
    found += [flip_bits(found[30], bits) for bits in itertools.combinations(borders, 3)][::4]
    found += [0, -1, 1, 2**63 - 1, -(2**63)]
    return dict(zip(random_ids(len(found), rng), found, strict=True))


@pytest.mark.parametrize(("seed", "max_hamming_bits"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)])
def test_near_hashes_are_those_of_brute_force(spark: SparkSession, seed: int, max_hamming_bits: int) -> None:
    known = hashes(seed)
    unique = spark.createDataFrame(list(known.items()), "image_id bigint, phash bigint").repartition(3)
    found = match.phash_pairs(unique, MatchSettings(max_hamming_bits=max_hamming_bits, max_phash_bucket=10_000))
    expected = {
        ordered(a, b)
        for (a, hash_a), (b, hash_b) in itertools.combinations(known.items(), 2)
        if hamming(hash_a, hash_b) <= max_hamming_bits
    }
    assert len(expected) >= 25
    assert id_pairs(found) == expected


def test_a_hash_of_a_crowd_proposes_nothing_and_a_smaller_crowd_all_its_pairs(spark: SparkSession) -> None:
    crowds = [(i, 0x1234_5678_9ABC_DEF0) for i in range(6)] + [(i, -5) for i in range(10, 15)]
    unique = spark.createDataFrame(crowds, "image_id bigint, phash bigint")
    found = match.phash_pairs(unique, MatchSettings(max_phash_bucket=5))
    assert id_pairs(found) == set(itertools.combinations(range(10, 15), 2))


def test_hash_pairs_that_the_embeddings_contradict_are_dropped(spark: SparkSession) -> None:
    scored = frame(
        spark,
        "image_id_a bigint, image_id_b bigint, similarity float, hamming_bits int",
        [
            {"image_id_a": 1, "image_id_b": 2, "similarity": 0.5, "hamming_bits": 1},
            {"image_id_a": 1, "image_id_b": 3, "similarity": 0.25, "hamming_bits": 0},
            {"image_id_a": 1, "image_id_b": 4, "similarity": None, "hamming_bits": 3},
        ],
    )
    kept = match.near_enough(scored, MatchSettings(min_similarity=0.5))
    assert id_pairs(kept) == {(1, 2), (1, 4)}
    assert {r["method"] for r in kept.collect()} == {"phash"}


# --- identical images ------------------------------------------------------------------------------------


def test_identical_images_are_joined_to_the_smallest_id_of_their_pixels(spark: SparkSession) -> None:
    pixels = {"p": [5, -3, 9, 7], "q": [2, 1], "alone": [4]}
    same_bytes = {-3: "x", 9: "x", 7: "y", 5: "y", 2: "z", 1: "z"}
    made = [
        readable(i, pixel_hash=name, content_hash=same_bytes.get(i, str(i)), model_id="m" if name == "p" else None)
        for name, ids in pixels.items()
        for i in ids
    ]
    found = match.identical_pairs(features(spark, [*made, rejected(6), rejected(8)]))
    assert id_pairs(found) == {(-3, 9), (-3, 5), (-3, 7), (1, 2)}
    by_member = {r["image_id_b"]: (r["method"], r["similarity"], r["hamming_bits"]) for r in found.collect()}
    assert by_member == {
        9: ("same_bytes", 1.0, 0),
        5: ("same_pixels", 1.0, 0),
        7: ("same_pixels", 1.0, 0),
        2: ("same_bytes", None, 0),
    }


def test_of_several_sources_the_cheapest_names_a_pair_and_its_scores_go_with_it(spark: SparkSession) -> None:
    methods = ["sketch", "phash", "same_pixels", "same_bytes"]  # from dear to cheap
    sources = [
        frame(
            spark,
            PAIRS.schema,
            [
                {"image_id_a": 1, "image_id_b": b, "method": method, "similarity": rank / 4, "hamming_bits": rank}
                for b in range(2, 6)
                if rank <= 5 - b
            ],
        )
        for rank, method in enumerate(methods)
    ]
    for order in (sources, sources[::-1]):
        rows_of = {r["image_id_b"]: r for r in match.each_once(order).collect()}
        assert {b: (r["method"], r["similarity"], r["hamming_bits"]) for b, r in rows_of.items()} == {
            2: ("same_bytes", 0.75, 3),
            3: ("same_pixels", 0.5, 2),
            4: ("phash", 0.25, 1),
            5: ("sketch", 0.0, 0),
        }


# --- near embeddings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_shards", [0, 1, 2, 7])
def test_every_two_shards_meet_once_and_each_meets_itself(spark: SparkSession, n_shards: int) -> None:
    listed = frame(
        spark, SHARDS.schema, [{"shard": s, "path": f"{s}.faiss", "sha256": f"sum {s}"} for s in range(n_shards)]
    )
    found = [r.asDict() for r in match.work_items(listed).collect()]
    half = {(a, b) for a in range(n_shards) for b in range(a, n_shards)}
    assert len(found) == n_shards * (n_shards + 1) // 2
    assert {(r["a"], r["b"]) for r in found} == half
    for r in found:
        assert (r["a_path"], r["a_sha256"]) == (f"{r['a']}.faiss", f"sum {r['a']}")
        assert (r["b_path"], r["b_sha256"]) == (f"{r['b']}.faiss", f"sum {r['b']}")


@pytest.mark.parametrize("layout", [(130,), (50, 40, 40), (1, 60, 2, 30, 1, 36)], ids=str)
@pytest.mark.parametrize("min_similarity", [0.45, 0.7])
def test_near_embeddings_are_those_of_brute_force_whatever_the_shards(
    spark: SparkSession, tmp_path: Path, layout: tuple[int, ...], min_similarity: float
) -> None:
    rng = np.random.default_rng(11)
    vectors = families([1] * 30 + [2] * 20 + [6] * 10, 0.8, rng)[rng.permutation(130)]
    ids = random_ids(130, rng)
    items = match.work_items(frame(spark, SHARDS.schema, write_shards(tmp_path, ids, vectors, layout)))
    settings = match.sketch_settings(str(tmp_path), MatchSettings(min_similarity=min_similarity))
    found = match.sketch_pairs(items, settings)
    cosines = exact_cosines(vectors)
    expected = {
        ordered(ids[i], ids[j]): cosines[i, j]
        for i, j in itertools.combinations(range(130), 2)
        if cosines[i, j] >= min_similarity
    }
    assert len(expected) == 20 + 10 * 15
    assert id_pairs(found) == set(expected)
    for r in found.collect():
        assert r["similarity"] == pytest.approx(expected[r["image_id_a"], r["image_id_b"]], abs=1e-6)


def test_a_shard_that_is_not_the_one_listed_stops_the_step(spark: SparkSession, tmp_path: Path) -> None:
    made = write_shards(tmp_path, [1, 2, 3], families([3], 0.9, np.random.default_rng(0)), [3])
    items = match.work_items(frame(spark, SHARDS.schema, [made[0] | {"sha256": "0" * 64}]))
    with pytest.raises(Exception, match=rf"{ArtifactError.__name__}: .*dedup-spark index --force"):
        match.sketch_pairs(items, match.sketch_settings(str(tmp_path), MatchSettings())).collect()


# --- exact scores ----------------------------------------------------------------------------------------


def signatures(spark: SparkSession, made: Iterable[tuple[int, int, np.ndarray | None]]) -> DataFrame:
    return spark.createDataFrame([(i, p, None if v is None else to_bytes(v)) for i, p, v in made], SIGNATURES)


def test_scores_are_the_exact_cosine_and_the_bits_that_differ(spark: SparkSession) -> None:
    rng = np.random.default_rng(12)
    vectors = families([4, 4, 4], 0.6, rng)
    hashed = rng.integers(-(2**63), 2**63 - 1, 12).tolist()
    known = signatures(spark, [(i, hashed[i], vectors[i]) for i in range(12)])
    pairs = list(itertools.combinations(range(12), 2))
    asked = spark.createDataFrame(pairs, "image_id_a bigint, image_id_b bigint")
    cosines = exact_cosines(vectors)
    found = {(r["image_id_a"], r["image_id_b"]): r for r in score_pairs(asked, known).collect()}
    assert set(found) == set(pairs)
    for (a, b), row in found.items():
        assert row["similarity"] == pytest.approx(cosines[a, b], abs=1e-6)
        assert row["hamming_bits"] == hamming(hashed[a], hashed[b])


def test_a_missing_embedding_costs_the_scores_of_its_own_pairs_only(spark: SparkSession) -> None:
    """As after a first run with extract.embedding=off."""
    vectors = families([3], 0.8, np.random.default_rng(13))
    known = signatures(spark, [(i, 0, vectors[i]) for i in range(3)] + [(3, 0, None)])
    asked = spark.createDataFrame([(0, 1), (0, 2), (0, 3)], "image_id_a bigint, image_id_b bigint")
    found = {r["image_id_b"]: r["similarity"] for r in score_pairs(asked.coalesce(1), known).collect()}
    cosines = exact_cosines(vectors)
    assert found == {1: pytest.approx(cosines[0, 1], abs=1e-6), 2: pytest.approx(cosines[0, 2], abs=1e-6), 3: None}


# --- the step --------------------------------------------------------------------------------------------


def run_match(tables: Tables, *overrides: str) -> list[dict[str, Any]]:
    config = load_config(None, overrides)
    match.run(tables.spark, config, Run(tables, config, "file:///lake", "r1"))
    assert not Path(tables.root, "_staging").exists()
    return sorted(rows(tables.root, "pairs"), key=lambda r: (r["image_id_a"], r["image_id_b"]))


@pytest.mark.parametrize("n_images", [0, 1, 2])
def test_a_lake_without_embeddings_is_matched_by_its_hashes(tables: Tables, n_images: int) -> None:
    fill(tables, feature_rows=[readable(1, phash=0b0111), readable(2, phash=0b1101)][:n_images])
    near = {"image_id_a": 1, "image_id_b": 2, "method": "phash", "similarity": None, "hamming_bits": 2}
    assert run_match(tables) == [near][: max(0, n_images - 1)]


def test_all_sources_meet_in_one_table_and_an_explosion_is_stopped_before_it_is_written(tables: Tables) -> None:
    rng = np.random.default_rng(14)
    vectors = families([5, 1, 1], 0.9, rng)
    hashed = [0, 3, *rng.integers(-(2**63), 2**63 - 1, 5).tolist()]  # the first two are near by hash as well
    copies = [readable(20, vectors[0], pixel_hash="pixels of 10", phash=0, content_hash="bytes of 10"),
              readable(21, vectors[6], pixel_hash="pixels of 16", phash=hashed[6])]  # fmt: skip
    fill(
        tables,
        feature_rows=[*(readable(10 + i, vectors[i], phash=hashed[i]) for i in range(7)), *copies, rejected(30)],
        shard_rows=write_shards(tables.root, list(range(10, 17)), vectors, [3, 4]),
    )
    tables.append(PAIRS, frame(tables.spark, PAIRS.schema, [{"image_id_a": 1, "image_id_b": 2, "method": "old"}]))
    with pytest.raises(GuardError, match=r"10 pairs among 7 distinct images.*match\.max_pairs_per_image=N"):
        run_match(tables, "match.max_pairs_per_image=1")
    assert [p["method"] for p in rows(tables.root, "pairs")] == ["old"]

    cosines = exact_cosines(vectors)
    expected = [
        (10 + i, 10 + j, "phash" if (i, j) == (0, 1) else "sketch", cosines[i, j], hamming(hashed[i], hashed[j]))
        for i, j in itertools.combinations(range(5), 2)
    ] + [(10, 20, "same_bytes", 1.0, 0), (16, 21, "same_pixels", 1.0, 0)]
    found = run_match(tables)
    assert [tuple(p.values()) for p in found] == [
        (a, b, method, pytest.approx(similarity, abs=1e-6), bits) for a, b, method, similarity, bits in sorted(expected)
    ]
