"""What an executor has for Python, by Spark's settings and by the limits of the machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.spark import python_memory
from dedup_spark.spark.python_memory import ExecutorMemory, memory_by_settings, parsed_size, python_bytes_here

GIB, MIB = 1 << 30, 1 << 20


def by_settings(master: str, n_cores: int = 2, task_cpus: int = 1, **conf: str) -> ExecutorMemory:
    settings = {key.replace("_", "."): value for key, value in conf.items()}
    stands_in: Any = SimpleNamespace(get=settings.get)
    return memory_by_settings(stands_in, master, n_cores, task_cpus)


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("16g", 16 * GIB), ("384", 384 * MIB), ("2048M", 2 * GIB), ("1gb", GIB), ("512b", 512)]
)
def test_sizes_are_read_as_spark_writes_them(text: str, n_bytes: int) -> None:
    assert parsed_size(text) == n_bytes


def test_the_overhead_is_pythons_but_for_what_the_jvm_takes_of_it() -> None:
    sizes = {"spark_executor_memory": "16g", "spark_executor_memoryOverhead": "16g", "spark_executor_cores": "14"}
    assert by_settings("yarn", **sizes) == ExecutorMemory(15 * GIB, 16 * GIB, 14)
    assert by_settings("yarn", task_cpus=14, **sizes).n_tasks == 1
    more = by_settings("yarn", spark_executor_pyspark_memory="2g", **sizes)
    assert more.python_bytes == 17 * GIB


def test_yarn_and_kubernetes_enforce_a_default_and_other_masters_none() -> None:
    assert by_settings("yarn", spark_executor_memory="1g").python_bytes == 360 * MIB  # 384 MiB, without the JVM's
    assert by_settings("k8s://https://host", spark_executor_memory="20g").python_bytes == 7.5 * GIB
    assert by_settings("spark://host:7077", spark_executor_memory="20g") == ExecutorMemory(0, 20 * GIB, 0)


def test_on_a_local_master_the_driver_is_the_executor() -> None:
    assert by_settings("local[8]", 8, 2, spark_driver_memory="4g") == ExecutorMemory(0, 4 * GIB, 4)
    assert by_settings("local-cluster[2,3,1024]", 6) == ExecutorMemory(0, GIB, 3)


def test_the_least_of_all_limits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_memory, "_least_limit", lambda: 10 * GIB)
    monkeypatch.setattr(python_memory, "_shares_limit_with_jvm", lambda: False)
    assert python_bytes_here(ExecutorMemory(2 * GIB, 4 * GIB, 1)) == 2 * GIB
    assert python_bytes_here(ExecutorMemory(20 * GIB, 4 * GIB, 1)) == 9 * GIB
    monkeypatch.setattr(python_memory, "_shares_limit_with_jvm", lambda: True)
    assert python_bytes_here(ExecutorMemory(0, 5 * GIB, 1)) == 4 * GIB  # a fifth of the rest is left to the system


@pytest.mark.parametrize(
    ("own", "file"),
    [("0::/spark/one", "memory.max"), ("7:cpu:/x\n4:memory:/spark/one", "memory.limit_in_bytes")],
    ids=["version 2", "version 1"],
)
def test_the_limits_of_a_control_group_and_of_those_around_it_are_read(
    monkeypatch: pytest.MonkeyPatch, own: str, file: str
) -> None:
    texts = {"/proc/self/cgroup": own}
    root = "/sys/fs/cgroup" if file == "memory.max" else "/sys/fs/cgroup/memory"
    texts |= {f"{root}/spark/one/{file}": "max", f"{root}/spark/{file}": str(3 * GIB), f"{root}/{file}": str(1 << 62)}
    monkeypatch.setattr(python_memory, "_text", lambda path: texts.get(str(path), ""))
    assert list(python_memory._limits_of_groups()) == [3 * GIB]


def test_this_machine_says_something() -> None:
    assert python_bytes_here(ExecutorMemory()) > 0
    assert python_memory._text(Path("/no such file")) == ""
