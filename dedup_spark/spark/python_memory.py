"""How much memory the Python processes of an executor may take together: what Spark's settings and the machine say.

Spark's memory is that of the JVM. What Python takes lies outside of it, in `spark.executor.memoryOverhead`, and YARN
and Kubernetes end a container that takes more than both; other masters have the machine alone as a limit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

_MIB = 1 << 20
_UNITS = {"": _MIB, "b": 1, "k": 1 << 10, "m": _MIB, "g": 1 << 30, "t": 1 << 40}
"""Of Spark's sizes; those without a unit are MiB here."""
_LEAST_OVERHEAD, _OVERHEAD_FACTOR, _OVERHEAD_FACTOR_ON_KUBERNETES = 384 * _MIB, 0.1, 0.4
_DEFAULT_HEAP = "1g"
_JVM_SHARE, _MOST_OF_JVM = 1 / 16, 1 << 30
"""What the JVM takes of the overhead for itself: classes, compiled code, stacks, buffers of the network."""
_FREE_SHARE = 0.2
"""Of a machine or a container without a limit for Python: left to the system, its caches, and other processes."""
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class ExecutorMemory:
    """Of one executor, sent with its tasks. 0 stands for what no setting says.

    Attributes:
        python_bytes: For all its Python processes.
        heap_bytes: Of its JVM.
        n_tasks: That run at a time, each in a worker of its own.
        taken_bytes: Of what Python has, by something that is there once, as a model on a GPU.
    """

    python_bytes: int = 0
    heap_bytes: int = 0
    n_tasks: int = 0
    taken_bytes: int = 0


UNKNOWN = ExecutorMemory()
"""Where Spark's settings are not at hand."""


def executor_memory(spark: SparkSession, task_cpus: int, taken_bytes: int = 0) -> ExecutorMemory:
    """What the executors of this session have, for tasks of so many cores; on the driver."""
    context = spark.sparkContext
    found = memory_by_settings(context.getConf(), str(context.master), context.defaultParallelism, task_cpus)
    return replace(found, taken_bytes=taken_bytes)


def memory_by_settings(conf: SparkConf, master: str, n_cores: int, task_cpus: int) -> ExecutorMemory:
    """As `executor_memory`; `n_cores` are those of a local master."""
    if re.match(r"local(\[|$)", master):
        return ExecutorMemory(0, _size(conf, "spark.driver.memory"), max(1, n_cores // task_cpus))
    heap = _size(conf, "spark.executor.memory")
    given = conf.get("spark.executor.cores", master.split(",")[1] if master.startswith("local-cluster[") else "0")
    n_tasks = max(1, int(given or 0) // task_cpus) if int(given or 0) else 0
    return ExecutorMemory(_outside_heap(conf, master, heap), heap, n_tasks)


def _outside_heap(conf: SparkConf, master: str, heap: int) -> int:
    """For Python, by the settings; 0 where they say nothing that anybody enforces."""
    for_python = parsed_size(conf.get("spark.executor.pyspark.memory", "0") or "0")
    asked = conf.get("spark.executor.memoryOverhead", "")
    if asked:
        overhead = parsed_size(asked)
    elif master == "yarn" or master.startswith("k8s://"):
        usual = _OVERHEAD_FACTOR_ON_KUBERNETES if master.startswith("k8s://") else _OVERHEAD_FACTOR
        factor = float(conf.get("spark.executor.memoryOverheadFactor", "") or usual)
        overhead = max(_LEAST_OVERHEAD, int(factor * heap))
    else:
        return for_python
    return for_python + overhead - min(_MOST_OF_JVM, int(_JVM_SHARE * overhead))


def _size(conf: SparkConf, key: str) -> int:
    return parsed_size(conf.get(key, _DEFAULT_HEAP) or _DEFAULT_HEAP)


def parsed_size(text: str) -> int:
    """Bytes of a size as Spark writes it: 16g, 2048m, 384 (MiB). Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+)\s*([bkmgt]?)b?\s*", text.lower())
    if not found:
        raise ValueError(f"no size of memory: {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def python_bytes_here(executor: ExecutorMemory) -> int:
    """For all Python processes of the executor that this process belongs to: the least of what is known."""
    limit = _least_limit()
    beside = max(executor.heap_bytes, _resident_bytes_of_jvm()) if _shares_limit_with_jvm() else 0
    by_machine = int((1 - _FREE_SHARE) * max(0, limit - beside)) if beside else int(0.9 * limit)
    return min(by_machine, executor.python_bytes or by_machine)


def _least_limit() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits_of_groups()])


def _limits_of_groups() -> Iterator[int]:
    """Of the control groups of this process and those around them, versions 1 and 2."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        root, name = _group_root(controllers)
        for place in [path, *map(str, Path(path).parents)] if root else []:
            with suppress(ValueError):
                limit = int(_text(Path(f"{root}/{place.strip('/')}", name)))
                if 0 < limit < _NO_LIMIT:
                    yield limit


def _group_root(controllers: str) -> tuple[str, str]:
    if not controllers:
        return "/sys/fs/cgroup", "memory.max"
    return ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if "memory" in controllers.split(",") else ("", "")


def _shares_limit_with_jvm() -> bool:
    """Whether a JVM that started this process is under the same limit; without a control group that is the machine."""
    own = _text(Path("/proc/self/cgroup"))
    jvm = _jvm_above()
    return jvm != 0 and _text(Path(f"/proc/{jvm}/cgroup")) == own


def _jvm_above() -> int:
    """The process id of the JVM among the ancestors of this process; 0 where there is none."""
    pid = os.getppid()
    while pid > 1:
        stat = _text(Path(f"/proc/{pid}/stat"))
        name, _, rest = stat.partition("(")[2].rpartition(")")
        if name == "java":
            return pid
        pid = int(rest.split()[1]) if rest else 0
    return 0


def _resident_bytes_of_jvm() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", _text(Path(f"/proc/{_jvm_above()}/status")))
    return 1024 * int(found[1]) if found else 0


def _text(path: Path) -> str:
    """Empty where there is no such file, as on other systems than Linux."""
    try:
        return path.read_text()
    except OSError:
        return ""
