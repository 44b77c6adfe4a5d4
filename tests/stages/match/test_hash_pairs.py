"""Pairs from hashes against brute force, each once and with its scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
from fabricated import (
    exact_cosines,
    families,
    features,
    flip_bits,
    frame,
    hamming,
    random_ids,
    readable,
    rejected,
    to_bytes,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import MatchSettings
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match import hash_pairs, neighbours
from dedup_spark.stages.representatives import representatives_with
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.schema import PAIRS

SIGNATURES = "image_id bigint, phash bigint, embedding binary"

Pairs = set[tuple[int, int]]


def ordered(a: int, b: int) -> tuple[int, int]:
    return min(a, b), max(a, b)


def id_pairs(found: DataFrame) -> Pairs:
    """The pairs as a set, after a check that each is there once, with the smaller id first."""
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


MANY = 10**8  # more than one task takes


@pytest.mark.parametrize(
    ("seed", "max_hamming_bits", "n_unique"),
    [(0, 0, MANY), (1, 1, 300), (2, 2, MANY), (3, 3, 300), (4, 3, MANY)],
)
def test_near_hashes_are_those_of_brute_force(
    spark: SparkSession, seed: int, max_hamming_bits: int, n_unique: int
) -> None:
    known = hashes(seed)
    unique = local_relation(spark, list(known.items()), "image_id bigint, phash bigint").repartition(3)
    settings = MatchSettings(max_hamming_bits=max_hamming_bits, max_phash_bucket=10_000)
    found = hash_pairs.phash_pairs(unique, n_unique, settings)
    expected = {
        ordered(a, b)
        for (a, hash_a), (b, hash_b) in itertools.combinations(known.items(), 2)
        if hamming(hash_a, hash_b) <= max_hamming_bits
    }
    assert len(expected) >= 25
    assert id_pairs(found) == expected


@pytest.mark.parametrize("n_unique", [11, MANY])
def test_a_hash_of_a_crowd_proposes_nothing_and_a_smaller_crowd_all_its_pairs(
    spark: SparkSession, n_unique: int
) -> None:
    crowds = [(i, 0x1234_5678_9ABC_DEF0) for i in range(6)] + [(i, -5) for i in range(10, 15)]
    unique = local_relation(spark, crowds, "image_id bigint, phash bigint")
    found = hash_pairs.phash_pairs(unique, n_unique, MatchSettings(max_phash_bucket=5))
    assert id_pairs(found) == set(itertools.combinations(range(10, 15), 2))


@pytest.mark.parametrize("chunk_rows", [1, 7, 50])
def test_chunks_change_no_pair_and_a_crowd_over_several_stays_a_crowd(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr(hash_pairs, "_CHUNK_ROWS", chunk_rows)
    keys = np.repeat(np.arange(12), [1, 4, 30, 2, 5, 1, 1, 5, 60, 3, 2, 1])
    rows = pa.table({"image_id": np.arange(len(keys)), "phash": np.zeros(len(keys), np.int64), "key": keys})
    found = {
        (r["image_id_a"], r["image_id_b"])
        for batch in hash_pairs._near_batches(rows.to_batches(max_chunksize=3), 3, 5)
        for r in batch.to_pylist()
    }
    small = [k for k in range(12) if 2 <= np.count_nonzero(keys == k) <= 5]
    assert found == {p for k in small for p in itertools.combinations(np.flatnonzero(keys == k).tolist(), 2)}


def test_hash_pairs_that_the_embeddings_contradict_are_dropped(spark: SparkSession) -> None:
    scored = frame(
        spark,
        "image_id_a bigint, image_id_b bigint, similarity float, hamming_bits int",
        [
            {"image_id_a": 1, "image_id_b": 2, "similarity": 0.5, "hamming_bits": 1},
            {"image_id_a": 1, "image_id_b": 3, "similarity": 0.1, "hamming_bits": 0},
            {"image_id_a": 1, "image_id_b": 4, "similarity": None, "hamming_bits": 3},
            {"image_id_a": 1, "image_id_b": 5, "similarity": 0.2, "hamming_bits": 0},  # of a tiny thumbnail
        ],
    )
    kept = hash_pairs.near_enough(scored, MatchSettings(min_similarity=0.5))
    assert id_pairs(kept) == {(1, 2), (1, 4), (1, 5)}
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
    lake = features(spark, [*made, rejected(6), rejected(8)])
    unique = representatives_with(lake, F.col("content_hash"))
    assert {r["image_id"]: r["n_equal"] for r in unique.collect()} == {-3: 4, 1: 2, 4: 1}
    several = unique.where("n_equal > 1")
    found = hash_pairs.identical_pairs(lake, several, n_with_copies=2)
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        shuffled = sorted(hash_pairs.identical_pairs(lake, several, n_with_copies=10**9).collect())
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert shuffled == sorted(found.collect())
    assert id_pairs(found) == {(-3, 9), (-3, 5), (-3, 7), (1, 2)}
    by_member = {r["image_id_b"]: (r["method"], r["similarity"], r["hamming_bits"]) for r in found.collect()}
    assert by_member == {
        9: ("same_bytes", 1.0, 0),
        5: ("same_pixels", 1.0, 0),
        7: ("same_pixels", 1.0, 0),
        2: ("same_bytes", None, 0),
    }


def test_of_several_sources_the_cheapest_names_a_pair_and_its_scores_go_with_it(spark: SparkSession) -> None:
    methods = ["embedding", "phash", "same_pixels", "same_bytes"]  # from dear to cheap
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
        rows_of = {r["image_id_b"]: r for r in neighbours.each_once(order).collect()}
        assert {b: (r["method"], r["similarity"], r["hamming_bits"]) for b, r in rows_of.items()} == {
            2: ("same_bytes", 0.75, 3),
            3: ("same_pixels", 0.5, 2),
            4: ("phash", 0.25, 1),
            5: ("embedding", 0.0, 0),
        }


# --- exact scores ----------------------------------------------------------------------------------------


def signatures(spark: SparkSession, made: Iterable[tuple[int, int, np.ndarray | None]]) -> DataFrame:
    return local_relation(spark, [(i, p, None if v is None else to_bytes(v)) for i, p, v in made], SIGNATURES)


def test_scores_are_the_exact_cosine_and_the_bits_that_differ(spark: SparkSession) -> None:
    rng = np.random.default_rng(12)
    vectors = families([4, 4, 4], 0.6, rng)
    hashed = rng.integers(-(2**63), 2**63 - 1, 12).tolist()
    known = signatures(spark, [(i, hashed[i], vectors[i]) for i in range(12)])
    pairs = list(itertools.combinations(range(12), 2))
    asked = local_relation(spark, pairs, "image_id_a bigint, image_id_b bigint")
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
    asked = local_relation(spark, [(0, 1), (0, 2), (0, 3)], "image_id_a bigint, image_id_b bigint")
    found = {r["image_id_b"]: r["similarity"] for r in score_pairs(asked.coalesce(1), known).collect()}
    cosines = exact_cosines(vectors)
    assert found == {1: pytest.approx(cosines[0, 1], abs=1e-6), 2: pytest.approx(cosines[0, 2], abs=1e-6), 3: None}
