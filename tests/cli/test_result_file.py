"""The file of `--result`: where it is written, where it must not be, and that it needs no Spark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from known_tables import known_rows
from made_tables import write_tables

from dedup_spark.cli import main

ENDLESS = "SELECT count(*) FROM range(1000000) a, range(10000000) b WHERE (a.range * 7 + b.range) % 1000003 = 5"
"""10^13 rows, and nothing that asks Python meanwhile."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tables(tmp_path_factory.mktemp("results") / "tables", known_rows())


def result(root: str | Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(root, "results", f"{name}.json").read_text())
    return {key: found[key] for key in ("command", "exit_code", "status")}


def test_it_says_how_the_command_ended(root: str) -> None:
    assert main(["sql", "SELECT 1", "--tables", root, "--result", "good"]) == 0
    assert result(root, "good") == {"command": "sql", "exit_code": 0, "status": "complete"}
    assert main(["sql", "SELEC 1", "--tables", root, "--result", "bad"]) == 2
    assert result(root, "bad") == {"command": "sql", "exit_code": 2, "status": "failed"}


def test_a_question_leaves_it_without_spark(root: str) -> None:
    code = (
        "import sys; sys.modules['pyspark'] = None; from dedup_spark.cli import main;"
        f"sys.exit(main(['sql', 'SELECT 1', '--tables', {root!r}, '--result', 'bare']))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert result(root, "bare")["exit_code"] == 0


@pytest.mark.parametrize(
    ("lake", "tables"),
    [
        ("lake", "lake/tables"), ("lake", "lake"), ("lake/", "./lake/../lake/t"), ("absent", "absent/t"),
        ("tables/results", "tables"), ("lake", "link/t"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "demo", "match"])
def test_nothing_is_written_into_a_lake(
    lake: str, tables: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/a.jpg").write_bytes(b"not looked at")
    (tmp_path / "link").symlink_to("lake")
    before = sorted(tmp_path.rglob("*"))
    assert main([command, "--lake", lake, "--tables", tables, "--result", "x"]) == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("options", [[], ["--csv"]])
def test_ctrl_c_ends_a_long_query_at_once_and_leaves_that_it_was_interrupted(options: list[str], root: str) -> None:
    name = "stopped" + "".join(options)
    command = [sys.executable, "-m", "dedup_spark", "sql", ENDLESS, "--tables", root, "--result", name, *options]
    ended = interrupted(command)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "dedup-spark: stopped by Ctrl-C. Nothing was changed\n"
    assert result(root, name) == {"command": "sql", "exit_code": 130, "status": "interrupted"}


def interrupted(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A command that gets a Ctrl-C in the middle of its work."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_busy(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _wait_until_busy(pid: int) -> None:
    """Until the process has worked for three seconds: what it imports takes less than one."""
    ticks, deadline = os.sysconf("SC_CLK_TCK"), time.monotonic() + 120
    used = 0.0
    while used < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / ticks


SHELL = """
import sys
from dedup_spark.commands.sql_shell import Shell, _stopping_queries
from dedup_spark.store.duck import DuckTables
shell = Shell(DuckTables(sys.argv[1]), 50, lambda text: print(text, flush=True), lambda: None)
with _stopping_queries():
    shell.take(sys.argv[2] + ";")
    shell.take("SELECT 41 + 1 AS x;")
"""


def test_ctrl_c_in_the_shell_stops_the_query_and_the_shell_goes_on(root: str) -> None:
    ended = interrupted([sys.executable, "-c", SHELL, root, ENDLESS])
    assert ended.stdout.split() == ["the", "query", "was", "stopped", "x", "--", "42"]


def test_a_reader_that_has_enough_is_no_error(root: str) -> None:
    command = [sys.executable, "-m", "dedup_spark", "sql", "SELECT * FROM range(3000000)", "--csv", "--tables", root]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "range\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141


def test_closed_outputs_are_outputs_that_nobody_wants_to_see(root: str) -> None:
    for closed, query, code in ((">&-", "SELECT 1", 0), ("2>&-", "SELEC 1", 2)):
        command = f'"{sys.executable}" -m dedup_spark sql "{query}" --tables "$1" {closed}'
        done = subprocess.run(["sh", "-c", command, "sh", root], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
