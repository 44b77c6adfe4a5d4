"""What the index learns from a sample: the cells, and the type of index that faiss_ivf searches.

Cells are trained and assigned on the GPUs of tasks where FAISS can, else on the driver and on cores.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.config import IndexSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Float32, Int32
from dedup_spark.kernels.faiss_index import DEFAULT, MIN_TRAIN_ROWS, train_index
from dedup_spark.kernels.joins.faiss_device import FaissGpuUnusable, GpuCells
from dedup_spark.kernels.vectors import Quantiser, from_bytes, to_float32, train_centroids
from dedup_spark.spark.draw import seeded_place
from dedup_spark.spark.gpus import NO_GPU, TaskShare, index_share
from dedup_spark.stages.faiss_gpu import gpu_of_task, why_unusable
from dedup_spark.store.shards import usual_cells

log = logging.getLogger(__name__)

_TRAIN_ROWS_PER_CELL = 64  # FAISS warns below 39; more than 256 changes nothing (its own default cap)


def gpu_share(spark: SparkSession, settings: IndexSettings) -> tuple[TaskShare, str]:
    """What tasks of the index hold, and why FAISS cannot use their GPUs; then they hold none.

    Raises:
        ConfigError: it cannot, and index.faiss_without_gpu is `stop`.
    """
    share = index_share(spark, settings)
    unusable = why_unusable(spark, share) if share.gpus else ""
    if not unusable:
        return share, ""
    if settings.faiss_without_gpu == "stop":
        raise ConfigError(_stopped(unusable))
    level = logging.WARNING if settings.gpus_per_task > 0 else logging.INFO
    log.log(level, "index: cells are trained and assigned on CPUs, though executors have GPUs: %s", unusable)
    return TaskShare(share.cpus, 0.0), unusable


def train(vectors: DataFrame, n_vectors: int, settings: IndexSettings, share: TaskShare = NO_GPU) -> Float32:
    """Centroids from a sample that depends only on the ids and the seed, not on order or partitions."""
    n_cells = settings.n_cells_asked or usual_cells(n_vectors)
    n_cells = min(n_cells, n_vectors)
    wanted = min(settings.max_train_rows, n_cells * _TRAIN_ROWS_PER_CELL)
    sample = _sample(vectors, n_vectors, wanted, settings.seed)
    if share.gpus and n_cells > 1:
        return _train_in_task(sample, n_cells, settings, share)
    matrix = _matrix(sample.toArrow())
    return train_centroids(matrix, min(n_cells, len(matrix)), settings.seed)


def train_type(vectors: DataFrame, n_vectors: int, centroids: Float32, settings: IndexSettings) -> bytes | None:
    """The index of type index.faiss_index without rows; None where it is that of every shard. Raises ConfigError."""
    if settings.faiss_index_type == DEFAULT:
        return None
    wanted = max(MIN_TRAIN_ROWS, min(settings.max_train_rows, len(centroids) * _TRAIN_ROWS_PER_CELL))
    rows = _sample(vectors, n_vectors, wanted, settings.seed).toArrow()
    return train_index(settings.faiss_index_type, centroids, _matrix(rows))


def finder(centroids: Float32, settings: IndexSettings, gpus_per_task: float) -> _Finder:
    """On executors: what finds the cell of vectors, on the GPU of the task where it holds one."""
    return _Finder(centroids, settings, gpus_per_task)


class _Finder:
    """Where the GPU fails, the rows in hand and all that follow are assigned by the CPU."""

    def __init__(self, centroids: Float32, settings: IndexSettings, gpus_per_task: float) -> None:
        self._centroids, self._settings = centroids, settings
        self._on_gpu: GpuCells | None = None
        self._on_cpu: Quantiser | None = None
        if gpus_per_task:
            try:
                self._on_gpu = gpu_of_task(gpus_per_task).nearest_cells(centroids)
            except FaissGpuUnusable as e:
                self._leave_gpu(e)

    def nearest(self, vectors: Float32) -> Int32:
        if self._on_gpu is not None:
            try:
                return self._on_gpu.nearest(vectors)
            except FaissGpuUnusable as e:
                self._leave_gpu(e)
        self._on_cpu = self._on_cpu or Quantiser(self._centroids)
        return self._on_cpu.nearest(vectors)

    def _leave_gpu(self, why: FaissGpuUnusable) -> None:
        if self._settings.faiss_without_gpu == "stop":
            raise ConfigError(_stopped(str(why))) from why
        log.warning("index: cells are assigned on a CPU: %s", why)
        self._on_gpu = None


def _train_in_task(sample: DataFrame, n_cells: int, settings: IndexSettings, share: TaskShare) -> Float32:
    """In one task that holds a GPU: drivers have none, and the sample then needs no memory there."""

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        matrix = _matrix(pa.Table.from_batches(list(batches)))
        centroids = train_on_gpu(matrix, min(n_cells, len(matrix)), settings, share.gpus)
        cells = pa.array(np.arange(len(centroids)), pa.int32())
        rows = pa.array([row.astype("<f4").tobytes() for row in centroids], pa.binary())
        yield pa.RecordBatch.from_arrays([cells, rows], ["cell", "centroid"])

    found = share.map_in_arrow(sample, work, "cell int, centroid binary").toArrow().sort_by("cell")
    return np.stack([np.frombuffer(row, "<f4") for row in found["centroid"].to_pylist()])


def train_on_gpu(matrix: Float32, n_cells: int, settings: IndexSettings, gpus_per_task: float) -> Float32:
    """On executors: centroids by the GPU of the task, or by its CPU where index.faiss_without_gpu says so."""
    try:
        return gpu_of_task(gpus_per_task).train_centroids(matrix, n_cells, settings.seed)
    except FaissGpuUnusable as e:
        if settings.faiss_without_gpu == "stop":
            raise ConfigError(_stopped(str(e))) from e
        log.warning("index: cells are trained on a CPU: %s", e)
        return train_centroids(matrix, n_cells, settings.seed)


def _sample(vectors: DataFrame, n_vectors: int, wanted: int, seed: int) -> DataFrame:
    draw = seeded_place(seed)
    sample = vectors.where(draw < 1.2 * wanted / n_vectors) if wanted < n_vectors else vectors
    return sample.orderBy(draw, "image_id").limit(wanted).select("embedding")


def _matrix(rows: pa.Table) -> Float32:
    return to_float32(from_bytes(rows["embedding"].to_pylist()))


def _stopped(why: str) -> str:
    return (
        f"index.faiss_without_gpu=stop: {why}; use --set index.faiss_without_gpu=cpu to use the CPU, or "
        "index.gpus_per_task=0 to ask for no GPU"
    )
