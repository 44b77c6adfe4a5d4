"""Verify: thumbnails of pairs in doubt are compared, within the budget, and the rest says why not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fabricated import frame, images, listed, readable, unit_rows
from photos import Grey, cropped, framed, photo, reencoded, rotated, with_sticker
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.kernels.comparing import probability
from dedup_spark.kernels.comparing.query_images import content_key, is_query
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.spark.work import Work
from dedup_spark.stages.cluster import evidence as pair_evidence
from dedup_spark.stages.cluster import step as cluster
from dedup_spark.stages.cluster.evidence_task import VERIFIED
from dedup_spark.stages.cluster.pairs_to_groups import group_pairs
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, EVIDENCE, FEATURES, IMAGES, PAIRS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import ComparedFor

Row = dict[str, Any]
SETTINGS = pair_evidence.EvidenceSettings(probability.PRIORS["sscd_distilled"], 0.15, 32, 1_000)


def jpeg(grey: Grey) -> bytearray:
    _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return bytearray(encoded.tobytes())


@pytest.fixture(scope="module")
def pictures() -> dict[int, Grey]:
    """Ids by hundreds: 100 one photo and its edits, 200 another, 300 other pictures in one frame, 304 also photo 1."""
    first, second = photo(1), photo(2)
    return {
        100: first, 101: reencoded(first, 25), 102: rotated(first, 20), 103: with_sticker(first, 1),
        104: with_sticker(first, 2), 105: cropped(first, 0.6),
        200: second, 201: second[:, ::-1].copy(), 202: with_sticker(second, 5),
        **{300 + i: framed(photo(i)) for i in (0, 3, 4, 5, 6, 7, 8)}, 301: framed(first),
    }  # fmt: skip


@pytest.fixture
def filled(tables: Tables, pictures: dict[int, Grey]) -> Tables:
    """The tables after match: all images are pairs, by cosines that do not tell copies from other pictures."""
    spark, rng = tables.spark, np.random.default_rng(4)
    ids = sorted(pictures)
    vectors = dict(zip(ids, unit_rows(np.sqrt(0.6) * np.ones(512) / 512**0.5 + np.sqrt(0.4 / 512)
                                      * rng.standard_normal((len(ids), 512))), strict=True))  # fmt: skip
    features = [
        readable(i, vectors[i], model_id="sscd_distilled/x", thumbnail=jpeg(pictures[i]), width_px=1000 - i)
        for i in ids
    ]
    pairs = [
        {"image_id_a": a, "image_id_b": b, "method": "embedding", "engine": "sketch"}
        | {"similarity": float(vectors[a] @ vectors[b]), "hamming_bits": 9}
        for a in ids
        for b in ids
        if a < b
    ]
    tables.append(IMAGES, images(spark, [listed(i) for i in ids]))
    tables.append(FEATURES, frame(spark, FEATURES.schema, features))
    tables.append(PAIRS, frame(spark, PAIRS.schema, pairs))
    tables.append(DENSITIES, frame(spark, DENSITIES.schema, [{"image_id": i, "similarities": [0.6] * 9} for i in ids]))
    return tables


def run_cluster(tables: Tables, *overrides: str) -> Run:
    config = load_config(None, overrides)
    run = Run(tables, config, "file:///lake", "r1")
    cluster.run(tables.spark, config, run)
    assert not Path(tables.root, "_staging").exists()
    return run


def evidence_of(tables: Tables) -> dict[tuple[int, int], Row]:
    return {(r["image_id_a"], r["image_id_b"]): r for r in rows(tables.root, "evidence")}


def test_copies_are_joined_and_different_pictures_in_one_frame_are_not(filled: Tables) -> None:
    run_cluster(filled)
    groups: dict[int, set[int]] = {}
    for row in rows(filled.root, "clusters"):
        groups.setdefault(row["cluster_id"], set()).add(row["image_id"])
    assert sorted(map(sorted, groups.values())) == [[100, 101, 102, 103, 104, 105, 301], [200, 201, 202]]
    evidence = evidence_of(filled)
    assert len(evidence) == 17 * 16 // 2
    assert {r["decided_by"] for r in evidence.values()} == {"geometry"}
    assert {r["calibration"] for r in evidence.values()} == {probability.VERSION}
    frames = evidence[300, 305]
    assert frames["n_inliers"] > 20
    assert frames["agreement"] > 0.5
    assert frames["contested"] > 0.02
    assert frames["copy_probability"] < 0.5 < evidence[100, 301]["copy_probability"]
    assert frames["normalised_similarity"] == pytest.approx(frames["similarity"] - 0.15, abs=1e-6)
    assert {r["compared_for"] for r in evidence.values()} == {"match"}
    in_components = {r["image_id"]: r["group_id"] for r in rows(filled.root, "components")}
    assert {i: in_components[i] for i in (105, 202)} == {105: 100, 202: 200}


@pytest.mark.slow
def test_the_budget_is_kept_and_what_it_left_out_is_said(filled: Tables) -> None:
    run_cluster(filled, "cluster.max_verified_pairs=40")
    decided = [r["decided_by"] for r in evidence_of(filled).values()]
    assert 0 < decided.count("geometry") <= 40
    assert decided.count("undecided") == len(decided) - decided.count("geometry")
    undecided = [r for r in evidence_of(filled).values() if r["decided_by"] == "undecided"]
    assert all(r["n_inliers"] is None and r["agreement"] is None for r in undecided)


@pytest.mark.slow
def test_without_a_budget_nothing_is_compared(filled: Tables) -> None:
    run_cluster(filled, "cluster.max_verified_pairs=0")
    assert {r["decided_by"] for r in evidence_of(filled).values()} == {"undecided"}


def test_pairs_that_nobody_doubts_are_not_shuffled_to_be_written(spark: SparkSession) -> None:
    ids = "id AS image_id_a", "id + 1 AS image_id_b"
    scores = "0.1f AS similarity", "0.0f AS normalised_similarity", "30 AS hamming_bits"
    facts = *scores, "0.001d AS prior", "false AS is_dense"
    pairs = spark.range(50_000).selectExpr(*ids, *facts, "id = 7 AS always")
    verdict = {"image_id_a": 7, "image_id_b": 8, "conclusive": True, "copy_probability": 0.75, "n_inliers": 20}
    verified = frame(spark, VERIFIED, [verdict])
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")  # as where millions were compared
    try:
        work = Work(spark)
        written = pair_evidence.as_evidence(pairs, verified, ComparedFor.MATCH).toArrow()
        done = work.done()
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert len(written) == 50_000
    decided = written.sort_by("image_id_a").select(["decided_by", "n_inliers", "copy_probability"]).to_pylist()
    cosine = {"decided_by": "cosine", "n_inliers": None, "copy_probability": pytest.approx(0.001)}
    assert decided[7] == {"decided_by": "geometry", "n_inliers": 20, "copy_probability": 0.75}
    assert decided[6] == decided[8] == cosine
    assert done["shuffled_bytes"] < 20_000


def scored(spark: SparkSession, pairs: list[Row], similarities: dict[int, list[float]]) -> dict[tuple[int, int], Row]:
    densities = frame(spark, DENSITIES.schema, [{"image_id": i, "similarities": x} for i, x in similarities.items()])
    found = pair_evidence.with_prior(frame(spark, PAIRS.schema, pairs), densities, SETTINGS)
    doubtful = found.withColumn("in_doubt", pair_evidence.in_doubt())
    return {(r["image_id_a"], r["image_id_b"]): r.asDict() for r in doubtful.collect()}


def test_the_prior_is_that_of_the_kernel(spark: SparkSession) -> None:
    cosines = np.linspace(0.15, 0.99, 12)
    pairs = [
        {"image_id_a": 1, "image_id_b": 10 + i, "similarity": float(c), "hamming_bits": 20}
        for i, c in enumerate(cosines)
    ]
    found = scored(spark, pairs, {1: [0.9] * 15 + [0.5, 0.3]})
    stored = np.array([found[1, 10 + i]["similarity"] for i in range(12)])
    expected = probability.prior(SETTINGS.prior, stored, stored - (0.5 + 0.15) / 2)
    assert np.allclose([found[1, 10 + i]["prior"] for i in range(12)], expected, atol=1e-6)


def test_far_pairs_are_in_doubt_only_beside_a_dense_image(spark: SparkSession) -> None:
    pairs = [
        {"image_id_a": 1, "image_id_b": 2, "similarity": 0.17, "hamming_bits": 30},
        {"image_id_a": 1, "image_id_b": 3, "similarity": 0.17, "hamming_bits": 30},
        {"image_id_a": 1, "image_id_b": 4, "similarity": 0.99, "hamming_bits": 1},
        {"image_id_a": 1, "image_id_b": 5, "similarity": 0.99, "hamming_bits": 12},
        {"image_id_a": 1, "image_id_b": 6, "similarity": None, "hamming_bits": 2},
    ]
    found = scored(spark, pairs, {1: [0.2], 2: [0.8] * 32, 3: [0.8] * 31})
    assert [found[1, i]["in_doubt"] for i in range(2, 7)] == [True, False, True, True, False]
    assert found[1, 6]["prior"] > 0.99, "where only hashes speak, match has decided"
    columns = ("prior", "similarity", "is_dense")
    numbers = (np.array([np.nan if r[c] is None else r[c] for r in found.values()]) for c in columns)
    p, cosine, is_dense = numbers
    by_kernel = probability.in_doubt(p, cosine, is_dense.astype(bool))
    assert by_kernel.tolist() == [r["in_doubt"] for r in found.values()]


def of_pixels(numbers: Iterable[int]) -> list[Row]:
    """Rows of features, of which the hashes are those of some pixels."""
    return [readable(i, pixel_hash=hashlib.sha256(bytes([i])).hexdigest()) for i in numbers]


def test_the_query_image_is_chosen_by_pixels_as_a_look_up_chooses_it(spark: SparkSession) -> None:
    """Whatever the ids are: the same pixels under other ids give the same choice."""
    features = of_pixels(range(40))
    chosen = []
    for moved in (0, 1):
        ids = {row["image_id"]: 100 - row["image_id"] if moved else row["image_id"] for row in features}
        known = frame(spark, FEATURES.schema, [row | {"image_id": ids[row["image_id"]]} for row in features])
        pairs = [(min(ids[a], ids[b]), max(ids[a], ids[b])) for a in range(40) for b in range(a)]
        rows = local_relation(spark, pairs, "image_id_a bigint, image_id_b bigint")
        back = {new: old for old, new in ids.items()}
        found = pair_evidence.with_query_id(rows, known).collect()
        chosen.append({frozenset((back[r["image_id_a"]], back[r["image_id_b"]])): back[r["query_id"]] for r in found})
    assert chosen[0] == chosen[1]
    keys = [content_key(row["pixel_hash"]) for row in features]
    assert all(is_query(keys[q], keys[min(pair - {q})]) for pair, q in chosen[0].items())
    assert len(chosen[0]) == 40 * 39 // 2


def test_each_pair_is_verified_once_and_queries_with_many_candidates_are_split(spark: SparkSession) -> None:
    pairs = [
        {"image_id_a": 0, "image_id_b": i, "similarity": 0.6, "hamming_bits": 20, "query_id": 0} for i in range(1, 201)
    ]
    schema = f"{PAIRS.schema.ddl}, query_id bigint"
    made = pair_evidence.with_prior(frame(spark, schema, pairs), frame(spark, DENSITIES.schema, []), SETTINGS)
    queries = pair_evidence.in_parts(pair_evidence.queries_of(made, made), 3).collect()
    assert sorted((q["query_id"], other) for q in queries for other in q["candidates"]) == [
        (0, i) for i in range(1, 201)
    ]
    sizes = sorted(len(q["candidates"]) for q in queries)
    assert sizes == [40] * 5
    assert all(len(q["scores"]) == len(q["candidates"]) and len(q["neighbours"]) <= 12 for q in queries)
    assert {q["label"] for q in queries} == {0}
    assert {q["part"] for q in queries} <= {0, 1, 2}


def test_keypoints_are_found_once_for_each_image_that_must_be_aligned(
    spark: SparkSession, pictures: dict[int, Grey]
) -> None:
    """Two parts ask about picture 100; a pair that is sure, and a neighbour, may need no keypoints."""
    queries = spark.createDataFrame(
        [
            (0, 100, 100, 0, [101, 102], [(0.5, 20, False), (0.9, 1, True)], [105]),
            (1, 100, 101, 0, [100], [(0.5, 20, False)], []),
            (1, 200, 200, 0, [202], [(0.9, 1, True)], [101]),
        ],
        "part int, label bigint, query_id bigint, chunk int, candidates array<bigint>, "
        "scores array<struct<prior: double, hamming_bits: int, is_sure: boolean>>, neighbours array<bigint>",
    )
    wanted = pair_evidence._wanted(queries)
    found = {r["image_id"]: (sorted(r["parts"]), r["is_aligned"]) for r in wanted.collect()}
    in_first, in_second, in_both = [0], [1], [0, 1]
    assert found == {
        100: (in_both, True), 101: (in_both, True), 102: (in_first, False), 105: (in_first, False),
        200: (in_second, False), 202: (in_second, False),
    }  # fmt: skip
    thumbnails = spark.createDataFrame([(i, jpeg(p)) for i, p in pictures.items()], "image_id bigint, thumbnail binary")
    sent = pair_evidence._described(wanted, thumbnails, 2).collect()
    assert sorted((r["part"], r["image_id"]) for r in sent) == sorted((p, i) for i in found for p in found[i][0])
    assert {r["image_id"] for r in sent if r["keypoints"] is not None} == {100, 101}


@pytest.mark.parametrize(
    ("n_pairs", "n_cores", "n_parts"),
    [(0, 8, 1), (99, 8, 1), (250, 8, 2), (963, 2, 2), (963, 64, 9), (1_001, 1, 2), (74_760, 2, 75), (74_760, 100, 100)],
)
def test_every_core_gets_a_part_where_there_are_pairs_enough(n_pairs: int, n_cores: int, n_parts: int) -> None:
    assert pair_evidence.parts_for(n_pairs, n_cores) == n_parts


@pytest.mark.slow
def test_a_missing_thumbnail_is_named(filled: Tables) -> None:
    thumbnails = filled.read(FEATURES).where("image_id <> 300")
    with pytest.raises(PySparkException, match="image 300 has no thumbnail"):
        pair_evidence.evidence_of(filled.read(PAIRS), filled.read(DENSITIES), thumbnails, filled, SETTINGS)


def test_models_without_a_calibration_have_no_prior() -> None:
    assert probability.prior_of("sscd/abc/squash-bicubic-224") is probability.PRIORS["sscd"]
    assert probability.prior_of("made-up/1") is None
    assert probability.prior_of(None) is None


@pytest.mark.slow
def test_a_pair_measured_later_is_in_the_evidence_of_those_distances_and_of_no_earlier_ones(filled: Tables) -> None:
    filled.overwrite(PAIRS, filled.read(PAIRS).where("image_id_a <> 100 OR image_id_b NOT IN (200, 202)"))
    config = load_config()
    _, before = group_pairs(Run(filled, config, "file:///lake", "r1"), config)
    one, other = (
        local_relation(filled.spark, [(100, b, 100)], "image_id_a bigint, image_id_b bigint, query_id bigint")
        for b in (200, 202)
    )
    with_one, with_other = (before.measure(pairs, ComparedFor.KEEPERS) for pairs in (one, other))
    n = before.evidence.count()
    again = with_one.measure(one, ComparedFor.KEEPERS)
    assert [d.evidence.count() for d in (with_one, with_other, again)] == [n + 1] * 3
    assert [d.between(one).count() for d in (before, with_one, with_other)] == [0, 1, 0]
    assert [d.between(other).count() for d in (before, with_one, with_other)] == [0, 0, 1]
    near, near_later = ({(r["a"], r["b"]) for r in d.near.collect()} for d in (before, with_one))
    assert (100, 101) in near
    # Two pictures in one frame: no other candidate of 100 was asked for, so nothing shows that only the frame agrees.
    assert near_later == near | {(100, 200)}


def test_the_evidence_fits_its_table(filled: Tables) -> None:
    made = pair_evidence.evidence_of(
        filled.read(PAIRS), filled.read(DENSITIES), filled.read(FEATURES), filled, SETTINGS
    )
    assert made.dtypes == list(EVIDENCE.schema.types.items())
