"""kill -9 of the driver or of an executor at random moments of extract, ten times, on a small real cluster."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import photo_bytes, scaled
from processes import EVERYTHING, EXECUTOR, JVM, ROOT, Command, none_left, shell_environment
from table_contents import TIMELESS, rows

pytestmark = pytest.mark.chaos

N_KILLS, SEED = 10, int(os.environ.get("DEDUP_SPARK_SEED", "7"))
N_IMAGES, N_BROKEN = 2000, 40
MASTER = "local-cluster[2,1,1024]"
SETTINGS = ["extract.embedding=off", "extract.slice_images=100", "extract.task_images=20"]
MOST_SECONDS_BETWEEN_KILLS = 30  # the queries before the first slice take some 10, a slice some 3

Rows = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small photos, no two with the same bytes, and broken ones between them."""
    folder = tmp_path_factory.mktemp("kills") / "lake"
    folder.mkdir()
    photos = [scaled(photo, 200) for photo in photo_bytes(None)]
    for i in range(N_IMAGES):
        data = photos[i % len(photos)]
        is_broken = i % (N_IMAGES // N_BROKEN) == 0
        (folder / f"{i:05d}.jpg").write_bytes((data[: len(data) // 2] if is_broken else data) + i.to_bytes(4, "big"))
    return folder


@pytest.fixture(scope="module")
def listed(lake: Path) -> Path:
    """Tables after the inventory."""
    return finished("inventory", lake, lake.parent / "listed")


@pytest.fixture(scope="module")
def undisturbed(lake: Path, listed: Path) -> Path:
    return finished("extract", lake, Path(shutil.copytree(listed, lake.parent / "undisturbed")))


@pytest.fixture
def start(lake: Path, tmp_path: Path) -> Iterator[Callable[[Path], Command]]:
    """Starts the same command on the tables given; at the end of the test none of its processes is left."""
    script = [str(ROOT / "spark-submit.sh"), "--platform", "local", "--master", MASTER]
    started: list[Command] = []

    def again(root: Path) -> Command:
        arguments = [*script, "extract", "--", *options(lake, root)]
        started.append(Command(arguments, tmp_path / f"log-{len(started)}", shell_environment()))
        return started[-1]

    with none_left(started):
        yield again


def test_ten_random_kills_of_driver_and_executors_lose_no_row_and_make_none_twice(
    start: Callable[[Path], Command], listed: Path, undisturbed: Path, tmp_path: Path
) -> None:
    expected = contents(undisturbed)
    assert len(expected["features"]) == N_IMAGES
    chance, n_kills = random.Random(SEED), {JVM: 0, EXECUTOR: 0}
    while sum(n_kills.values()) < N_KILLS:
        root = Path(shutil.copytree(listed, tmp_path / f"tables-{sum(n_kills.values())}"))
        while not reached_its_end(start(root), n_kills, chance):
            continue
        assert contents(root) == expected
        assert not (root / "_staging").exists()
    assert min(n_kills.values()) >= N_KILLS // 4, f"the seed {SEED} spares one kind of process: {n_kills}"


def reached_its_end(command: Command, n_kills: dict[str, int], chance: random.Random) -> bool:
    """Lets it work for a random time and kills one of its processes, again and again; False when that ended it."""
    command.wait_for(lambda _: "extract: started" in command.log.read_text(), command.log)
    while sum(n_kills.values()) < N_KILLS:
        victim = chance.choice((JVM, EXECUTOR))
        if command.ends_within(chance.uniform(0, MOST_SECONDS_BETWEEN_KILLS)):
            break
        if victim == JVM:  # all that the driver's machine held goes with it
            command.kill(EVERYTHING)
            assert command.wait() == -signal.SIGKILL
            n_kills[victim] += 1
            return False
        if command.has(victim):  # the one lost before may not have been replaced yet
            command.kill(victim)
            n_kills[victim] += 1
    assert command.wait() == 0, command.output()
    return True


def finished(step: str, lake: Path, root: Path) -> Path:
    log = lake.parent / f"log-{step}"
    command = Command([sys.executable, "-m", "dedup_spark", step, *options(lake, root)], log)
    assert command.wait() == 0, command.output()
    return root


def options(lake: Path, root: Path) -> list[str]:
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    return ["--lake", str(lake), "--tables", str(root), *settings]


def contents(root: Path) -> Rows:
    """Rows of images and features with their columns that do not depend on the run, sorted; a row twice is twice."""
    return {
        table: sorted((tuple(row[c] for c in TIMELESS[table]) for row in rows(root, table)), key=repr)
        for table in ("images", "features")
    }
