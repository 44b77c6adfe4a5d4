"""Runs commands as processes, as from a shell; finds and kills their parts (driver, JVM, workers, decoders)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS_TO_FINISH, SECONDS_TO_VANISH = 600, 60

DRIVER, JVM, EXECUTOR, WORKER, DECODER = "driver", "JVM", "executor", "Python worker", "decoder"
EVERYTHING = "everything"
Happened = Callable[[Path], bool]


Done = subprocess.CompletedProcess[str]

_OURS = ("PYSPARK_", "SPARK_", "PYTHONPATH")
"""Variables that this test process may have for its own session, and that a person's shell does not have."""


def shell_environment() -> dict[str, str]:
    """The environment that a command gets from a person's shell."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}


def in_a_shell(command: list[str], **environment: str) -> Done:
    """Runs a command from the project's folder, with a shell's environment, to its end."""
    variables = shell_environment() | environment
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=900, check=False)


@dataclass(frozen=True)
class Process:
    """A live process, as the kernel describes it in /proc."""

    pid: int
    parent: int
    session: int
    command: str


class Command:
    """One start of a command, in a session of its own, by which all its processes can be found and ended."""

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                arguments, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True
            )

    def processes(self) -> list[Process]:
        """All that it started and that still runs."""
        return [process for process in live_processes() if process.session == self.process.pid]

    def wait_for(self, happened: Happened, root: Path) -> None:
        """Wait until `happened` is true of the tables; the test fails if the command ends before that."""
        deadline = time.monotonic() + SECONDS_TO_FINISH
        while not happened(root):
            assert self.process.poll() is None, f"ended before the moment to kill it:\n{self.output()}"
            assert time.monotonic() < deadline, f"the moment never came:\n{self.output()}"
            time.sleep(0.005)

    def wait(self) -> int:
        """The exit code."""
        try:
            return self.process.wait(SECONDS_TO_FINISH)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still runs:\n{self.output()}")

    def ends_within(self, seconds: float) -> bool:
        """Wait so long, or until it has ended; whether it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is not None

    def kill(self, victim: str) -> None:
        """SIGKILL: all of its processes, or one of them, as the kernel short of memory would."""
        if victim == EVERYTHING:
            while found := self.processes():
                for process in found:
                    send_kill(process.pid)
        else:
            send_kill(self.find(victim).pid)

    def find(self, victim: str) -> Process:
        """One process of that kind; of the workers the one that decodes, as others may be idle."""
        found = self._all_of(victim)
        assert found, f"there is no {victim} among {self.processes()}"
        return found[0]

    def has(self, victim: str) -> bool:
        """Whether a process of that kind is there now."""
        return bool(self._all_of(victim))

    def _all_of(self, victim: str) -> list[Process]:
        found = self.processes()
        decoders = [p for p in found if "dedup_spark.stages.reading.decoder_child" in p.command]
        return {
            DRIVER: [p for p in found if p.pid == self.process.pid],
            JVM: [p for p in found if "org.apache.spark.deploy.SparkSubmit" in p.command],
            EXECUTOR: [p for p in found if "CoarseGrainedExecutorBackend" in p.command],
            WORKER: [p for p in found if p.pid in {decoder.parent for decoder in decoders}],
            DECODER: decoders,
        }[victim]

    def wait_until_nothing_is_left(self) -> None:
        """Wait until all its processes have ended; orphans must end by themselves, and soon."""
        deadline = time.monotonic() + SECONDS_TO_VANISH
        while left := self.processes():
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.1)

    def output(self) -> str:
        """The end of its output, without the lines of Ivy."""
        lines = [line for line in self.log.read_text().splitlines() if not line.startswith(("\t", ":", " ", "found"))]
        return "\n".join(lines[-40:])


@contextlib.contextmanager
def none_left(started: Iterable[Command]) -> Iterator[None]:
    """Check at the end of the block that no process of these commands is left, nor of those that were added."""
    try:
        yield
    finally:
        for command in started:
            command.kill(EVERYTHING)
            command.process.wait()


def live_processes() -> Iterator[Process]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # state, parent, group, session, ...
            command = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended meanwhile
            continue
        if fields[0] not in "ZX":
            yield Process(int(stat.parent.name), int(fields[1]), int(fields[3]), command)


def send_kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
