"""The memory of an executor is enough for its workers and what they share: by the settings of each platform."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from test_conf import CONF, GPU_PLATFORMS, read_settings

from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.decoding.memory import ORDINARY_BYTES
from dedup_spark.spark.python_memory import ExecutorMemory, memory_by_settings, parsed_size
from dedup_spark.stages.reading import budget
from dedup_spark.stages.reading.budget import MODEL_ON_GPU_BYTES, Shared, rooms_of, shared_bytes, worker_bytes

EXTRACT = ExtractSettings()
GIB = 1 << 30
RGB_BYTES_PER_PIXEL = 10
"""What `kernels/decoding/memory.py` asks for of an ordinary picture."""


class Conf(dict[str, str]):
    """Stands in for a SparkConf, of which only `get` is used."""


def settings_of(platform: str) -> Conf:
    return Conf(read_settings(CONF / platform / "spark-defaults.conf"))


def shared_with(executor: ExecutorMemory, decoders: int) -> Shared:
    """By the arithmetic of a run with the default settings."""
    python_bytes = executor.python_bytes - executor.taken_bytes
    workers = executor.n_tasks
    shared = shared_bytes(python_bytes, workers, decoders, EXTRACT.inflight_bytes, EXTRACT.max_object_bytes)
    together = workers * worker_bytes(decoders, EXTRACT.inflight_bytes) + shared.pixels + shared.objects
    assert together <= python_bytes
    return shared


@pytest.mark.parametrize("platform", GPU_PLATFORMS)
def test_the_sum_of_all_that_python_may_hold_is_below_the_overhead_of_each_platform(platform: str) -> None:
    conf: Any = settings_of(platform)
    master, cores = conf["spark.master"], int(conf["spark.executor.cores"])
    on_cpu = memory_by_settings(conf, master, 0, 1)
    assert on_cpu.n_tasks == cores
    assert on_cpu.python_bytes < parsed_size(conf["spark.executor.memoryOverhead"])  # the JVM has a share of it
    one_task = memory_by_settings(conf, master, 0, cores)
    on_gpu = ExecutorMemory(one_task.python_bytes, one_task.heap_bytes, one_task.n_tasks, MODEL_ON_GPU_BYTES)
    for shared in (shared_with(on_cpu, 1), shared_with(on_gpu, cores)):
        assert ORDINARY_BYTES + shared.pixels >= 300_000_000 * RGB_BYTES_PER_PIXEL
        assert shared.objects >= budget.COPIES * EXTRACT.max_object_bytes


def test_two_workers_with_their_share_of_a_shipped_executor_have_room_for_a_picture_of_a_camera() -> None:
    python_bytes = 2 * 16 * GIB // 14
    shared = shared_bytes(python_bytes, 2, 1, EXTRACT.inflight_bytes, EXTRACT.max_object_bytes)
    assert 2 * worker_bytes(1, EXTRACT.inflight_bytes) + shared.pixels + shared.objects <= python_bytes
    assert ORDINARY_BYTES + shared.pixels >= 60_000_000 * RGB_BYTES_PER_PIXEL


def test_too_little_memory_leaves_a_little_for_large_images_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    rooms = rooms_of(ExecutorMemory(GIB, GIB, 14), 0, 1, EXTRACT.inflight_bytes, EXTRACT.max_object_bytes)
    assert rooms.pixels.n_bytes > 0
    assert "14 workers with 1 decoders each" in caplog.text
    assert "spark.executor.memoryOverhead" in caplog.text


def test_the_setting_takes_the_place_of_what_is_found() -> None:
    executor = ExecutorMemory(2 * GIB, GIB, 1)
    rooms = rooms_of(executor, 8 * GIB, 1, EXTRACT.inflight_bytes, EXTRACT.max_object_bytes)
    assert rooms.python_bytes == 8 * GIB
    shared = shared_bytes(8 * GIB, 1, 1, EXTRACT.inflight_bytes, EXTRACT.max_object_bytes)
    assert (rooms.pixels.n_bytes, rooms.objects.n_bytes) == (shared.pixels, shared.objects)
