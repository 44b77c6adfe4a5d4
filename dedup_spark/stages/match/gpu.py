"""The GPU that a task of match holds, and how fast it compares vectors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.spark.gpus import TaskShare, device_of_task
from dedup_spark.stages.match.speed import nanoseconds
from dedup_spark.store.shards import read_shard


def open_device(gpus: float) -> str:
    """torch's name of the GPU that this task holds. Raises ConfigError where there is none, or PyTorch sees none."""
    from dedup_spark.models.torch_runtime import open_device  # it imports torch, which takes seconds

    return str(open_device(device_of_task(gpus)))


def gpu_nanoseconds(shard_rows: DataFrame, root: str, share: TaskShare) -> float:
    """Nanoseconds per comparison by exact_gpu, measured by one task that holds a GPU, on the first shard."""
    first = shard_rows.where("shard = 0").select("path", "sha256").repartition(1)

    def measure(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for file in (row for batch in batches for row in batch.to_pylist()):
            shard, device = read_shard(root, file["path"], file["sha256"]), open_device(share.gpus)
            yield pa.RecordBatch.from_pylist([{"ns": _exact_nanoseconds(shard.block, device)}])

    row = first.mapInArrow(measure, "ns double", profile=share.profile).first()
    assert row is not None
    return float(row["ns"])


def _exact_nanoseconds(block: Block, device: str) -> float:
    """By wall clock: the processor time of this process does not hold the time of a GPU."""
    n = len(block) ** 2 // 2
    return nanoseconds(lambda: list(exact_join(block, None, 1.0, device)), n, time.perf_counter)
