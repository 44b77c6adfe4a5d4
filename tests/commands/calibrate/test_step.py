"""Calibrate: which images are sampled, what their neighbours are, which truths are known, and what comes of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import FinishedRun
from fabricated import directions, exact_cosines, features, frame, images, listed, random_ids, readable, to_bytes
from pyspark.sql import DataFrame, SparkSession
from table_contents import rows

from dedup_spark.cli import main
from dedup_spark.commands.calibrate import step as calibrate
from dedup_spark.commands.calibrate.calibration import LabelledPairs, operating_point
from dedup_spark.commands.calibrate.settings_file import overlay
from dedup_spark.config import CalibrateSettings, ExtractSettings, load_config
from dedup_spark.errors import ConfigError, GuardError, TableError
from dedup_spark.kernels import edits
from dedup_spark.kernels.comparing.probability import PRIORS, Prior, prior, prior_of
from dedup_spark.sources.binary_file import BinaryFileSource
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.evidence import evidence_settings, joined_pairs
from dedup_spark.stages.reading.read_ahead import TaskSettings
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTERS
from dedup_spark.store.tables import Tables

SETTINGS = CalibrateSettings(n_images=20)


def small_lake(spark: SparkSession, n: int) -> tuple[list[int], DataFrame, DataFrame]:
    rng = np.random.default_rng(5)
    ids, vectors = random_ids(n, rng), directions(n, rng)
    return ids, features(spark, [readable(i, v) for i, v in zip(ids, vectors, strict=True)]), images(
        spark, [listed(i) for i in ids]
    )  # fmt: skip


def test_the_sample_is_the_same_whatever_the_partitions_and_another_with_another_seed(spark: SparkSession) -> None:
    _, found_before, addresses = small_lake(spark, 60)

    def sampled(seed: int, n_partitions: int) -> list[int]:
        chosen = CalibrateSettings(n_images=20, seed=seed)
        found = calibrate.sample_images(found_before.repartition(n_partitions), addresses, "file:///lake", chosen)
        return sorted(r["image_id"] for r in found.collect())

    assert sampled(1, 1) == sampled(1, 5)
    assert len(sampled(1, 1)) == 20
    assert sampled(1, 1) != sampled(2, 1)


def test_only_embedded_representatives_of_this_lake_are_sampled(spark: SparkSession) -> None:
    rng = np.random.default_rng(6)
    one, twin, vast, plain, elsewhere = random_ids(5, rng)
    v = directions(4, rng)
    rows = [
        readable(one, v[0], pixel_hash="same"), readable(twin, v[0], pixel_hash="same"),
        readable(vast, v[1], width_px=100_000, height_px=1_000), readable(plain), readable(elsewhere, v[2]),
    ]  # fmt: skip
    listing = [listed(i) for i in (one, twin, vast, plain)] + [listed(elsewhere, lake="file:///other")]
    found = calibrate.sample_images(features(spark, rows), images(spark, listing), "file:///lake", SETTINGS)
    assert [r["image_id"] for r in found.collect()] == [min(one, twin)]


def test_every_sampled_image_has_an_address_for_each_edit(spark: SparkSession) -> None:
    listing = images(spark, [listed(1), listed(2, member="page.jpg", location="l", position=7)])
    rows = calibrate.edited_copies(listing).collect()
    assert len({r["image_id"] for r in rows}) == 2 * len(edits.EDITS)
    assert {r["member"] for r in rows if r["copy_of"] == 2} == {f"page.jpg#{edit}" for edit in edits.EDITS}
    assert {(r["location"], r["position"], r["size_bytes"]) for r in rows if r["copy_of"] == 2} == {("l", 7, None)}


@pytest.mark.parametrize("reuse", ["off", "pixels", "near"])
def test_no_copy_takes_the_vector_of_one_that_looks_the_same(reuse: str) -> None:
    limits = load_config(None, [f"extract.reuse_embedding={reuse}"]).extract
    source: Any = SimpleNamespace(root="file:///lake")
    signature: Any = None
    task = TaskSettings(source=source, signature=signature, extract=limits, model=None, run_id="r", task_cpus=1)
    made = calibrate.copying(task, SETTINGS)
    assert made.extract == replace(limits, reuse_embedding="pixels")
    assert made.source.root == "file:///lake"


def copies_among_near_images() -> tuple[list[int], np.ndarray]:
    """Ids and vectors of 90 images: the last 30 are copies of the first 30."""
    rng = np.random.default_rng(8)
    ids, vectors = random_ids(90, rng), directions(90, rng)
    vectors[60:] = 0.7 * vectors[:30] + 0.7 * vectors[60:]
    return ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def require_nearest(found: list[dict[str, Any]], ids: list[int], vectors: np.ndarray, floor: float) -> None:
    """What was found for the last 30 images are their 12 nearest from `floor` on, themselves left out."""
    cosine = exact_cosines(vectors)
    np.fill_diagonal(cosine, -1)
    for row in range(60, 90):
        best = [j for j in np.argsort(-cosine[row])[:12] if cosine[row, j] >= floor]
        mine = {r["image_id"]: r["similarity"] for r in found if r["copy_id"] == ids[row]}
        assert set(mine) == {ids[j] for j in best}
        assert [mine[ids[j]] for j in best] == pytest.approx([cosine[row, j] for j in best], abs=1e-3)


@pytest.mark.parametrize("batch_rows", [1, 7, 90])
@pytest.mark.parametrize("block_queries", [4, 4096])
def test_a_task_finds_the_neighbours_of_brute_force(
    batch_rows: int, block_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_BLOCK_QUERIES", block_queries)
    ids, vectors = copies_among_near_images()
    table = pa.table({"image_id": pa.array(ids, pa.int64()), "embedding": [to_bytes(v) for v in vectors]})
    halves = vectors.astype(np.float16)
    sent = SimpleNamespace(value=calibrate.Queries(np.array(ids[60:]), halves[60:]))
    batches = table.to_batches(max_chunksize=batch_rows)
    found = calibrate._nearest_batches(batches, sent, 12, 0.02)  # type: ignore[arg-type]
    require_nearest([row for batch in found for row in batch.to_pylist()], ids, vectors, 0.02)


@pytest.mark.parametrize("n_partitions", [1, 7])
def test_neighbours_are_those_of_brute_force_whatever_the_partitions(spark: SparkSession, n_partitions: int) -> None:
    ids, vectors = copies_among_near_images()
    made = features(spark, [readable(i, v) for i, v in zip(ids, vectors, strict=True)]).repartition(n_partitions)
    copies, lake = (made.where(made.image_id.isin(chosen)) for chosen in (ids[60:], ids[:60]))
    config = load_config(None, ["calibrate.neighbours=12", "match.min_similarity=0.1", "match.floor_similarity=0.02"])
    found = calibrate.neighbours(copies, calibrate.lake_and_copies(lake, copies), config).collect()
    require_nearest([r.asDict() for r in found], ids, vectors, 0.02)


def test_pairs_whose_truth_nobody_knows_are_left_out(spark: SparkSession) -> None:
    """Images 1 and 2 are in one cluster; 11 is a copy of 1, 12 of 2, 13 of 3."""
    copies = frame(
        spark, "image_id bigint, copy_of bigint, edit string",
        [{"image_id": 10 + i, "copy_of": i, "edit": "crop"} for i in (1, 2, 3)],
    )  # fmt: skip
    clusters = frame(spark, CLUSTERS.schema, [{"image_id": i, "cluster_id": 1} for i in (1, 2)])
    near = frame(
        spark, "copy_id bigint, image_id bigint, similarity float",
        [{"copy_id": a, "image_id": b, "similarity": 0.5} for a, b in
         [(11, 1), (11, 2), (11, 3), (11, 12), (11, 13), (13, 3), (13, 1), (13, 11)]],
    )  # fmt: skip
    found = {
        (r["copy_id"], r["image_id"]): r["is_copy"] for r in calibrate.with_truth(near, copies, clusters).collect()
    }
    assert found == {
        (11, 1): True, (11, 3): False, (11, 13): False, (13, 3): True, (13, 1): False,
    }  # fmt: skip


def truth_of(spark: SparkSession, *pairs: tuple[int, int, int, str, bool]) -> DataFrame:
    """Rows of `with_truth` from (copy_id, image_id, copy_of, edit, is_copy)."""
    ids = "image_id_a bigint, image_id_b bigint, copy_id bigint, image_id bigint, copy_of bigint"
    schema = f"{ids}, edit string, is_copy boolean"
    return local_relation(spark, [(min(p[:2]), max(p[:2]), *p) for p in pairs], schema)


def test_a_copy_without_its_original_among_its_neighbours_counts_as_lost(spark: SparkSession) -> None:
    copies = frame(
        spark, "image_id bigint, copy_of bigint, edit string",
        [{"image_id": 11, "copy_of": 1, "edit": "crop"}, {"image_id": 12, "copy_of": 1, "edit": "flip"}],
    )  # fmt: skip
    evidence = frame(
        spark, "image_id_a bigint, image_id_b bigint, copy_probability float",
        [{"image_id_a": 1, "image_id_b": 11, "copy_probability": 0.5}],
    )  # fmt: skip
    pairs = calibrate.labelled_pairs(truth_of(spark, (11, 1, 1, "crop", True)), evidence, copies)
    scores = {edits.EDITS[e]: s for e, s in zip(pairs.edit, pairs.score, strict=True)}
    assert scores == {"crop": 0.5, "flip": -np.inf}
    assert pairs.is_copy.all()


def test_each_pair_has_evidence_once(spark: SparkSession) -> None:
    signed = features(spark, [readable(i, phash=i) for i in (5, 6)])
    near = frame(
        spark, "copy_id bigint, image_id bigint, similarity float",
        [{"copy_id": 5, "image_id": 6, "similarity": 0.4}, {"copy_id": 6, "image_id": 5, "similarity": 0.4}],
    )  # fmt: skip
    assert [r.asDict() for r in calibrate.with_hamming(near, signed).collect()] == [
        {"image_id_a": 5, "image_id_b": 6, "similarity": pytest.approx(0.4), "hamming_bits": 2, "query_id": 5}
    ]


def test_copies_have_densities_as_images_have(spark: SparkSession) -> None:
    near = frame(
        spark, "copy_id bigint, image_id bigint, similarity float",
        [{"copy_id": 5, "image_id": i, "similarity": i / 8} for i in (1, 5, 3, 4)],
    )  # fmt: skip
    found = calibrate.own_densities(near, load_config(None, ["match.neighbours=3"])).collect()
    assert [(r["image_id"], r["similarities"]) for r in found] == [(5, [5 / 8, 4 / 8, 3 / 8])]


def test_the_prior_follows_the_lake_where_it_is_another_than_the_shipped_one(spark: SparkSession) -> None:
    """Copies near cosine 0.9, negatives near 0.7: a lake in which the shipped prior would take negatives for copies."""
    rng = np.random.default_rng(3)
    is_copy = rng.random(400) < 0.5
    cosine = np.where(is_copy, 0.9, 0.7) + rng.normal(0, 0.03, 400)
    truth = truth_of(spark, *[(1000 + i, i, i, "crop", bool(c)) for i, c in enumerate(is_copy)])
    pairs = frame(
        spark, "image_id_a bigint, image_id_b bigint, similarity float, hamming_bits int",
        [{"image_id_a": i, "image_id_b": 1000 + i, "similarity": float(s)} for i, s in enumerate(cosine)],
    )  # fmt: skip
    none = frame(spark, "image_id bigint, similarities array<float>", [])
    known = PRIORS["sscd"]
    settings = evidence_settings(load_config(), known)
    fitted = calibrate.fitted_prior(pairs, none, truth, settings)
    normalised = np.array([0.7, 0.9]) - settings.floor_similarity
    shipped, lake = (prior(p, np.array([0.7, 0.9]), normalised) for p in (known, fitted))
    assert shipped.min() > 0.5, "what the shipped prior says of both"
    assert lake[0] < 0.3
    assert lake[1] > 0.8


@pytest.mark.slow
def test_the_command_measures_a_lake_and_writes_settings_that_load(finished: FinishedRun, tmp_path: Path) -> None:
    out, root = tmp_path / "calibrated.toml", str(shutil.copytree(finished.tables.root, tmp_path / "tables"))
    arguments = ["calibrate", "--lake", str(finished.lake.folder), "--tables", root, "--out", str(out)]
    assert main([*arguments, "--set", "calibrate.n_images=8", "--set", "cluster.target_precision=0.9"]) == 0
    config = load_config(str(out))
    assert config.cluster.target_precision == 0.9
    assert 0.5 <= config.cluster.min_copy_probability <= 1
    assert len(config.cluster.prior) == 4
    rows_of = {r["metric"]: r for r in rows(root, "quality") if r["metric"].startswith("calibrated")}
    assert {"calibrated_precision", "calibrated_recall", "calibrated_recall_of_format"} <= set(rows_of)
    for r in rows_of.values():
        assert 0 <= r["low"] <= r["value"] <= r["high"] <= 1
        assert r["value"] == pytest.approx(r["n_found"] / r["n_true"])


def test_a_cut_and_a_prior_of_the_lake_go_before_the_shipped_ones(spark: SparkSession) -> None:
    evidence = frame(
        spark, "image_id_a bigint, image_id_b bigint, copy_probability float",
        [{"image_id_a": 1, "image_id_b": 2, "copy_probability": 0.6},
         {"image_id_a": 1, "image_id_b": 3, "copy_probability": 0.99}],
    )  # fmt: skip
    shipped, measured = load_config(), load_config(None, ["cluster.min_copy_probability=0.55"])
    assert {r["image_id_b"] for r in joined_pairs(evidence, shipped.cluster).collect()} == {3}
    assert {r["image_id_b"] for r in joined_pairs(evidence, measured.cluster).collect()} == {2, 3}
    assert prior_of("unheard-of/1", (-10.0, 20.0, 0.0, 4.0)) == Prior(-10.0, 20.0, 0.0, 4.0)
    assert prior_of("sscd/1", ()) == PRIORS["sscd"]


def test_an_empty_lake_is_refused_with_the_step_to_run(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    config = load_config()
    with pytest.raises(TableError, match="run the steps up to extract first"):
        calibrate.run(tables.spark, config, Run(tables, config, str(tmp_path / "lake"), "r1"))


def test_vectors_of_a_model_that_is_not_here_are_refused_with_the_way_that_is_left() -> None:
    calibrate._require_own_vectors([])
    calibrate._require_own_vectors(["onnx/1", "sscd/2"])
    with pytest.raises(ConfigError, match=r"vectors of model table/mine were not made here, .* with --pairs FILE"):
        calibrate._require_own_vectors(["table/mine"])


def test_a_lake_that_spark_alone_reaches_is_refused_with_the_way_that_is_left(tmp_path: Path) -> None:
    def task(lake: str, **extract: Any) -> Any:
        return SimpleNamespace(source=BinaryFileSource(lake), extract=ExtractSettings(**extract))

    with pytest.raises(ConfigError, match=r"does not reach this lake, viewfs://mount/lake, .* with --pairs FILE"):
        calibrate._require_python_reaches(task("viewfs://mount/lake"))
    calibrate._require_python_reaches(task(str(tmp_path), bytes_from="spark"))
    calibrate._require_python_reaches(task("viewfs://mount/lake", bytes_from="fsspec"))  # extract would have failed


def test_hashes_alone_are_refused(tables: Tables, tmp_path: Path) -> None:
    config = load_config(None, ["extract.embedding=off"])
    with pytest.raises(ConfigError, match=r"extract\.embedding=off has no model"):
        calibrate.run(tables.spark, config, Run(tables, config, str(tmp_path), "r1"))


def test_a_precision_that_no_cut_reaches_is_said() -> None:
    rng = np.random.default_rng(2)
    n = 600
    hopeless = LabelledPairs(np.arange(n) // 3, np.zeros(n, np.int64), rng.random(n) < 0.5, np.full(n, 1.0))
    found = calibrate.Calibrated(PRIORS["sscd"], operating_point(hopeless, 0.99, 0.5))
    with pytest.raises(GuardError, match="accept a lower precision"):
        overlay(found, load_config(), "r1")
