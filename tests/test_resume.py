"""kill -9 at the worst moments, then the same command: the tables of an undisturbed run, nothing twice.

The real command in processes of its own: the driver's Python, its JVM, the Python workers and their image decoders.
Every moment is seen from outside, in the files that the command writes.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import DECODER, DRIVER, EVERYTHING, JVM, WORKER, Command, Happened, none_left
from table_contents import contents, rows
from tiny_lake import TinyLake, build_tiny_lake

from dedup_spark.store import schema as definitions

pytestmark = pytest.mark.chaos

SETTINGS = ["extract.slice_images=15", "extract.task_images=5"]  # four slices of a few tasks each


def run_command(lake: Path, root: Path, log: Path) -> Command:
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    arguments = [sys.executable, "-m", "dedup_spark", "run", "--lake", str(lake), "--tables", str(root), *settings]
    return Command(arguments, log)


@pytest.fixture
def start(lake: TinyLake, tmp_path: Path) -> Iterator[Callable[[], Command]]:
    """Starts the same command again and again; at the end of the test none of its processes is left."""
    started: list[Command] = []

    def again() -> Command:
        started.append(run_command(lake.folder, tmp_path / "tables", tmp_path / f"log-{len(started)}"))
        return started[-1]

    with none_left(started):
        yield again


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> TinyLake:
    return build_tiny_lake(tmp_path_factory.mktemp("resume") / "lake")


@pytest.fixture(scope="module")
def undisturbed(lake: TinyLake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of one run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = run_command(lake.folder, folder / "tables", folder / "log")
    assert command.wait() == 0, command.output()
    command.wait_until_nothing_is_left()
    return folder / "tables"


# --- moments -------------------------------------------------------------------------------------------------


def table_made(table: str) -> Happened:
    return lambda root: (root / table / "_delta_log" / f"{0:020d}.json").exists()


def committed(table: str, version: int = 1) -> Happened:
    """Rows are in the table. The step that wrote them is not marked complete yet."""
    return lambda root: (root / table / "_delta_log" / f"{version:020d}.json").exists()


def staged(name: str) -> Happened:
    """Intermediate rows are being computed: their folder is there, their end mark is not."""
    return lambda root: next(root.glob(f"_staging/*/{name}"), None) is not None


def written(pattern: str) -> Happened:
    return lambda root: next(root.glob(pattern), None) is not None


MOMENTS: dict[str, tuple[Happened, ...]] = {
    "while tables are made": (table_made("features"),),
    "extract, one slice committed": (committed("features"),),
    "index, a shard written": (written("shard_files/**/*.faiss"),),
    "match, the join under way": (staged("found"),),
    "match, its pairs committed": (committed("pairs"),),
    "cluster, members under way": (staged("ranked"),),
    "every step, one after another": (
        committed("images"),
        committed("features", 2),
        staged("assigned"),
        staged("nearest"),
        staged("labels"),
        written("report/views.sql"),
    ),
}


def require_same_as_undisturbed(root: Path, undisturbed: Path) -> None:
    """Equal rows, none twice, one run id from the first start to the completion, nothing left behind."""
    found, expected = contents(root), contents(undisturbed)
    for table in expected:
        assert found[table] == expected[table], table
    for table in definitions.ALL:
        if table is not definitions.RUNS:
            listed = rows(root, table.name)
            assert len({tuple(row[k] for k in table.key) for row in listed}) == len(listed), f"{table.name}: rows twice"
            assert len(listed) == len(rows(undisturbed, table.name)), table.name
    log = rows(root, "runs")
    assert len({row["run_id"] for row in log}) == 1
    completed = [row["step"] for row in log if row["status"] == "complete"]
    assert set(completed) == {row["step"] for row in rows(undisturbed, "runs")}
    assert completed.count("run") == 1
    assert not (root / "_staging").exists()
    kept = {str(path.relative_to(root)) for path in root.glob("shard_files/**/*") if path.is_file()}
    assert kept == files_listed(rows(root, "shards"))


def files_listed(shards: list[dict[str, Any]]) -> set[str]:
    beside = {f"{row['path'].removesuffix('.faiss')}.{what}.npy" for row in shards for what in ("rows", "vectors")}
    return beside | {row[name] for row in shards for name in ("path", "centroids_path")}


# --- tests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_same_command_continues_after_kill_9(
    moment: str, start: Callable[[], Command], undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "tables"
    for happened in MOMENTS[moment]:
        command = start()
        command.wait_for(happened, root)
        command.kill(EVERYTHING)
        assert command.wait() == -signal.SIGKILL
    command = start()
    assert command.wait() == 0, command.output()
    command.wait_until_nothing_is_left()
    require_same_as_undisturbed(root, undisturbed)


@pytest.mark.parametrize("victim", [JVM, DRIVER])
def test_what_a_lost_driver_or_jvm_leaves_behind_ends_by_itself(
    victim: str, start: Callable[[], Command], undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "tables"
    command = start()
    command.wait_for(committed("features"), root)
    command.kill(victim)
    if victim == JVM:
        assert command.wait() == 1
        assert "continue with: dedup-spark run --lake" in command.output()
    command.wait_until_nothing_is_left()
    command = start()
    assert command.wait() == 0, command.output()
    command.wait_until_nothing_is_left()
    require_same_as_undisturbed(root, undisturbed)


@pytest.mark.parametrize("victim", [WORKER, DECODER])
def test_a_lost_worker_or_decoder_does_not_stop_the_run(
    victim: str, start: Callable[[], Command], undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "tables"
    command = start()
    command.wait_for(committed("features"), root)
    command.kill(victim)
    assert command.wait() == 0, command.output()
    command.wait_until_nothing_is_left()
    require_same_as_undisturbed(root, undisturbed)
