"""A real YARN on the loopback interface: one ResourceManager, one NodeManager that says it has two GPUs."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from platforms.daemons import Daemons, free_ports
from platforms.jars import fetch, java

HADOOP = "3.4.2"
"""The one in Spark 4.1.1, which has YARN's client."""
_PARTS = (
    "hadoop-common",
    *(f"hadoop-yarn-server-{part}" for part in ("resourcemanager", "nodemanager", "timelineservice")),
)
_CALCULATOR = "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator"
_SERVERS = "org.apache.hadoop.yarn.server"
_JAVA = ("-Xmx512m", *(f"--add-opens=java.base/java.{part}=ALL-UNNAMED" for part in ("lang", "util", "net")))


@dataclass(frozen=True)
class Yarn:
    """Where a running YARN is: `conf` is HADOOP_CONF_DIR of its clients, `folder` holds the logs of its containers."""

    folder: Path
    conf: Path
    address: str

    def applications(self) -> list[dict[str, Any]]:
        """All that were submitted, as the ResourceManager tells of them."""
        return (_asked(f"{self.address}/ws/v1/cluster/apps").get("apps") or {}).get("app", [])

    def attempts(self, application: str) -> int:
        """How often the driver of an application was started."""
        return len(_asked(f"{self.address}/ws/v1/cluster/apps/{application}/appattempts")["appAttempts"]["appAttempt"])

    def logs(self) -> str:
        """The end of what the containers wrote."""
        files = sorted((self.folder / "logs").glob("*/*/std*"), key=os.path.getmtime)
        return "\n".join(f"{file.parent.name}/{file.name}:\n{file.read_text()[-2500:]}" for file in files[-8:])


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Yarn]:
    """YARN while the block lasts."""
    jars = fetch(f"yarn-{HADOOP}", *(f"org.apache.hadoop:{part}:{HADOOP}" for part in _PARTS))
    conf = folder / "conf"
    web = _write_conf(folder, conf)
    yarn = Yarn(folder, conf, f"http://127.0.0.1:{web}")
    path = {"PATH": f"{_pretended_gpus(folder)}:{os.environ['PATH']}"}
    command = [java(), *_JAVA, f"-Dhadoop.log.dir={folder}", f"-Dyarn.log.dir={folder}", "-cp", f"{conf}:{jars}/*"]
    with Daemons(folder) as daemons:
        daemons.start("resourcemanager", [*command, f"{_SERVERS}.resourcemanager.ResourceManager"], path)
        daemons.start("nodemanager", [*command, f"{_SERVERS}.nodemanager.NodeManager"], path)
        daemons.wait_until(lambda: _has_a_node(yarn))
        yield yarn


def _has_a_node(yarn: Yarn) -> bool:
    try:
        nodes = _asked(f"{yarn.address}/ws/v1/cluster/nodes")["nodes"]
    except OSError:
        return False
    return any(node["state"] == "RUNNING" for node in (nodes or {}).get("node", []))


def _asked(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)


def _pretended_gpus(folder: Path) -> Path:
    """A folder with an nvidia-smi that lists one GPU, as one in a container does that YARN isolated."""
    script = folder / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho 0\n")
    script.chmod(0o755)
    return script.parent


def _write_conf(folder: Path, conf: Path) -> int:
    """Write the settings; returns the port of the ResourceManager's pages."""
    conf.mkdir(parents=True)
    ports = free_ports(9)
    files = {
        "core-site.xml": {"fs.defaultFS": "file:///", "hadoop.tmp.dir": str(folder / "tmp")},
        "yarn-site.xml": _yarn_site(folder, ports),
        # As in conf/emr/configurations.json: the default calculator counts memory alone.
        "capacity-scheduler.xml": {
            "yarn.scheduler.capacity.root.queues": "default",
            "yarn.scheduler.capacity.root.default.capacity": "100",
            "yarn.scheduler.capacity.maximum-am-resource-percent": "0.9",
            "yarn.scheduler.capacity.resource-calculator": _CALCULATOR,
        },
        "node-resources.xml": {"yarn.nodemanager.resource-type.yarn.io/gpu": "2"},
    }
    for name, settings in files.items():
        (conf / name).write_text(_xml(settings))
    return ports[4]


def _yarn_site(folder: Path, ports: list[int]) -> dict[str, str]:
    manager, node = "yarn.resourcemanager", "yarn.nodemanager"
    addresses = dict(zip(
        (f"{manager}.address", f"{manager}.scheduler.address", f"{manager}.resource-tracker.address",
         f"{manager}.admin.address", f"{manager}.webapp.address", f"{node}.address", f"{node}.localizer.address",
         f"{node}.webapp.address", f"{node}.collector-service.address"),
        (f"127.0.0.1:{port}" for port in ports), strict=True,
    ))  # fmt: skip
    return addresses | {
        f"{manager}.hostname": "127.0.0.1",
        f"{manager}.bind-host": "127.0.0.1",
        f"{node}.hostname": "127.0.0.1",
        f"{node}.bind-host": "127.0.0.1",
        f"{node}.local-dirs": str(folder / "local"),
        f"{node}.log-dirs": str(folder / "logs"),
        f"{node}.resource.memory-mb": "8000",
        f"{node}.resource.cpu-vcores": "8",
        f"{node}.vmem-check-enabled": "false",
        f"{node}.disk-health-checker.max-disk-utilization-per-disk-percentage": "99",
        f"{node}.delete.debug-delay-sec": "3600",  # the logs of a failed test
        f"{node}.admin-env": f"PATH={folder}/bin:$PATH",
        "yarn.scheduler.minimum-allocation-mb": "256",
        "yarn.scheduler.maximum-allocation-mb": "8000",
        "yarn.resource-types": "yarn.io/gpu",
    }


def _xml(settings: Mapping[str, str]) -> str:
    lines = (f"<property><name>{k}</name><value>{escape(v)}</value></property>" for k, v in settings.items())
    return f"<configuration>{''.join(lines)}</configuration>\n"
