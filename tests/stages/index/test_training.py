"""Cells on the GPUs of tasks, by a FAISS whose GPUs are CPU indexes; and what follows where FAISS cannot use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faiss_gpus import Library

from dedup_spark.config import IndexSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.joins.faiss_device import open_gpu
from dedup_spark.kernels.vectors import Quantiser, train_centroids
from dedup_spark.spark.gpus import TaskShare
from dedup_spark.stages.index import training

RNG = np.random.default_rng(3)
X = RNG.standard_normal((900, 32)).astype(np.float32)
X /= np.linalg.norm(X, axis=1, keepdims=True)
CENTROIDS = train_centroids(X, 10, seed=1)
STOP = IndexSettings(faiss_without_gpu="stop")


def hold(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    monkeypatch.setattr(training, "gpu_of_task", lambda share: open_gpu("cuda:0", library))


@pytest.mark.parametrize("library", [Library(), Library(0), Library(is_full=True), Library(most_queries=100)])
def test_vectors_get_their_nearest_cell_whatever_the_gpu_does(
    monkeypatch: pytest.MonkeyPatch, library: Library
) -> None:
    hold(monkeypatch, library)
    found = training.finder(CENTROIDS, IndexSettings(), 1.0)
    for part in (X[:500], X[500:]):
        assert np.array_equal(found.nearest(part), Quantiser(CENTROIDS).nearest(part))


def test_without_a_gpu_of_its_own_a_task_opens_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu(share: float) -> Any:
        raise AssertionError

    monkeypatch.setattr(training, "gpu_of_task", no_gpu)
    assert len(training.finder(CENTROIDS, IndexSettings(), 0.0).nearest(X)) == 900


def test_cells_are_trained_on_the_gpu_or_else_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train_centroids(X, 7, IndexSettings().seed)
    for library in (Library(), Library(is_full=True)):
        hold(monkeypatch, library)
        assert np.array_equal(training.train_on_gpu(X, 7, IndexSettings(), 1.0), expected)


def test_a_gpu_that_faiss_cannot_use_stops_the_step_where_the_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    hold(monkeypatch, Library(is_full=True))
    with pytest.raises(
        ConfigError, match=r"^index\.faiss_without_gpu=stop: GPU 0 did not take .*index\.gpus_per_task=0"
    ):
        training.train_on_gpu(X, 7, STOP, 1.0)
    with pytest.raises(ConfigError, match=r"^index\.faiss_without_gpu=stop: GPU 0 did not take a copy"):
        training.finder(CENTROIDS, STOP, 1.0)
    hold(monkeypatch, Library(most_queries=0))
    with pytest.raises(ConfigError, match=r"^index\.faiss_without_gpu=stop: GPU 0 did not take a search"):
        training.finder(CENTROIDS, STOP, 1.0).nearest(X)


def test_tasks_hold_no_gpu_where_faiss_has_none_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(training, "index_share", lambda spark, settings: TaskShare(8, 1.0))
    monkeypatch.setattr(training, "why_unusable", lambda spark, share: "FAISS here was built for CPUs")
    share, why = training.gpu_share(None, IndexSettings(gpus_per_task=1.0))  # type: ignore[arg-type]
    assert (share, why) == (TaskShare(8, 0.0), "FAISS here was built for CPUs")
    assert "trained and assigned on CPUs, though executors have GPUs: FAISS here was built for CPUs" in caplog.text
    with pytest.raises(ConfigError, match=r"index\.faiss_without_gpu=stop: FAISS here was built"):
        training.gpu_share(None, STOP)  # type: ignore[arg-type]
    monkeypatch.setattr(training, "why_unusable", lambda spark, share: "")
    assert training.gpu_share(None, IndexSettings()) == (TaskShare(8, 1.0), "")  # type: ignore[arg-type]
