"""Calibrate: which images are sampled, what their neighbours are, which truths are known, and what comes of it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import FinishedRun
from fabricated import directions, exact_cosines, features, frame, images, listed, random_ids, readable
from pyspark.sql import SparkSession

from dedup_spark.calibration_report import overlay
from dedup_spark.cli import main
from dedup_spark.config import CalibrateSettings, load_config
from dedup_spark.errors import ConfigError, GuardError, TableError
from dedup_spark.kernels import edits
from dedup_spark.kernels.calibration import JudgedPairs, operating_point
from dedup_spark.runs import Run
from dedup_spark.stages import calibrate
from dedup_spark.tables import CLUSTERS, Tables

SETTINGS = CalibrateSettings(n_images=20)


def small_lake(spark: SparkSession, n: int) -> tuple[list[int], object, object]:
    rng = np.random.default_rng(5)
    ids, vectors = random_ids(n, rng), directions(n, rng)
    return ids, features(spark, [readable(i, v) for i, v in zip(ids, vectors, strict=True)]), images(
        spark, [listed(i) for i in ids]
    )  # fmt: skip


def test_the_sample_is_the_same_whatever_the_partitions_and_another_with_another_seed(spark: SparkSession) -> None:
    _, rows, addresses = small_lake(spark, 60)

    def sampled(seed: int, n_partitions: int) -> list[int]:
        chosen = CalibrateSettings(n_images=20, seed=seed)
        found = calibrate.sample_images(rows.repartition(n_partitions), addresses, "file:///lake", chosen)
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


@pytest.mark.parametrize("n_partitions", [1, 7])
def test_neighbours_are_those_of_brute_force(spark: SparkSession, n_partitions: int) -> None:
    rng = np.random.default_rng(8)
    ids, vectors = random_ids(90, rng), directions(90, rng)
    vectors[60:] = 0.7 * vectors[:30] + 0.7 * vectors[60:]  # the last 30 are copies of the first
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = features(spark, [readable(i, v) for i, v in zip(ids, vectors, strict=True)]).repartition(n_partitions)
    copies, lake = (rows.where(rows.image_id.isin(chosen)) for chosen in (ids[60:], ids[:60]))
    settings = CalibrateSettings(neighbours=12, floor_similarity=0.02)
    found = calibrate.neighbours(spark, copies, lake, settings).collect()

    cosine = exact_cosines(vectors)
    np.fill_diagonal(cosine, -1)
    for row in range(60, 90):
        best = [j for j in np.argsort(-cosine[row])[:12] if cosine[row, j] >= 0.02]
        mine = {r["image_id"]: r["similarity"] for r in found if r["copy_id"] == ids[row]}
        assert set(mine) == {ids[j] for j in best}
        assert [mine[ids[j]] for j in best] == pytest.approx([cosine[row, j] for j in best], abs=1e-3)


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
        (11, 1): True, (11, 3): False, (11, 13): False, (13, 3): True, (13, 1): False, (13, 11): False,
    }  # fmt: skip


def test_a_copy_without_its_original_among_its_neighbours_counts_as_lost(spark: SparkSession) -> None:
    copies = frame(
        spark, "image_id bigint, copy_of bigint, edit string",
        [{"image_id": 11, "copy_of": 1, "edit": "crop"}, {"image_id": 12, "copy_of": 1, "edit": "flip"}],
    )  # fmt: skip
    labelled = frame(
        spark, "copy_id bigint, image_id bigint, copy_of bigint, edit string, similarity float, is_copy boolean",
        [{"copy_id": 11, "image_id": 1, "copy_of": 1, "edit": "crop", "similarity": 0.5, "is_copy": True}],
    )  # fmt: skip
    pairs = calibrate.judged(labelled, copies)
    scores = {edits.EDITS[e]: s for e, s in zip(pairs.edit, pairs.score, strict=True)}
    assert scores == {"crop": 0.5, "flip": -np.inf}
    assert pairs.is_copy.all()


def test_the_command_measures_a_lake_and_writes_settings_that_load(finished: FinishedRun, tmp_path: Path) -> None:
    out = tmp_path / "calibrated.toml"
    arguments = ["calibrate", "--lake", str(finished.lake.folder), "--tables", finished.tables.root, "--out", str(out)]
    assert main([*arguments, "--set", "calibrate.n_images=20", "--set", "cluster.target_precision=0.9"]) == 0
    config = load_config(str(out))
    assert 0 < config.cluster.min_similarity < 1
    assert config.match.min_similarity <= config.cluster.min_similarity
    assert tomllib.loads(out.read_text())
    assert "precision 0.9 asked for" in out.read_text()


def test_an_empty_lake_is_refused_with_the_step_to_run(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    config = load_config()
    with pytest.raises(TableError, match="run the steps up to extract first"):
        calibrate.run(tables.spark, config, Run(tables, config, str(tmp_path / "lake"), "r1"))


def test_hashes_alone_are_refused(tables: Tables, tmp_path: Path) -> None:
    config = load_config(None, ["extract.embedding=off"])
    with pytest.raises(ConfigError, match="needs embeddings"):
        calibrate.run(tables.spark, config, Run(tables, config, str(tmp_path), "r1"))


def test_a_precision_that_no_cut_reaches_is_said() -> None:
    rng = np.random.default_rng(2)
    n = 600
    hopeless = JudgedPairs(np.arange(n) // 3, np.zeros(n, np.int64), rng.random(n) < 0.5, np.full(n, 1.0))
    config = load_config()
    with pytest.raises(GuardError, match="ask for less"):
        overlay(operating_point(hopeless, 0.99), config, "r1")
