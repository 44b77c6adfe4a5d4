"""kill -9 of the driver or of an executor at random moments, ten times, on a small real cluster of processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import EVERYTHING, EXECUTOR, JVM, ROOT, SECONDS_TO_FINISH, Command
from table_contents import contents, rows
from tiny_lake import build_tiny_lake

pytestmark = pytest.mark.chaos

N_KILLS, SEED = 10, int(os.environ.get("DEDUP_SPARK_SEED", "7"))
SETTINGS = ["extract.slice_images=15", "extract.task_images=5"]
START_SHARE = 0.3  # of an undisturbed run: before that no table is there


def submitted(lake: Path, root: Path, log: Path) -> Command:
    script = [str(ROOT / "spark-submit.sh"), "--platform", "local", "--master", "local-cluster[2,1,1024]"]
    arguments = ["run_pipeline", "--", "--lake", str(lake), "--tables", str(root)]
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_", "PYTHONPATH"))}
    return Command([*script, *arguments, *settings], log, clean)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], Command]]:
    """Starts the same command on the tables given; at the end of the test none of its processes is left."""
    lake = build_tiny_lake(tmp_path / "lake")
    started: list[Command] = []

    def again(root: Path) -> Command:
        started.append(submitted(lake.folder, root, tmp_path / f"log-{len(started)}"))
        return started[-1]

    yield again
    for command in started:
        command.kill(EVERYTHING)
        command.process.wait()


def test_ten_random_kills_of_driver_and_executors_change_no_row(
    start: Callable[[Path], Command], tmp_path: Path
) -> None:
    begin = time.monotonic()
    command = start(tmp_path / "undisturbed")
    assert command.wait() == 0, command.said()
    seconds = time.monotonic() - begin
    expected = contents(tmp_path / "undisturbed")

    chance, root, n_killed = random.Random(SEED), tmp_path / "tables", 0
    command = start(root)
    while True:
        if n_killed < N_KILLS:
            victim = chance.choice((JVM, EXECUTOR))
            least = 0.0 if victim == EXECUTOR and n_killed else START_SHARE
            n_killed += killed(command, victim, seconds * chance.uniform(least, 1))
        if n_killed < N_KILLS and command.process.poll() is None:
            continue
        if command.wait() == 0:  # it may have ended before its turn, or have lost executors only
            require_equal(root, expected)
            if n_killed == N_KILLS:
                return
            shutil.rmtree(root)
        command.kill(EVERYTHING)
        command = start(root)


def killed(command: Command, victim: str, after_seconds: float) -> bool:
    """Whether the command still ran then, and lost that process. A lost driver takes everything with it."""
    deadline = time.monotonic() + after_seconds
    while time.monotonic() < deadline and command.process.poll() is None:
        time.sleep(0.05)
    if command.process.poll() is not None:
        return False
    if victim == JVM:
        command.kill(EVERYTHING)
        assert command.wait() == -signal.SIGKILL
        return True
    deadline = time.monotonic() + SECONDS_TO_FINISH
    while command.process.poll() is None and time.monotonic() < deadline:
        if any("CoarseGrainedExecutorBackend" in process.command for process in command.processes()):
            command.kill(victim)
            return True
        time.sleep(0.05)  # one that was lost a moment ago is being replaced
    return False


def require_equal(root: Path, expected: dict[str, set[tuple[object, ...]]]) -> None:
    found = contents(root)
    for table in expected:
        assert found[table] == expected[table], table
        assert len(rows(root, table)) == len(found[table]), f"{table}: rows twice"
    completed = [row["step"] for row in rows(root, "runs") if row["status"] == "complete"]
    assert completed.count("run") == 1
    assert not (root / "_staging").exists()
