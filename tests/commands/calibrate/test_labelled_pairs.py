"""Calibrate by labelled pairs, on tables of made-up vectors whose model nobody has calibrated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clustering import append_pairs
from fabricated import MODEL, directions, far_hash, fill, frame, listed, readable, rejected, unit_rows
from table_contents import rows

from dedup_spark.commands import labelled_images
from dedup_spark.commands.calibrate import labelled_pairs
from dedup_spark.commands.calibrate.settings_file import fitted_settings
from dedup_spark.commands.labels import Known, Labels
from dedup_spark.config import load_config
from dedup_spark.errors import TableError
from dedup_spark.kernels.comparing.probability import prior
from dedup_spark.sources import addresses
from dedup_spark.stages.calibration import lacks_calibration
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, FEATURES
from dedup_spark.store.tables import Tables

LAKE = "file:///lake"
N = 60
"""Pictures; of each the images k (original), 100 + k (copy, cosine 0.92) and 200 + k (a stranger, cosine 0.7)."""
NOT_PROPOSED = range(6)
CONFIG = load_config(None, ["cluster.max_verified_pairs=0"])  # made-up images have no thumbnails


def near(vectors: np.ndarray, cosine: float, rng: np.random.Generator) -> np.ndarray:
    return unit_rows(cosine * vectors + np.sqrt(1 - cosine**2) * directions(len(vectors), rng))


@pytest.fixture
def matched(tables: Tables) -> Tables:
    """The tables after match; image 300 was rejected, image 301 has the pixels of image 0."""
    rng = np.random.default_rng(2)
    originals = directions(N, rng)
    vectors = dict(enumerate(originals))
    vectors |= dict(enumerate(near(originals, 0.92, rng), 100)) | dict(enumerate(near(originals, 0.7, rng), 200))
    images = [readable(i, v, phash=far_hash(i)) for i, v in vectors.items()]
    twin = readable(301, vectors[0], pixel_hash="pixels of 0", phash=far_hash(0))
    fill(tables, [listed(i) for i in (*vectors, 300, 301)], [*images, rejected(300), twin])
    proposed = [(k, 100 + k) for k in range(N) if k not in NOT_PROPOSED] + [(k, 200 + k) for k in range(N)]
    append_pairs(tables, [(a, b, "embedding", float(vectors[a] @ vectors[b]), 30) for a, b in proposed])
    tables.append(
        DENSITIES,
        frame(tables.spark, DENSITIES.schema, [{"image_id": i, "similarities": [0.92, 0.7]} for i in vectors]),
    )
    return tables


def labels_of(*more: tuple[str, str, bool]) -> Labels:
    truth = [(k, 100 + k, True) for k in range(N)] + [(200 + k, k, False) for k in range(N)]
    named = [*((f"{a}.jpg", f"{LAKE}/{b}.jpg", is_copy) for a, b, is_copy in truth), *more]
    a, b, is_copy = zip(*named, strict=True)
    return Labels("labels.csv", a, b, np.array(is_copy), False, 3)


@pytest.mark.slow
def test_a_prior_and_a_cut_are_fitted_and_measured_on_other_pictures(matched: Tables) -> None:
    asked = labels_of(("gone.jpg", "1.jpg", True), ("300.jpg", "1.jpg", False), ("301.jpg", "0.jpg", True))
    run = Run(matched, CONFIG, LAKE, "r1")
    found = labelled_pairs.run(matched.spark, CONFIG, run, asked)
    copies, strangers = (prior(found.prior, np.array([c]), np.array([c - 0.15])) for c in (0.92, 0.7))
    assert copies > 0.9 > 0.1 > strangers
    assert (found.point.precision.value, found.point.edit_recall) == (1.0, {})
    assert 0.6 < found.point.recall.value < 1, "what match did not propose is not found at any cut"
    assert found.point.recall.n_images < N
    assert "120 labelled pairs of labels.csv can be used: 60 duplicates and 60 others" in found.labels
    assert "1 name an image that is not in the tables (gone.jpg), 1 name an image that was rejected" in found.labels
    assert "1 are of equal pixels" in found.labels
    assert f"Match proposed {N - len(NOT_PROPOSED)} of the duplicates" in found.labels
    assert {r["metric"] for r in rows(matched.root, "quality")} == {"calibrated_precision", "calibrated_recall"}
    assert all("on pairs labelled in labels.csv" in r["note"] for r in rows(matched.root, "quality"))

    settings = load_config(given=fitted_settings(found, CONFIG))
    assert settings.cluster.max_verified_pairs == 0
    assert lacks_calibration(CONFIG, MODEL)
    assert not lacks_calibration(settings, MODEL)


def test_images_are_known_by_id_too_and_equal_pixels_by_their_representative(matched: Tables) -> None:
    asked = Labels("l", ["0", "301"], ["300", str(2**70)], np.array([True, False]), True, 0)
    known = labelled_images.known_images(DuckTables(matched.root), asked, LAKE)
    assert known == {"0": Known(0), "301": Known(0), "300": Known(None, False)}
    assert not (Path(matched.root) / matched.staging).exists(), "commands that only read ask this too"


def test_relative_addresses_of_a_manifest_count_from_its_folder(
    matched: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "kind_of", lambda uri: "file")
    asked = Labels("l", ["0.jpg"], [f"{LAKE}/1.jpg"], np.array([True]), False, 0)
    known = labelled_images.known_images(DuckTables(matched.root), asked, f"{LAKE}/list.csv")
    assert known == {"0.jpg": Known(0), f"{LAKE}/1.jpg": Known(1)}


def test_tables_without_matched_vectors_are_refused_with_the_step_to_run(tables: Tables) -> None:
    with pytest.raises(TableError, match="run the steps up to match first"):
        labelled_pairs.run(tables.spark, CONFIG, Run(tables, CONFIG, LAKE, "r1"), labels_of())


def test_labels_of_vectors_that_other_settings_made_are_refused(matched: Tables) -> None:
    made_here = matched.read(FEATURES).selectExpr("* EXCEPT (model_id)", "'onnx/1' AS model_id")
    matched.overwrite(FEATURES, made_here.select(FEATURES.column_names))
    with pytest.raises(TableError, match=r"embeddings of model onnx/1, and extract\.embedding is sscd_distilled"):
        labelled_pairs.run(matched.spark, CONFIG, Run(matched, CONFIG, LAKE, "r1"), labels_of())
    same = replace(CONFIG, extract=replace(CONFIG.extract, embedding="onnx"))
    labelled_pairs._require_matched(matched, ["onnx/1"], same.extract.embedding)
