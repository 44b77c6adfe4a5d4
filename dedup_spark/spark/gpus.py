"""GPUs in Spark: what the executors have, the resource profile of a stage with a model, and which GPU a task holds.

The profile asks only for task resources, so the stage runs on the executors that are there (standalone, YARN,
Kubernetes, Databricks). It applies to everything in its stage, also to the scan or shuffle read before the model. A
local master has no GPUs to give.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark import SparkConf, TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.config import ExtractSettings, IndexSettings, MatchSettings
from dedup_spark.errors import ConfigError
from dedup_spark.spark.executors import ask_an_executor, n_executors

if TYPE_CHECKING:
    import pyarrow as pa  # not at run time: `dedup-spark doctor` asks for GPUs, and imports nothing heavy

log = logging.getLogger(__name__)

type ArrowTask = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_PER_EXECUTOR = "spark.executor.resource.gpu.amount"
_DEVICES = Path("/dev")
_OWNER = "DEDUP_SPARK_WORKERS"
"""A variable of Python workers that nothing reads: Spark reuses one only for functions with the same environment."""


@dataclass(frozen=True, slots=True)
class TaskShare:
    """What each task of a stage with a model gets; with `gpus` 0 it needs no profile.

    `cpus` is the number of decoders and of model threads. OMP_NUM_THREADS of a Python worker cannot be used for that:
    Spark sets it from spark.task.cpus, whatever the stage's profile says.
    """

    cpus: int
    gpus: float

    def map_in_arrow(self, rows: DataFrame, task: ArrowTask, ddl: str) -> DataFrame:
        """`rows.mapInArrow` by tasks that get this; lazy.

        Tasks that hold a GPU have Python workers of their own. Spark gives a task any idle worker: after a stage with a
        task on each of 16 cores there are 16 idle ones, and a stage with one task at a time would go round them, so
        that each opened a CUDA context, loaded the model and started 16 decoders.
        """
        if not self.gpus:
            return rows.mapInArrow(task, ddl)
        with _workers_of_gpus(rows.sparkSession):
            return rows.mapInArrow(task, ddl, profile=self.profile)

    @property
    def profile(self) -> ResourceProfile | None:
        """The profile for `mapInArrow(profile=...)`; made on use, because it lives in the JVM."""
        if not self.gpus:
            return None
        requests = TaskResourceRequests().cpus(self.cpus).resource("gpu", self.gpus)
        return ResourceProfileBuilder().require(requests).build


NO_GPU = TaskShare(1, 0.0)


@contextmanager
def _workers_of_gpus(spark: SparkSession) -> Iterator[None]:
    """Functions that are handed to Spark within the block run in Python workers that no other functions get.

    Idle workers of other functions end by themselves, after a minute.
    """
    environment = spark.sparkContext.environment
    environment[_OWNER] = "gpu"
    try:
        yield
    finally:
        environment.pop(_OWNER, None)


def task_share(spark: SparkSession, extract: ExtractSettings) -> TaskShare:
    """What a task with a model gets, by extract.gpus_per_task and extract.cpus_per_gpu_task on this cluster.

    Raises:
        ConfigError: the settings ask for GPUs that the executors do not have.
    """
    asked = extract.gpus_per_task
    wanted = 0.0 if asked < 0 and extract.runtime == "onnx" else asked
    share = _share(spark, wanted, extract.cpus_per_gpu_task, "extract")
    if share.gpus and not extract.cpus_per_gpu_task and not _executor_cores(spark):
        log.warning(
            "spark.executor.cores is not set, so a task with a GPU gets %d cores; decoding may not keep up: "
            "set it, or extract.cpus_per_gpu_task",
            share.cpus,
        )
    return share


def index_share(spark: SparkSession, index: IndexSettings) -> TaskShare:
    """What a task of index gets where it trains or assigns cells on a GPU, by index.gpus_per_task on this cluster.

    Raises:
        ConfigError: the setting asks for GPUs that the executors do not have.
    """
    return _share(spark, index.gpus_per_task, 0, "index")


def match_share(spark: SparkSession, match: MatchSettings) -> TaskShare:
    """What a task of match gets where it multiplies or searches on a GPU, by match.gpus_per_task on this cluster.

    Raises:
        ConfigError: the settings, or the engine exact_gpu, ask for GPUs that the executors do not have.
    """
    asked = match.gpus_per_task
    by_engine = {"auto": asked, "faiss_ivf": asked, "exact_gpu": asked if asked > 0 else 1.0}
    return _share(spark, by_engine.get(match.engine, 0.0), match.cpus_per_gpu_task, "match")


def gpu_tasks_at_once(spark: SparkSession, share: TaskShare) -> int:
    """How many tasks with this share run at the same time on the executors that are there; 0 where it has no GPU."""
    if not share.gpus:
        return 0
    n_gpus, cores = _gpus_per_executor(spark.sparkContext.getConf()) or 1.0, _executor_cores(spark)
    by_gpus = int(n_gpus / share.gpus + 1e-6)  # 1 / 0.1 of a GPU are ten tasks
    by_cores = cores // share.cpus if cores else by_gpus
    return max(1, min(by_gpus, by_cores)) * n_executors(spark)


def _share(spark: SparkSession, asked: float, asked_cpus: int, section: str) -> TaskShare:
    conf = spark.sparkContext.getConf()
    task_cpus = int(conf.get("spark.task.cpus", "1"))
    n_gpus, master = _gpus_per_executor(conf), str(spark.sparkContext.master)
    if asked < 0 and not n_gpus:
        n_gpus = _gpus_not_named(spark)
    if asked == 0 or (asked < 0 and not n_gpus):
        return TaskShare(task_cpus, 0.0)
    gpus = 1.0 if asked < 0 else asked
    if gpus > n_gpus:
        instead = "match.engine=auto" if section == "match" else f"{section}.gpus_per_task=0"
        raise ConfigError(
            f"{section}.gpus_per_task={gpus:g}, and executors have {n_gpus:g} GPUs ({_PER_EXECUTOR} at master "
            f"{master}): submit with --platform standalone-gpu, k8s or emr, set that, or use --set {instead}"
        )
    cores = _executor_cores(spark)
    cpus = asked_cpus or max(task_cpus, int(cores * gpus / n_gpus))
    if cores and cpus > cores:
        raise ConfigError(f"{section}.cpus_per_gpu_task={cpus}, and executors have {cores} cores: no task could start")
    return TaskShare(cpus, gpus)


def device_of_task(share_of_gpus: float) -> str:
    """On executors: `cuda:<address>` of the GPU that this task holds, or `cpu` where the stage asked for none.

    Raises:
        ConfigError: the stage asked for a GPU and the task got none.
    """
    if not share_of_gpus:
        return "cpu"
    held = _gpus_held()
    if not held:
        raise ConfigError("this task was to hold a GPU and got none: the stage's resource profile was not applied")
    return f"cuda:{held[0]}"


def holds_gpu() -> bool:
    """On executors: whether Spark gave this task a GPU, by spark.task.resource.gpu.amount or by a profile."""
    return bool(_gpus_held())


def _gpus_held() -> list[str]:
    task = TaskContext.get()
    held = task.resources().get("gpu") if task else None
    return list(held.addresses) if held else []


def _gpus_per_executor(conf: SparkConf) -> float:
    return float(conf.get(_PER_EXECUTOR, "0") or 0)


_HELD, _INSTALLED = "a task holds a GPU", "a node has a GPU"
_seen: dict[str, frozenset[str]] = {}
"""What nodes were found to have, by the id of Spark's application: it does not change while that runs."""


