"""Ctrl-C and SIGTERM end a command at once, in a sentence: its JVM, its lease, and this process.

An exception would climb through calls to a JVM that is being cancelled, and through all that wants to be put in order
by further calls to it. Every step survives a kill at any moment, so this is one; `runs` has no end mark of the step.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from dedup_spark import console

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS_FOR_CHILDREN, _SECONDS_FOR_LEASE, _SECONDS_FOR_LAST = 5.0, 3.0, 3.0
_LEASE = "dedup_spark.store.lease"


@contextmanager
def ending_at_once(sentence: str, last: Callable[[int], None] | None = None) -> Iterator[None]:
    """In this block the first of these signals writes "stopped by ..." with `sentence` and ends the process.

    The exit code is 128 and the number of the signal: 130 for Ctrl-C, 143 for SIGTERM. `last` is told it before the
    end, and has some seconds. Only the main thread of a
    process can be told of signals; on others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # a second Ctrl-C changes nothing
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        console.last_words(f"stopped by {name}. {sentence}")
        end_children()
        _release_leases()
        if last is not None:
            _within(_SECONDS_FOR_LAST, lambda: last(128 + number))
        os._exit(128 + number)

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def end_children(seconds: float = _SECONDS_FOR_CHILDREN) -> None:
    """End the processes that this one started, the JVM first of all: by SIGTERM, which lets it clear its temporary
    folders, and after `seconds` by SIGKILL. Where no list of them is (/proc), a JVM ends when it loses its driver."""
    left = set(_children())
    _send(left, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left -= {child for child in left if _has_ended(child)}
    _send(left, signal.SIGKILL)


def _children() -> list[int]:
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for names in lists for pid in _text(names).split()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # of a thread that has ended meanwhile
        return ""


def _send(children: set[int], number: signal.Signals) -> None:
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, number)


def _has_ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:  # somebody else waited for it
        return True


def _release_leases() -> None:
    """Let others write at once. Only where nothing of ours can write any more: a JVM that started this process, as
    spark-submit does, outlives it, and then the lease ends as that of a killed run."""
    if _LEASE not in sys.modules or "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    _within(_SECONDS_FOR_LEASE, importlib.import_module(_LEASE).release_all)


def _within(seconds: float, do: Callable[[], None]) -> None:
    """In a thread, as the main thread may have stopped in the middle of a write to the same store."""
    doing = threading.Thread(target=do, daemon=True)
    doing.start()
    doing.join(seconds)
