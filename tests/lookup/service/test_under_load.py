"""Fifty clients for two minutes, two runs that finish meanwhile, and one client that sends what it should not."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lookups
import pytest

from lookup.conftest import CAT, COFFEE, ROCKET, images_of_lake
from lookup.service.test_service import Service, started

SECONDS, N_CLIENTS, N_SAMPLES = 120.0, 50, 12
FLAT_BYTES = 100 << 20
"""What memory may rise by between the second third of the time and the last: two runs are opened within."""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lookups.finish_run(tmp_path / "tables", images_of_lake())
    return tmp_path


@pytest.fixture
def service(lake: Path) -> Iterator[Service]:
    yield from started(lake / "tables", lake, "--max-upload-mib", "2", "--reload-seconds", "0.5")


@dataclass
class Clients:
    """What the clients saw. A request that is told to come again (503) comes again, and is lost where it gets nothing
    else until the end."""

    service: Service
    done: threading.Event = field(default_factory=threading.Event)
    wrong: list[object] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)

    def ask_again_and_again(self, data: bytes, expected: set[str], runs: set[str]) -> None:
        while not self.done.is_set():
            try:
                self._ask(data, expected, runs)
            except Exception as e:  # whatever it is, the request was lost
                self.wrong.append(e)

    def _ask(self, data: bytes, expected: set[str], runs: set[str]) -> None:
        for _ in range(60):
            status, body, headers = self.service.ask("POST", "/v1/lookup", data)
            if status != 503:
                break
            self.answered["told to come again"] += 1
            time.sleep(float(headers["retry-after"]))
        if status != 200:
            self.wrong.append((status, body))
            return
        [answer] = body["answers"]
        found = {one["uri"] for one in answer["copies"]}
        if found != expected or answer["index"]["run_id"] not in runs:
            self.wrong.append((expected, found, answer["index"]["run_id"]))
        self.answered[answer["index"]["run_id"]] += 1

    def harm(self) -> None:
        for do in itertools.cycle((self._truncated, self._huge, self._slow, self._hostile)):
            if self.done.is_set():
                return
            with contextlib.suppress(OSError):  # it is cut off, as it should be
                do()
            self.answered["hostile"] += 1

    def _connected(self, head: str, body: bytes = b"") -> socket.socket:
        s = socket.create_connection(("127.0.0.1", self.service.port), timeout=20)
        s.sendall(f"POST /v1/lookup HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n\r\n".encode() + body)
        return s

    def _truncated(self) -> None:
        self._connected("Content-Length: 100000", images_of_lake()[CAT][:5000]).close()
        self.service.ask("POST", "/v1/lookup", images_of_lake()[CAT][:300])

    def _huge(self) -> None:
        self._connected(f"Content-Length: {1 << 40}").close()
        with self._connected("Transfer-Encoding: chunked") as s:
            for _ in range(64):
                s.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    def _slow(self) -> None:
        with self._connected("Content-Length: 1000000") as s:
            for _ in range(10):
                s.sendall(b"x")
                time.sleep(0.2)

    def _hostile(self) -> None:
        self.service.ask("POST", "/v1/lookup", os.urandom(50_000))
        self.service.ask("POST", "/v1/lookup", _a_bomb())
        with self._connected(
            "Content-Length: -1\r\nContent-Length: 7\r\nTransfer-Encoding: chunked, gzip", b"\0" * 999
        ) as s:
            s.recv(1000)


def _a_bomb() -> bytes:
    """The head of a PNG that claims 60,000 by 60,000 pixels."""
    png = bytearray(lookups.png(lookups.photo("rocket.jpg")))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(png)


def _asked() -> list[tuple[bytes, set[str]]]:
    """Images with all addresses of which they are copies: by bytes, by pixels, by likeness, and of none."""
    lake = images_of_lake()
    return [
        (lake[COFFEE], {COFFEE, "file:///lake/coffee again.jpg"}),
        (lake[CAT], {CAT}),
        (lookups.png(lookups.opened(lake[ROCKET])), {ROCKET}),
        (lookups.edited(lookups.photo("rocket.jpg")), {ROCKET}),
        (lookups.jpeg(lookups.photo("chelsea.png"), 60), {CAT}),  # which stands for cat.png, too
        (lookups.jpeg(lookups.photo("moon.png")), set()),
    ]


@pytest.mark.slow
def test_nothing_is_lost_or_wrong_and_memory_stays(
    service: Service, lake: Path, record_property: Callable[[str, object], None]
) -> None:
    clients, runs = Clients(service), {"r1", "r2", "r3"}
    asked = itertools.islice(itertools.cycle(_asked()), N_CLIENTS)
    threads = [threading.Thread(target=clients.ask_again_and_again, args=(*one, runs)) for one in asked]
    threads.append(threading.Thread(target=clients.harm))
    for thread in threads:
        thread.start()
    try:
        memory = _while_runs_finish(service, lake)
    finally:
        clients.done.set()
        for thread in threads:
            thread.join()
    record_property("answered", dict(clients.answered))
    record_property("memory_mib", [n >> 20 for n in memory])
    assert not clients.wrong, clients.wrong[:5]
    assert service.ask("GET", "/v1/index")[1]["run_id"] == "r3"
    assert min(clients.answered[run] for run in runs) > 0
    assert clients.answered["hostile"] >= 8
    third = len(memory) // 3
    assert max(memory[2 * third :]) < max(memory[third : 2 * third]) + FLAT_BYTES


def _while_runs_finish(service: Service, lake: Path) -> list[int]:
    """Memory of the service at N_SAMPLES times, in bytes; a run finishes at a quarter of the time and at a half."""
    memory, events = [], {N_SAMPLES // 4: "r2", N_SAMPLES // 2: "r3"}
    for number in range(N_SAMPLES):
        if number in events:
            lookups.finish_run(lake / "tables", images_of_lake(), events[number])
        time.sleep(SECONDS / N_SAMPLES)
        memory.append(service.memory_bytes)
    return memory
