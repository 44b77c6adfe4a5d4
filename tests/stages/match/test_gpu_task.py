"""Tasks of exact_gpu without Spark, on the CPU in place of a GPU: the pairs of exact, each shard read ahead once."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fabricated import families, random_ids, write_shards

from dedup_spark.errors import ArtifactError
from dedup_spark.stages.match import gpu_task
from dedup_spark.stages.match import task as match_tasks
from dedup_spark.stages.match.faiss_task import FaissSettings, SearchLimits
from dedup_spark.stages.match.task import JoinSettings
from dedup_spark.stages.match.work_items import FILES
from dedup_spark.store import shards

SIZES = [50, 40, 30, 45, 35]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_task, "open_device", lambda gpus: "cpu")
    shards._kept.clear()


@pytest.fixture
def lake(tmp_path: Path) -> list[dict[str, Any]]:
    rng = np.random.default_rng(8)
    vectors = np.concatenate([families([3] * 40, 0.8, rng), families([8] * 10, 0.3, rng)])
    return write_shards(tmp_path, random_ids(200, rng), vectors[rng.permutation(200)], SIZES)


def settings_of(root: Path, engine: str, **facts: Any) -> JoinSettings:
    values: dict[str, Any] = {
        "root": str(root), "engine": engine, "min_similarity": 0.45, "floor": 0.1, "neighbours": 3,
        "sketch_filter": None, "margin": 0.0, "faiss": FaissSettings(SearchLimits(1, 0, 0.45, 0.45)), "seed": 1,
        "max_pairs_per_image": 200, "gpus_per_task": 1.0, "threads": 2,
    }  # fmt: skip
    return JoinSettings(**values | facts)


def every_two(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In stripes of four, as tasks get them."""
    pairs = sorted(((a, b) for a in range(5) for b in range(a, 5)), key=lambda p: (p[0] // 4, p[1], p[0]))
    return [
        {"item": n} | {f"{side}_{c}": rows[which][c] for side, which in (("a", a), ("b", b)) for c in FILES}
        for n, (a, b) in enumerate(pairs)
    ]


def joined(items: list[dict[str, Any]], settings: JoinSettings) -> pa.Table:
    batches = list(match_tasks.join_items([pa.RecordBatch.from_pylist(items)], settings))
    return pa.Table.from_batches(batches, schema=match_tasks.JOINED.arrow)


Best = dict[int, list[tuple[float, int]]]


def results(table: pa.Table) -> tuple[set[tuple[int, int, float]], Best]:
    """Pairs above 0.45, and the three nearest of each image among those that were called the best of a side."""
    pairs = [r for r in table.to_pylist() if r["image_id_a"] is not None]
    near = {(r["image_id_a"], r["image_id_b"], r["similarity"]) for r in pairs if r["similarity"] >= np.float32(0.45)}
    best: Best = {}
    for r in pairs:
        for mine, other, is_best in (("a", "b", r["best_of_a"]), ("b", "a", r["best_of_b"])):
            if is_best:
                best.setdefault(r[f"image_id_{mine}"], []).append((-r["similarity"], r[f"image_id_{other}"]))
    return near, {image_id: sorted(found)[:3] for image_id, found in best.items()}


@pytest.mark.parametrize("neighbours", [0, 3])
def test_a_task_on_a_gpu_finds_what_the_exact_join_finds(
    tmp_path: Path, lake: list[dict[str, Any]], neighbours: int
) -> None:
    items = every_two(lake)
    found = joined(items, settings_of(tmp_path, "exact_gpu", neighbours=neighbours))
    exact = joined(items, settings_of(tmp_path, "exact", neighbours=neighbours, threads=1))
    assert results(found) == results(exact)
    assert len(results(exact)[0]) > 100
    assert found["item"].drop_null().to_pylist() == list(range(len(items)))


def test_each_shard_is_read_once_and_by_one_thread(
    tmp_path: Path, lake: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, threads, opened = Counter[str](), set[str](), shards.local_file
    monkeypatch.setattr(shards, "_KEPT_BYTES", 1)

    def counting(uri: str, sha256: str) -> AbstractContextManager[Path]:
        reads[Path(uri).name] += 1
        threads.add(threading.current_thread().name)
        return opened(uri, sha256)

    monkeypatch.setattr(shards, "local_file", counting)
    joined(every_two(lake), settings_of(tmp_path, "exact_gpu"))
    flat = [f"shard-{n:05d}.{what}.npy" for n in range(5) for what in ("rows", "vectors")]
    assert reads == dict.fromkeys(flat, 1) | {"centroids.npy": 5}
    assert len(threads) == 1
    assert threads != {threading.current_thread().name}


def test_a_shard_that_is_missing_stops_the_task(tmp_path: Path, lake: list[dict[str, Any]]) -> None:
    items = every_two(lake)
    items[3]["b_path"] = "shard_files/gone.faiss"
    with pytest.raises(ArtifactError, match=r"gone\.rows\.npy is missing"):
        joined(items, settings_of(tmp_path, "exact_gpu"))


def test_a_task_without_items_opens_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_task, "open_device", lambda gpus: pytest.fail("nothing is to be done there"))
    assert list(match_tasks.join_items([], settings_of(tmp_path, "exact_gpu"))) == []
