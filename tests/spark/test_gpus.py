"""GPUs by Spark: what is asked for, what tasks hold, and what is said where there are none."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession
from sample_images import sample_images

from dedup_spark.config import ExtractSettings, IndexSettings, MatchSettings, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.spark import gpus
from dedup_spark.spark.gpus import TaskShare, device_of_task, index_share, match_share, task_share

Seen = dict[str, Any]
ONE_GPU = {"spark.executor.resource.gpu.amount": "1", "spark.executor.cores": "14"}


def cluster(master: str = "spark://host:7077", **conf: str) -> Any:
    """Stands in for a session: only its settings are looked at."""
    settings = {key.replace("__", "."): value for key, value in conf.items()}
    context = SimpleNamespace(master=master, applicationId="app-1", getConf=lambda: SimpleNamespace(get=settings.get))
    return SimpleNamespace(sparkContext=context)


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What an executor of `cluster` answers to the question for GPUs; at first nothing."""
    answer: dict[str, list[str]] = {"of an executor": []}
    monkeypatch.setattr(gpus, "_seen", {})
    monkeypatch.setattr(gpus, "_DEVICES", Path("/nonexistent"))
    monkeypatch.setattr(gpus, "ask_an_executor", lambda _, asked: frozenset(answer["of an executor"]))
    return answer


def share(conf: dict[str, str], master: str = "spark://host:7077", **extract: Any) -> TaskShare:
    return task_share(cluster(master, **conf), ExtractSettings(**extract))


def test_without_gpus_a_task_is_as_the_cluster_says() -> None:
    assert share({}, "local[2]") == TaskShare(1, 0.0)
    assert share({"spark.task.cpus": "3"}) == TaskShare(3, 0.0)
    assert share({}).profile is None


def test_a_task_takes_one_gpu_where_executors_have_them_and_its_share_of_the_cores() -> None:
    assert share(ONE_GPU) == TaskShare(14, 1.0)
    assert share(ONE_GPU, gpus_per_task=0.5) == TaskShare(7, 0.5)
    assert share(ONE_GPU, gpus_per_task=0.25, cpus_per_gpu_task=2) == TaskShare(2, 0.25)
    assert share(ONE_GPU | {"spark.executor.resource.gpu.amount": "2"}) == TaskShare(7, 1.0)


def test_gpus_are_left_alone_when_they_are_not_wanted() -> None:
    assert share(ONE_GPU, gpus_per_task=0) == TaskShare(1, 0.0)
    assert share(ONE_GPU, runtime="onnx") == TaskShare(1, 0.0)


@pytest.mark.parametrize(
    ("given", "share", "expected"),
    [
        (ONE_GPU, TaskShare(14, 1.0), 3),
        (ONE_GPU, TaskShare(7, 0.5), 6),
        (ONE_GPU, TaskShare(1, 0.1), 30),
        (ONE_GPU, TaskShare(8, 0.5), 3),  # the cores of a second task are not there
        ({"spark.executor.resource.gpu.amount": "4"}, TaskShare(1, 1.0), 12),  # how many cores is not said
        ({}, TaskShare(1, 1.0), 3),  # found out by a task that held one
        ({}, TaskShare(1, 0.0), 0),
    ],
)
def test_tasks_with_a_gpu_run_at_once_as_gpus_and_cores_of_executors_allow(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], share: TaskShare, expected: int
) -> None:
    monkeypatch.setattr(gpus, "n_executors", lambda _: 3)
    assert gpus.gpu_tasks_at_once(cluster(**given), share) == expected


