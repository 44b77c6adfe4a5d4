"""FAISS on the GPU that a task holds, for the steps that search or train there."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from dedup_spark.kernels.joins.faiss_device import FaissGpu, FaissGpuUnusable, open_gpu
from dedup_spark.spark.gpus import TaskShare, device_of_task


def gpu_of_task(share_of_gpus: float) -> FaissGpu:
    """The GPU that this task holds, opened once per worker. Raises FaissGpuUnusable."""
    return _open(device_of_task(share_of_gpus))


@functools.cache
def _open(device: str) -> FaissGpu:
    # CUDA reads this when it starts: its GPU i is then the i of nvidia-smi, hence of Spark.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return open_gpu(device)


def why_unusable(spark: SparkSession, share: TaskShare) -> str:
    """Why FAISS cannot use the GPUs of tasks, asked of one task that holds one; empty if it can."""

    def ask(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            yield pa.RecordBatch.from_pylist([{"why": _why(share.gpus)}])

    row = share.map_in_arrow(spark.range(0, 1, 1, 1), ask, "why string").first()
    return "" if row is None else row["why"]


def _why(share_of_gpus: float) -> str:
    try:
        gpu_of_task(share_of_gpus)
    except FaissGpuUnusable as e:
        return str(e)
    return ""
