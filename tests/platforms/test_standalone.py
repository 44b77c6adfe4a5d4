"""`spark-submit.sh --platform standalone` on a real Master and two Workers, one of whose executors is killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import ROOT, Command, none_left, send_kill, shell_environment
from table_contents import rows

from platforms import standalone
from platforms.jars import SPARK_HOME
from platforms.runs import FinishedFolder, keepers

pytestmark = pytest.mark.platforms

PRETENDED = ("--set", "extract.gpus_per_task=1", "--set", "extract.runtime=onnx", "--set", "match.gpus_per_task=0")
"""A task of extract holds its GPU, which computes nothing."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[standalone.Standalone]:
    with standalone.started(tmp_path_factory.mktemp("standalone")) as running:
        yield running


@pytest.fixture
def submit(cluster: standalone.Standalone, packed: Path, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Submits with all settings of conf/standalone-gpu but the sizes; at the end no process of it is left."""
    sizes = {
        "spark.executor.cores": "2",
        "spark.executor.memory": "1g",
        "spark.executor.memoryOverhead": "1g",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    confs = [word for key, value in sizes.items() for word in ("--conf", f"{key}={value}")]
    script = [str(ROOT / "spark-submit.sh"), "--platform", "standalone", "--master", cluster.master]
    started: list[Command] = []

    def start(*job: str) -> Command:
        environment = shell_environment() | {"SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1"}
        command = [*script, "--archive", str(packed), *confs, *job]
        started.append(Command(command, tmp_path / f"log-{len(started)}", environment))
        return started[-1]

    with none_left(started):
        yield start


def test_a_run_whose_executor_is_killed_in_match_gives_the_groups_and_keepers_of_a_local_run(
    cluster: standalone.Standalone, submit: Callable[..., Command], finished_folder: FinishedFolder, tmp_path: Path
) -> None:
    """Each stage that asks for a GPU has a profile of its own; both pretended GPUs belong to executors."""
    tables = tmp_path / "my tables"
    place = ("--lake", str(finished_folder.lake), "--tables", str(tables))
    command = submit("run_pipeline", "--", *place, *PRETENDED)
    command.wait_for(lambda _: "match: started" in command.log.read_text(errors="replace"), tables)
    assert all(held_gpus(worker) == 1 for worker in cluster.state()["workers"])
    before = {executor.pid for executor in cluster.executors()}
    assert len(before) == standalone.N_WORKERS
    send_kill(min(before))
    assert command.wait() == 0, command.output()
    assert "Lost executor" in command.log.read_text(errors="replace")
    assert keepers(tables) == keepers(finished_folder.tables)
    marks = {row["step"]: row for row in rows(tables, "runs") if row["status"] == "complete"}
    assert {"extract", "match", "cluster", "report"} <= set(marks)
    assert not (tables / "_staging").exists()
    assert wait_until_free(cluster)


def held_gpus(worker: dict[str, object]) -> int:
    """Of the resources of a Worker those that executors hold."""
    used = worker["resourcesused"]
    assert isinstance(used, dict)
    return len(used["gpu"]["addresses"])


def wait_until_free(cluster: standalone.Standalone, seconds: int = 60) -> bool:
    """Whether no executor is left, soon."""
    deadline = time.monotonic() + seconds
    while cluster.executors() and time.monotonic() < deadline:
        time.sleep(0.2)
    return not cluster.executors()