def test_match_takes_a_gpu_for_the_engines_that_use_one() -> None:
    def of_match(conf: dict[str, str], **match: Any) -> TaskShare:
        return match_share(cluster(**conf), MatchSettings(**match))

    assert of_match(ONE_GPU) == TaskShare(14, 1.0)  # auto tries it
    assert of_match(ONE_GPU, gpus_per_task=0) == of_match(ONE_GPU, engine="sketch") == TaskShare(1, 0.0)
    assert of_match(ONE_GPU, engine="exact_gpu", cpus_per_gpu_task=2) == TaskShare(2, 1.0)
    assert of_match(ONE_GPU, engine="faiss_ivf") == TaskShare(14, 1.0)
    assert of_match({}, engine="faiss_ivf") == TaskShare(1, 0.0)  # on CPUs
    assert of_match({}) == of_match({}, engine="exact") == TaskShare(1, 0.0)
    with pytest.raises(ConfigError, match=r"match\.gpus_per_task=1, and executors have 0 GPUs .*match\.engine=auto"):
        of_match({}, engine="exact_gpu")


def test_a_gpu_that_tasks_hold_is_taken_though_no_setting_names_it(nodes: dict[str, list[str]]) -> None:
    nodes["of an executor"] = [gpus._HELD, gpus._INSTALLED]
    assert share({}) == TaskShare(1, 1.0)
    assert share({}, cpus_per_gpu_task=16) == TaskShare(16, 1.0)
    assert share({"spark.task.resource.gpu.amount": "0.0625"}) == TaskShare(1, 1.0)


def test_gpus_that_spark_gives_to_no_task_are_said_once_and_left_alone(
    nodes: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    nodes["of an executor"] = [gpus._INSTALLED]
    with caplog.at_level("WARNING"):
        assert share({}) == index_share(cluster(), IndexSettings()) == TaskShare(1, 0.0)
    assert caplog.text.count("nodes have NVIDIA GPUs, and Spark gives none to tasks") == 1


def test_nobody_is_asked_for_gpus_where_none_are_wanted_or_a_setting_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpus, "ask_an_executor", lambda *_: pytest.fail("an executor was asked"))
    share({}, gpus_per_task=0)
    share({}, runtime="onnx")
    share(ONE_GPU)
    share({}, "local[8]")


def test_a_local_master_looks_at_its_own_machine_and_says_that_it_gives_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As compute of one node on Databricks."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(gpus, "_DEVICES", tmp_path)
    with caplog.at_level("WARNING"):
        assert share({}, "local[*, 4]") == TaskShare(1, 0.0)
    assert "as a local master gives out no GPUs" in caplog.text


def test_index_takes_a_gpu_where_executors_have_them() -> None:
    def of_index(conf: dict[str, str], **index: Any) -> TaskShare:
        return index_share(cluster(**conf), IndexSettings(**index))

    assert of_index(ONE_GPU) == TaskShare(14, 1.0)
    assert of_index(ONE_GPU, gpus_per_task=0) == of_index({}) == TaskShare(1, 0.0)
    with pytest.raises(
        ConfigError, match=r"index\.gpus_per_task=1, and executors have 0 GPUs .*index\.gpus_per_task=0"
    ):
        of_index({}, gpus_per_task=1.0)


def test_asking_for_a_gpu_that_is_not_there_is_an_error_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"gpus_per_task=1, and executors have 0 GPUs .*local\[2\].*gpus_per_task=0"):
        share({}, "local[2]", gpus_per_task=1)
    with pytest.raises(ConfigError, match="executors have 1 GPUs"):
        share(ONE_GPU, gpus_per_task=2)


def test_more_cores_than_an_executor_has_are_refused_before_a_stage_waits_for_ever() -> None:
    with pytest.raises(ConfigError, match=r"cpus_per_gpu_task=20, and executors have 14 cores"):
        share(ONE_GPU, cpus_per_gpu_task=20)


@pytest.mark.parametrize("wrong", ["1.5", "-0.5"])
def test_a_share_that_spark_cannot_give_is_a_config_error(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"extract\.gpus_per_task"):
        load_config(None, [f"extract.gpus_per_task={wrong}"])


def test_a_task_of_a_stage_without_gpus_works_on_the_cpu() -> None:
    assert device_of_task(0) == "cpu"


