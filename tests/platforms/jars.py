"""Fetches jars from Maven Central by Spark's own Ivy, once, into build/platforms: Maven need not be here."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyspark
from processes import ROOT

DELTA = "4.2.0"
"""The one of emr-spark-8.1.0."""
SPARK_HOME = Path(pyspark.__file__).parent
BUILT = ROOT / "build" / "platforms"
"""What is fetched and built once, for later runs of the tests too."""


def built_once(name: str, build: Callable[[Path], object]) -> Path:
    """The folder below BUILT that `build` fills: once, and by one of the processes of a test run."""
    folder, partial = BUILT / name, BUILT / f"{name}.partial"
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            build(partial)
            partial.rename(folder)
    return folder


def java() -> str:
    """The program that Spark would start."""
    home = os.environ.get("JAVA_HOME")
    return f"{home}/bin/java" if home else "java"


def fetch(name: str, *coordinates: str, with_what_they_need: bool = True) -> Path:
    """The folder with the jars of `organisation:name:version`, and those that they need unless told otherwise."""
    return built_once(name, lambda folder: _retrieve(folder, _module(coordinates, with_what_they_need)))


def delta_jars() -> Path:
    """The folder with the two jars of Delta that a release of EMR has, and nothing else."""
    both = (f"io.delta:delta-spark_4.1_2.13:{DELTA}", f"io.delta:delta-storage:{DELTA}")
    return fetch(f"delta-{DELTA}", *both, with_what_they_need=False)


def _retrieve(folder: Path, module: str) -> None:
    (folder / "ivy.xml").write_text(module)
    (ivy,) = (SPARK_HOME / "jars").glob("ivy-*.jar")
    command = [java(), f"-Divy.cache.dir={BUILT / 'ivy'}", "-jar", str(ivy), "-ivy", str(folder / "ivy.xml"),
               "-confs", "default", "-types", "jar", "bundle",
               "-retrieve", f"{folder}/[artifact]-[revision](-[classifier]).[ext]"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def _module(coordinates: tuple[str, ...], with_what_they_need: bool) -> str:
    needed = [coordinate.split(":") for coordinate in coordinates]
    lines = "".join(
        f'<dependency org="{org}" name="{name}" rev="{version}" conf="default->default"'
        f' transitive="{str(with_what_they_need).lower()}"/>'
        for org, name, version in needed
    )
    return (
        '<ivy-module version="2.0"><info organisation="tests" module="jars"/>'
        f'<configurations><conf name="default"/></configurations><dependencies>{lines}</dependencies></ivy-module>'
    )
