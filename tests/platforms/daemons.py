"""Starts Java programs that stay, on ports of their own, and ends them by their ids."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

SECONDS_TO_START = 180


def free_ports(n: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Daemons:
    """Programs that run until the end of the `with` block; their output is in `<folder>/<name>.log`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Start one more; returns its process id."""
        with (self.folder / f"{name}.log").open("wb") as log:
            started = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
            )
        self._started.append(started)
        return started.pid

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait; the test fails if a program ends before that."""
        deadline = time.monotonic() + SECONDS_TO_START
        while not is_so():
            assert all(one.poll() is None for one in self._started), self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.2)

    def logs(self) -> str:
        """The end of what each of them wrote."""
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*.log"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in reversed(self._started):
            one.terminate()
        for one in self._started:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
