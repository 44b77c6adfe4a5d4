"""Ctrl-C and SIGTERM: one sentence, the children ended, the lease given back, the exit code of the signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dedup_spark.cli.interrupts import ending_at_once
from dedup_spark.store import lease

WAITING = """
    import os, subprocess, sys, threading, time
    from dedup_spark.cli.interrupts import ending_at_once
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()  # it is ready
    first_to_end = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.PIPE)
    def noise():
        os.waitid(os.P_PID, first_to_end.pid, os.WEXITED | os.WNOWAIT)
        print("what a thread says when its JVM is gone", file=sys.stderr, flush=True)
    threading.Thread(target=noise, daemon=True).start()
    with ending_at_once("The same command continues: dedup-spark run"):
        print(child.pid, flush=True)
        try:
            time.sleep(600)
        except BaseException as e:
            print("climbed up", type(e), flush=True)
        finally:
            print("put in order", flush=True)
"""
OBEYS = "import time; print(flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    ("number", "code", "name", "child"),
    [
        (signal.SIGINT, 130, "Ctrl-C", OBEYS),
        (signal.SIGTERM, 143, "SIGTERM", OBEYS),
        (signal.SIGINT, 130, "Ctrl-C", STUBBORN),
    ],
    ids=["Ctrl-C", "SIGTERM", "a child that does not end by itself"],
)
def test_a_signal_ends_the_command_and_its_children_with_one_sentence(
    number: signal.Signals, code: int, name: str, child: str
) -> None:
    process = started(WAITING, child)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert out == "", "nothing climbs up through what was under way"
    assert err == f"dedup-spark: stopped by {name}. The same command continues: dedup-spark run\n"
    deadline = time.monotonic() + 60
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(pid)


HOLDING = """
    import sys, time
    from dedup_spark.cli.interrupts import ending_at_once
    from dedup_spark.store import lease
    held = lease.take(sys.argv[1], "r1", "dedup-spark run")
    with ending_at_once("Finished work is kept"):
        print("held", flush=True)
        time.sleep(600)
"""


def test_the_tables_are_free_at_once_for_others(tmp_path: Path) -> None:
    root = str(tmp_path / "tables")
    process = started(HOLDING, root)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    newest = max(lease._numbers(root))
    holder = lease._read(root, newest)
    assert holder is not None
    assert holder.released


def test_handlers_of_the_program_are_back_after_the_command() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with ending_at_once("x"):
        assert signal.getsignal(signal.SIGINT) not in before
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
