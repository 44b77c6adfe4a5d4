"""Ten kill -9 at random moments of extract, of executors and of the driver, on a small real cluster."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import DRIVER, EVERYTHING, EXECUTOR, JVM, ROOT, Command
from table_contents import require_same_as_undisturbed, rows
from tiny_lake import TinyLake, build_tiny_lake

pytestmark = pytest.mark.chaos

N_KILLS = 10
SHARE_OF_EXTRACT = 0.1
"""Longest pause before a kill, as a share of what extract takes undisturbed: ten kills come before its end."""
SETTINGS = ("extract.slice_images=4", "extract.task_images=1")  # some 15 slices


def submit(lake: Path, root: Path, log: Path, *settings: str) -> Command:
    """One start of the whole job on two executors in processes of their own."""
    script = [str(ROOT / "spark-submit.sh"), "--platform", "local", "--master", "local-cluster[2,1,1024]"]
    chosen = [argument for setting in settings for argument in ("--set", setting)]
    return Command([*script, "run_pipeline", "--", "--lake", str(lake), "--tables", str(root), *chosen], log)


@pytest.fixture
def start(lake: TinyLake, tmp_path: Path) -> Iterator[Callable[[], Command]]:
    """Starts the same command again and again; at the end of the test none of its processes is left."""
    started: list[Command] = []

    def again() -> Command:
        started.append(submit(lake.folder, tmp_path / "tables", tmp_path / f"log-{len(started)}", *SETTINGS))
        return started[-1]

    yield again
    for command in started:
        command.kill(EVERYTHING)
        command.process.wait()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> TinyLake:
    return build_tiny_lake(tmp_path_factory.mktemp("kills") / "lake")


@pytest.fixture(scope="module")
def undisturbed(lake: TinyLake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of one run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = submit(lake.folder, folder / "tables", folder / "log", *SETTINGS)
    assert command.wait() == 0, command.said()
    command.wait_until_nothing_is_left()
    return folder / "tables"


@pytest.mark.parametrize("seed", [20_241])
def test_ten_kills_at_random_moments_of_extract_lose_and_double_nothing(
    seed: int, start: Callable[[], Command], undisturbed: Path, tmp_path: Path
) -> None:
    """By turns an executor, which the run must survive, and the driver, its JVM or all, which the next start must."""
    rng = random.Random(seed)
    extract_seconds = max(row["elapsed_seconds"] or 0 for row in rows(undisturbed, "runs") if row["step"] == "extract")
    moments: list[str] = []
    while len(moments) < N_KILLS:
        command = start()
        command.wait_for(lambda root, log=command.log: "extract: started" in log.read_text(), tmp_path)
        for victim in (EXECUTOR, rng.choice((DRIVER, JVM, EVERYTHING))):
            pause = rng.uniform(0, SHARE_OF_EXTRACT * extract_seconds)
            time.sleep(pause)
            assert command.process.poll() is None, f"ended after {moments}:\n{command.said()}"
            command.kill(victim)
            moments.append(f"{victim} after {pause:.2f} s")
            sys.stdout.write(f"seed {seed}, kill {len(moments)}: {moments[-1]}\n")
        assert command.wait() != 0
        command.wait_until_nothing_is_left()
    command = start()
    assert command.wait() == 0, command.said()
    command.wait_until_nothing_is_left()
    require_same_as_undisturbed(tmp_path / "tables", undisturbed)