def _gpus_not_named(spark: SparkSession) -> float:
    """GPUs per executor where no setting says how many: 1 if tasks hold one, as Databricks may have arranged.

    Says so once where nodes have GPUs and Spark gives them to no task: they are paid for, and would stand idle.
    """
    context = spark.sparkContext
    application, is_local = str(context.applicationId), str(context.master).partition("[")[0] == "local"
    if application not in _seen:
        _seen[application] = frozenset(_gpus_here()) if is_local else ask_an_executor(spark, _gpus_here)
        if _seen[application] == {_INSTALLED}:
            log.warning(
                "GPUs: nodes have NVIDIA GPUs, and Spark gives none to tasks (master %s, %s is not set), so that "
                "every step works on CPUs: set it and its discovery script, as conf/standalone-gpu does%s; or set "
                "extract.gpus_per_task, index.gpus_per_task and match.gpus_per_task to 0",
                context.master, _PER_EXECUTOR,
                " on a cluster, as a local master gives out no GPUs" if is_local else "",
            )  # fmt: skip
    return 1.0 if _HELD in _seen[application] and not is_local else 0.0


def _gpus_here() -> list[str]:
    """In a task, or on the driver of a local master."""
    return [_HELD] * holds_gpu() + [_INSTALLED] * bool([*_DEVICES.glob("nvidia[0-9]*")])


def _executor_cores(spark: SparkSession) -> int:
    """Cores per executor; 0 where no setting says it: a standalone executor then takes all cores of its worker."""
    conf, master = spark.sparkContext.getConf(), str(spark.sparkContext.master)
    if master.startswith("local-cluster["):
        return int(conf.get("spark.executor.cores", master.split(",")[1]) or 0)
    return int(conf.get("spark.executor.cores", "0") or 0)