@pytest.mark.parametrize("resources", [{}, {"gpu": SimpleNamespace(addresses=[])}])
def test_a_task_that_was_to_hold_a_gpu_and_does_not_stops(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, Any]
) -> None:
    context = SimpleNamespace(get=lambda: SimpleNamespace(resources=lambda: resources))
    monkeypatch.setattr(gpus, "TaskContext", context)
    with pytest.raises(ConfigError, match="was to hold a GPU and got none"):
        device_of_task(1)


def test_a_local_session_has_no_gpus_to_give(spark: SparkSession) -> None:
    assert task_share(spark, ExtractSettings()) == TaskShare(1, 0.0)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    from PIL import Image

    folder = tmp_path_factory.mktemp("cluster")
    (folder / "lake").mkdir()
    for i, pixels in enumerate(sample_images()):
        Image.fromarray(pixels).save(folder / "lake" / f"{i}.png")
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, str(root / "tests" / "gpu_cluster.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def at_once(held: list[Seen]) -> int:
    """The most tasks that held one GPU of one executor at the same time."""
    most = 0
    for _, group in itertools.groupby(sorted(held, key=place), key=place):
        tasks = list(group)
        most = max(most, *(sum(t["begin"] <= one["begin"] < t["end"] for t in tasks) for one in tasks))
    return most


def place(held: Seen) -> tuple[str, str]:
    return held["executor"], held["device"]


@pytest.mark.slow
def test_two_tasks_never_hold_one_gpu_at_once(seen: Seen) -> None:
    held = seen["whole"]
    assert len(held) == 8
    assert {h["device"] for h in held} == {"cuda:0"}
    assert len({place(h) for h in held}) == 2  # both executors worked
    assert {h["cpus"] for h in held} == {2}
    assert at_once(held) == 1


@pytest.mark.slow
def test_tasks_that_take_turns_at_a_gpu_share_one_worker_and_so_one_model(seen: Seen) -> None:
    """Workers of the stage before, one for each core, are not among them."""
    workers = {(place(h), h["pid"]) for h in seen["whole"]}
    assert len(workers) == 2  # one in each executor


@pytest.mark.slow
def test_half_a_gpu_a_task_is_two_tasks_a_gpu(seen: Seen) -> None:
    held = seen["half"]
    assert len(held) == 8
    assert {h["cpus"] for h in held} == {1}
    assert at_once(held) == 2


@pytest.mark.slow
def test_extract_runs_in_tasks_that_hold_a_gpu(seen: Seen) -> None:
    done = seen["onnx"]
    assert (done["error"], done["n_rows"], done["embedded"]) == (None, 12, 12)
    assert json.loads(done["notes"])["model"].endswith("by onnx on the CPU, in tasks of 1 GPU and 2 cores")


@pytest.mark.slow
def test_a_gpu_without_cuda_stops_the_run_with_a_clear_error_and_no_row(seen: Seen) -> None:
    """`auto`, on executors that have GPUs: PyTorch on CUDA or nothing."""
    done = seen["no_cuda"]
    assert done["error"].startswith("TaskError: this task holds GPU 0, and PyTorch ")
    assert "sees 0 CUDA devices here" in done["message"]
    assert done["n_rows"] == 0


@pytest.mark.slow
def test_tasks_that_hold_a_gpu_say_once_that_faiss_has_none_and_search_on_the_cpu(seen: Seen) -> None:
    done = seen["faiss"]
    assert (done["error"], done["is_right"]) == (None, True)
    for step in ("index", "match"):
        why = json.loads(done["notes"][step])["faiss_unusable_on_gpu"]
        assert "here was built for CPUs" in why or "sees 0 GPUs here, and the task holds GPU 0" in why


@pytest.mark.slow
def test_a_step_stops_where_its_setting_says_so(seen: Seen) -> None:
    assert seen["faiss_stops"]["error"].startswith("ConfigError: match.faiss_without_gpu=stop: FAISS ")
    assert list(seen["faiss_stops"]["notes"]) == ["index"]
    assert seen["index_stops"]["error"].startswith("ConfigError: index.faiss_without_gpu=stop: FAISS ")
    assert seen["index_stops"]["notes"] == {}
