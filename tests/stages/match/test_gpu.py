"""The GPU of a task of match on nodes without PyTorch, without Spark: with FAISS alone, and with neither."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import families, random_ids, write_shards
from faiss_gpus import Library

from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.joins.faiss_device import open_gpu
from dedup_spark.stages.match import gpu
from dedup_spark.store import shards
from dedup_spark.store.shards import Shard

RNG = np.random.default_rng(8)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (row,) = write_shards(tmp_path, random_ids(300, RNG), families([6] * 50, 0.75, RNG), [300])
    return shards.read_shard(str(tmp_path), shards.ShardFiles.of(row), with_index=True)


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed: importing it fails
    monkeypatch.delitem(sys.modules, "dedup_spark.models.torch_runtime", raising=False)


def measured(shard: Shard, engine: str) -> dict[str, Any]:
    return gpu.speeds_on_shard(shard, 1.0, load_config(None, [f"match.engine={engine}"]).match)


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("n_gpus", [1, 0])
def test_without_torch_auto_leaves_exact_gpu_out_and_says_why(
    shard: Shard, n_gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "gpu_of_task", lambda _: open_gpu("cuda:0", Library(n_gpus)))
    found = measured(shard, "auto")
    assert found["exact_ns"] is None
    assert "cannot be loaded here (ModuleNotFoundError: " in found["exact_unusable"]
    assert (found["faiss_ns"] is None, bool(found["faiss_unusable"])) == (not n_gpus, not n_gpus)


@pytest.mark.usefixtures("no_torch")
def test_without_torch_the_engine_that_was_named_is_refused_in_one_sentence(shard: Shard) -> None:
    for ask in (lambda: measured(shard, "exact_gpu"), lambda: gpu.open_device(1.0)):
        with pytest.raises(ConfigError, match=r"install `dedup-spark\[gpu\]` on the executors, or do without") as e:
            ask()
        assert "\n" not in str(e.value)


@pytest.mark.usefixtures("no_torch")
def test_faiss_alone_needs_no_torch(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu_of_task", lambda _: open_gpu("cuda:0", Library()))
    found = measured(shard, "faiss_ivf")
    assert found["faiss_ns"] > 0
    assert (found["exact_ns"], found["exact_unusable"], found["faiss_unusable"]) == (None, "", "")
