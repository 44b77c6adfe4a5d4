"""Which pairs of files with several frames may be joined by likeness, and what the step cluster makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from clustering import append_pairs, groups_of, run_cluster
from fabricated import features, fill, frame, listed, readable
from pyspark.sql import SparkSession

from dedup_spark.stages.cluster.several_frames import FACTS, with_agreeing_frames
from dedup_spark.store.tables import Tables

OPENING = 0x0F0F


def film(*scenes: int, odd: int = 0, odd_bits: int = 64, duration_ms: int | None = 900) -> dict[str, Any]:
    """64 moments, the scenes one after the other; the last `odd` of them differ in `odd_bits` bits."""
    hashes = [scenes[i * len(scenes) // 64] for i in range(64)]
    changed = [h ^ (2**odd_bits - 1) if odd_bits < 64 else ~h for h in hashes]
    n_same = 64 - odd
    phashes = hashes[:n_same] + changed[n_same:]
    return {"n_frames": 30, "frame_phashes": phashes, "duration_ms": duration_ms, "phash": OPENING}


def document(*pages: int) -> dict[str, Any]:
    return {"n_frames": len(pages), "frame_phashes": list(pages), "duration_ms": None, "phash": OPENING}


UNKNOWN = {"n_frames": 90_000, "frame_phashes": None, "duration_ms": 10, "phash": OPENING}
STILL = {"n_frames": 1, "phash": OPENING}
A, B = film(OPENING, 1, 2, 3), film(OPENING, -9, 77, 1 << 40)
PAIRS = {
    "copies": (A, A, True),
    "one opening": (A, B, False),
    "slightly other frames": (A, film(OPENING, 1, 2, 3, odd=64, odd_bits=6), True),
    "other frames": (A, film(OPENING, 1, 2, 3, odd=64, odd_bits=7), False),
    "two odd moments": (A, film(OPENING, 1, 2, 3, odd=2), True),
    "three odd moments": (A, film(OPENING, 1, 2, 3, odd=3), False),
    "slow motion": (A, A | {"duration_ms": 9_000}, True),
    "same pages": (document(5, 6, 7), document(5, 6 ^ 3, 7), True),
    "one other page": (document(5, 6, 7), document(5, 6 ^ 7, 7), False),
    "one page more": (document(5, 6), document(5, 6, 6), False),
    "a film and a document": (film(5), document(*[5] * 64), False),
    "too long to know": (UNKNOWN, UNKNOWN, False),
    "too long to know and a film": (UNKNOWN, A, False),
    "a still": (A, STILL, True),
    "a still of a long film": (STILL, UNKNOWN, True),
    "single pictures": (STILL, STILL, True),
    "rows of older versions": ({"phash": 1}, {"phash": 2}, True),
}


def test_two_films_are_compared_by_all_their_frames(spark: SparkSession) -> None:
    rows, pairs = [], []
    for i, (a, b, _) in enumerate(PAIRS.values()):
        rows += [readable(2 * i, **a), readable(2 * i + 1, **b)]
        pairs.append({"image_id_a": 2 * i, "image_id_b": 2 * i + 1, "query_id": 2 * i})
    several = (
        features(spark, rows).where("n_frames > 1").selectExpr("image_id", f"struct({', '.join(FACTS)}) AS frames")
    )
    asked = frame(spark, "image_id_a bigint, image_id_b bigint, query_id bigint", pairs)
    left = with_agreeing_frames(asked, several)
    assert left.columns == asked.columns
    assert {row["image_id_a"] // 2 for row in left.collect()} == {i for i, p in enumerate(PAIRS.values()) if p[2]}
    assert with_agreeing_frames(asked, None) is asked


@pytest.fixture
def look_alikes(tables: Tables) -> Tables:
    """Films 1 and 2 are copies, 3 is another with their opening, 4 and 5 are stills of it, 6 is a document that begins
    with it, and every pair looks alike."""
    facts = {1: A, 2: A, 3: B, 4: STILL, 5: STILL, 6: document(OPENING, 8)}
    fill(tables, map(listed, facts), (readable(i, **one) for i, one in facts.items()))
    append_pairs(tables, [(i, j, "phash", None, 0) for i in facts for j in facts if i < j])
    return tables


@pytest.mark.slow
def test_films_with_one_opening_are_apart_though_both_look_like_their_still(look_alikes: Tables) -> None:
    assert groups_of(run_cluster(look_alikes)) == [[1, 2, 4, 5]]
