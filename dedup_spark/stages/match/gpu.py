"""The GPU that a task of match holds: how fast PyTorch and FAISS compare vectors there, and whether FAISS can."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame

from dedup_spark.columns import Columns
from dedup_spark.config import MatchSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.faiss_device import FaissGpuUnusable
from dedup_spark.kernels.joins.faiss_ivf import GPU_K, ShardSearch
from dedup_spark.spark.gpus import TaskShare, device_of_task
from dedup_spark.stages.faiss_gpu import gpu_of_task
from dedup_spark.stages.match.speed import faiss_nanoseconds, nanoseconds
from dedup_spark.stages.match.work_items import FILES
from dedup_spark.store.shards import Shard, ShardFiles, read_shard

_TIMED_QUERIES = 4096
_TIMED_FLOOR = 0.999  # so that little is near, and all that is done for the nearest is done
_MEASURED = Columns("exact_ns double, exact_unusable string, faiss_ns double, faiss_unusable string")


@dataclass(frozen=True)
class GpuSpeeds:
    """Nanoseconds per comparison of a task that holds a GPU, by the clock; None: not there, or not asked for.

    `exact_unusable` says why exact_gpu cannot be chosen, `faiss_unusable` why FAISS cannot use the GPU.
    """

    exact_ns: float | None = None
    faiss_ns: float | None = None
    faiss_unusable: str = ""
    exact_unusable: str = ""


def why_no_torch() -> str:
    """Why this node cannot multiply by PyTorch, with the ways out; empty if it can. Importing it takes seconds."""
    try:
        importlib.import_module("dedup_spark.models.torch_runtime")
    except (ImportError, OSError) as e:  # OSError: a library of CUDA that torch loads
        return (
            f"match.engine=exact_gpu multiplies by PyTorch, which cannot be loaded here ({type(e).__name__}: {e}): "
            "install `dedup-spark[gpu]` on the executors, or do without: --set match.engine=auto, or "
            "--set match.gpus_per_task=0"
        )
    return ""


def open_device(gpus: float) -> str:
    """torch's name of the GPU that this task holds. Raises ConfigError where it holds none, or PyTorch sees none."""
    if why := why_no_torch():
        raise ConfigError(why)
    from dedup_spark.models.torch_runtime import open_device

    return str(open_device(device_of_task(gpus)))


def gpu_speeds(shard_rows: DataFrame, root: str, share: TaskShare, settings: MatchSettings) -> GpuSpeeds:
    """Measured by one task that holds a GPU, on the first shard, for the engines that may be chosen."""
    first = shard_rows.where("shard = 0").select(*FILES).repartition(1)

    def measure(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for file in (row for batch in batches for row in batch.to_pylist()):
            shard = read_shard(root, ShardFiles.of(file), with_index=True)
            yield pa.RecordBatch.from_pylist([speeds_on_shard(shard, share.gpus, settings)], schema=_MEASURED.arrow)

    row = share.map_in_arrow(first, measure, _MEASURED.ddl).first()
    assert row is not None
    return GpuSpeeds(row["exact_ns"], row["faiss_ns"], row["faiss_unusable"], row["exact_unusable"])


def speeds_on_shard(shard: Shard, gpus: float, settings: MatchSettings) -> dict[str, float | str | None]:
    """In a task that holds a GPU: the values of _MEASURED.

    Raises:
        ConfigError: match.engine=exact_gpu, and PyTorch is missing; or PyTorch does not see the GPU.
    """
    exact_ns, faiss_ns, no_faiss = None, None, ""
    no_exact = why_no_torch() if settings.engine == "auto" else ""
    if settings.engine != "faiss_ivf" and not no_exact:
        exact_ns = exact_nanoseconds(shard.block, open_device(gpus), settings.neighbours)
    if settings.engine != "exact_gpu":
        faiss_ns, no_faiss = faiss_on_gpu(shard, gpus, settings.faiss_k)
    return {"exact_ns": exact_ns, "exact_unusable": no_exact, "faiss_ns": faiss_ns, "faiss_unusable": no_faiss}


def exact_nanoseconds(block: Block, device: str, k: int) -> float:
    """Of products, and of finding what is near in them; what it takes to score candidates is another figure.

    By wall clock: the processor time of this process does not hold the time of a GPU.
    """
    from dedup_spark.kernels.joins.exact_gpu import Wanted, exact_gpu_join  # here, as importing PyTorch takes seconds

    wanted = Wanted(_TIMED_FLOOR, k, 1.0)
    n = len(block) ** 2 // 2
    return nanoseconds(lambda: list(exact_gpu_join(block, None, wanted, device)), n, time.perf_counter)


def faiss_on_gpu(shard: Shard, gpus_per_task: float, k: int) -> tuple[float | None, str]:
    """Nanoseconds per row that FAISS scans on the GPU of this task, by wall clock; or why it cannot."""
    try:
        search = ShardSearch.on(gpu_of_task(gpus_per_task), shard.block, shard.index)
        return faiss_nanoseconds(search, k or GPU_K, _TIMED_QUERIES, time.perf_counter), ""
    except FaissGpuUnusable as e:
        return None, str(e)
