"""The figures of `benchmarks/operating_point.py`, on cosines small enough to count by hand."""

from __future__ import annotations

import importlib
import itertools
from types import ModuleType

import numpy as np
import pytest

from dedup_spark.config import ExtractSettings


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    return importlib.import_module("operating_point")


def symmetric(*pairs: tuple[int, int, float]) -> np.ndarray:
    scores = np.eye(4, dtype=np.float32)
    for a, b, score in pairs:
        scores[a, b] = scores[b, a] = score
    return scores


def test_recall_counts_the_true_pairs_above_the_first_wrong_one(benchmark: ModuleType) -> None:
    scores = symmetric((0, 1, 0.9), (0, 2, 0.6), (2, 3, 0.5))
    assert benchmark.recalls(scores, np.array([0, 0, 1, 1])) == [0.5, 0.5]


def test_pairs_of_one_score_pass_a_threshold_together(benchmark: ModuleType) -> None:
    scores = symmetric((0, 1, 0.9), (0, 2, 0.5), (2, 3, 0.5))
    assert benchmark.recalls(scores, np.array([0, 0, 1, 1])) == [0.5, 0.5]


def test_recall_is_none_where_a_wrong_pair_comes_first(benchmark: ModuleType) -> None:
    scores = symmetric((0, 1, 0.9), (0, 2, 0.95), (2, 3, 0.5))
    assert benchmark.recalls(scores, np.array([0, 0, 1, 1])) == [0.0, 0.0]


def test_normalising_subtracts_the_mean_of_both_images_second_neighbour(benchmark: ModuleType) -> None:
    cosines = symmetric((0, 1, 0.9), (0, 2, 0.5), (1, 2, 0.3), (2, 3, 0.1))
    # second neighbours: image 0 has 0.5, image 1 has 0.3, image 2 has 0.3, image 3 has 0
    assert benchmark.normalised(cosines, 2)[0, 1] == pytest.approx(0.9 - (0.5 + 0.3) / 2)
    assert benchmark.normalised(cosines, 2)[2, 3] == pytest.approx(0.1 - (0.3 + 0.0) / 2)


def test_no_image_of_a_corpus_is_left_out(benchmark: ModuleType) -> None:
    files = list(itertools.islice(benchmark.edited_samples(), 2 * benchmark.CHUNK_IMAGES + 1))
    point = benchmark.Point("sscd_distilled", 64, 1)
    groups, vectors, costs = benchmark.embed_all(iter(files), (point,))
    assert groups == [file.group for file in files]
    assert vectors[0].shape[0] == len(files)
    assert costs == [1.0]


def test_the_inputs_are_those_of_extract(benchmark: ModuleType) -> None:
    from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
    from dedup_spark.models.base import input_of

    file = next(benchmark.edited_samples())
    e = ExtractSettings()
    side = input_of(e).input_px
    settings = SignatureSettings(e.max_pixels, e.min_side_px, e.thumbnail_px, e.thumbnail_quality, side)
    made = benchmark.make_inputs(file.data, [128, side, 288])
    np.testing.assert_array_equal(made[side], sign_image(file.data, settings).model_input)
    assert made[288].shape == (288, 288, 3)
