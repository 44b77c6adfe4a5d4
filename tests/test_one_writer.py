"""Two commands at once on the same tables, one of them perhaps killed: one works, or both in turn; nothing is mixed.

The real command in processes of its own, as two people, or a scheduler and a person, would start it. Whatever happens,
the next run gives the tables of an undisturbed one, and each command ends well or with one sentence.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import EVERYTHING, Command, none_left
from table_contents import contents, rows
from tiny_lake import build_tiny_lake

from dedup_spark.store import schema as definitions

pytestmark = pytest.mark.chaos

SETTINGS = ["extract.slice_images=6", "extract.task_images=3", "calibrate.n_images=4", "plan.sample_images=10"]
SEED = 20_261_127
N_DRAWS = int(os.environ.get("DEDUP_SPARK_DRAWS", "6"))
"""So many pairs of commands are drawn; 40 take an hour."""
REFUSED = "are being written by run"
NOT_YET = "there are no dedup-spark tables"
"""What a command that needs tables says where the other one has not made any yet."""

Start = Callable[..., Command]


def arguments(command: str, lake: Path, root: Path) -> list[str]:
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    more = ["--out", str(root.parent / "calibrated.toml")] if command == "calibrate" else []
    return [command, "--lake", str(lake), "--tables", str(root), *more, *settings]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_lake(tmp_path_factory.mktemp("one-writer") / "lake").folder


@pytest.fixture
def start(lake: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a command on tables; at the end of the test none of its processes is left."""
    started: list[Command] = []

    def one(command: str, root: Path) -> Command:
        log = tmp_path / f"log-{len(started)}"
        started.append(Command([sys.executable, "-m", "dedup_spark", *arguments(command, lake, root)], log))
        return started[-1]

    with none_left(started):
        yield one


@pytest.fixture(scope="module")
def undisturbed(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    command = Command([sys.executable, "-m", "dedup_spark", *arguments("run", lake, folder / "tables")], folder / "log")
    assert command.wait() == 0, command.output()
    return folder / "tables"


def sentences(command: Command) -> list[str]:
    """What a command said to a person at its end."""
    said = command.output().splitlines()
    return [line.removeprefix("dedup-spark: ") for line in said if line.startswith("dedup-spark: ")]


def require_good_end(command: Command) -> None:
    """0; or refused before anything was started; or killed by the test; or it lost its lease: each in one sentence."""
    code, said = command.wait(), sentences(command)
    assert "Traceback" not in command.output(), command.output()
    if code == 2:
        assert len(said) == 1, command.output()
        assert REFUSED in said[0] or NOT_YET in said[0]
    elif code == 1:
        assert len(said) == 2, command.output()
        assert "continue with: dedup-spark" in said[1]
    else:
        assert code in (0, -9), command.output()


def require_same(root: Path, undisturbed: Path) -> None:
    found, expected = contents(root), contents(undisturbed)
    for table in expected:
        assert found[table] == expected[table], table
    for table in definitions.ALL:
        if table not in (definitions.RUNS, definitions.QUALITY):
            listed = rows(root, table.name)
            assert len({tuple(row[k] for k in table.key) for row in listed}) == len(listed), f"{table.name}: rows twice"
    assert not (root / "_staging").exists()


def test_a_second_run_is_refused_in_one_sentence_and_the_first_is_not_disturbed(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "tables"
    first = start("run", root)
    first.wait_for(lambda folder: (folder / "_lease").is_dir(), root)
    second = start("run", root)
    assert second.wait() == 2
    [said] = sentences(second)
    assert REFUSED in said
    assert f"as process {first.process.pid}" in said
    assert first.wait() == 0, first.output()
    require_same(root, undisturbed)


def test_a_plan_beside_a_run_disturbs_nothing(start: Start, undisturbed: Path, tmp_path: Path) -> None:
    root = tmp_path / "tables"
    run = start("run", root)
    run.wait_for(lambda folder: next(folder.glob("features/_delta_log/*1.json"), None) is not None, root)
    plan = start("plan", root)
    assert plan.wait() == 0, plan.output()
    assert run.wait() == 0, run.output()
    require_same(root, undisturbed)


@pytest.mark.parametrize("draw", range(N_DRAWS))
def test_two_commands_at_once_leave_the_tables_of_an_undisturbed_run(
    draw: int, start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    chance = random.Random(SEED + draw)
    first, second = chance.choice(("run", "extract")), chance.choice(("run", "extract", "plan", "calibrate", "embed"))
    delay, victim = chance.choice((0.5, 3, 20)), chance.choice((None, 0, 1))
    root = tmp_path / "tables"
    if first == "extract":
        assert start("inventory", root).wait() == 0
    commands = [start(first, root)]
    commands[0].ends_within(delay)
    commands.append(start(second, root))
    if victim is not None and not commands[victim].ends_within(chance.uniform(2, 40)):
        commands[victim].kill(EVERYTHING)
    for command in commands:
        require_good_end(command)
    last = start("run", root)
    assert last.wait() == 0, f"{first}, {second}, {delay}, {victim}: {last.output()}"
    require_same(root, undisturbed)
