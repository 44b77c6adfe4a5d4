"""Memory of a program's JVMs and Python workers while it runs, by the kernel's figures. Benchmarks share it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = ("driver", "jvm", "python", "executor")


@contextmanager
def peak_bytes() -> Iterator[Counter[str]]:
    """Largest resident memory, measured ten times per second, of each of KINDS.

    `driver`: the JVM that holds the driver. `jvm`: all JVMs together, and `python`: all Python workers. `executor`: one
    executor with its Python workers, where executors are processes of their own. Pages that processes share count in
    each of them.
    """
    peak, ended = Counter[str](), threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for kind, n_bytes in _resident_bytes().items():
                peak[kind] = max(peak[kind], n_bytes)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _resident_bytes() -> Counter[str]:
    """Resident memory now of this program's JVMs and Python workers, without this process."""
    parents, resident, java, python = {}, {}, set(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:  # ended meanwhile
            continue
        pid, numbers = int(folder.name), rest.split()
        parents[pid], resident[pid] = int(numbers[1]), int(numbers[21]) * 4096
        if name.endswith("(java"):
            java.add(pid)
        elif "python" in name:  # what a JVM starts for a moment has the memory of the JVM before its own
            python.add(pid)
    me = os.getpid()
    root = parents[me] if parents[me] in java else me  # under spark-submit the driver's JVM started this program
    total, of_executor = Counter[str](), Counter[int]()
    for pid in set(parents) - {me}:
        line = [pid]  # from the process up
        while line[-1] != root and line[-1] in parents:
            line.append(parents[line[-1]])
        if line[-1] != root or pid not in java | python:
            continue
        total["jvm" if pid in java else "python"] += resident[pid]
        jvms = [above for above in line if above in java]  # the driver's last
        if len(jvms) > 1:
            of_executor[jvms[0]] += resident[pid]
        elif pid in java:
            total["driver"] = max(total["driver"], resident[pid])
    total["executor"] = max(of_executor.values(), default=0)
    return total
