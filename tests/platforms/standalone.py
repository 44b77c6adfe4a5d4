"""A real standalone cluster on the loopback interface: a Master, and two Workers with one pretended GPU each."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Process, live_processes

from platforms.daemons import Daemons, free_ports
from platforms.jars import SPARK_HOME

N_WORKERS = 2
_PROGRAMS = "org.apache.spark.deploy"


@dataclass(frozen=True)
class Standalone:
    """Where a running cluster is, and the process ids of its Workers."""

    master: str
    page: str
    workers: tuple[int, ...]

    def state(self) -> dict[str, Any]:
        """What the Master tells of its Workers and applications."""
        with urllib.request.urlopen(f"{self.page}/json/", timeout=10) as answer:
            return json.load(answer)

    def executors(self) -> list[Process]:
        """The live executors of this cluster."""
        return [
            process
            for process in live_processes()
            if process.parent in self.workers and "CoarseGrainedExecutorBackend" in process.command
        ]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Standalone]:
    """The cluster while the block lasts."""
    port, page, *pages = free_ports(2 + N_WORKERS)
    program = [str(SPARK_HOME / "bin" / "spark-class"), f"{_PROGRAMS}.master.Master"]
    environment = {"SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "512m"}
    with Daemons(folder) as daemons:
        daemons.start(
            "master", [*program, "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)], environment
        )
        workers = tuple(_start_worker(daemons, f"spark://127.0.0.1:{port}", p, environment) for p in pages)
        cluster = Standalone(f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{page}", workers)
        daemons.wait_until(lambda: _n_workers(cluster) == N_WORKERS)
        yield cluster


def _start_worker(daemons: Daemons, master: str, page: int, environment: dict[str, str]) -> int:
    name = f"worker-{page}"
    script = daemons.folder / "one_gpu.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0"]}\'\n')
    script.chmod(0o755)
    announced = f"-Dspark.worker.resource.gpu.amount=1 -Dspark.worker.resource.gpu.discoveryScript={script}"
    program = [str(SPARK_HOME / "bin" / "spark-class"), f"{_PROGRAMS}.worker.Worker", "--host", "127.0.0.1"]
    place = ["--webui-port", str(page), "--work-dir", str(daemons.folder / name), "--cores", "2", "--memory", "3g"]
    return daemons.start(name, [*program, *place, master], environment | {"SPARK_WORKER_OPTS": announced})


def _n_workers(cluster: Standalone) -> int:
    try:
        return sum(worker["state"] == "ALIVE" for worker in cluster.state()["workers"])
    except OSError:
        return 0
