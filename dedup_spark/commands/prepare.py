"""`python -m dedup_spark.commands.prepare`: what later starts of Spark on this machine need not do again.

It fetches Delta's jars, and lets the JVM write an archive of the classes that a run loads (`spark/kept.py`), which
takes a run on a few sample photos. `make setup` calls it, once for each Java, Spark and Delta. Without it everything
works, and each start takes some seconds longer.
"""

from __future__ import annotations

import logging
import mmap
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark import SparkContext

from dedup_spark.commands.demo_lake import build_small_lake
from dedup_spark.commands.opening import Opening, open_run
from dedup_spark.config import Config
from dedup_spark.console import configure_logging
from dedup_spark.errors import DedupError
from dedup_spark.pipeline import run_all
from dedup_spark.spark import kept, local_start
from dedup_spark.spark.session import require_startable, start_local

log = logging.getLogger("dedup_spark.commands.prepare")  # as a program its name is another

_N_PHOTOS = 2
_SECONDS_TO_WRITE, _SECONDS_OF_A_PART = 120.0, 900.0
_FETCH, _RECORD = "--fetch", "--record"


def main(arguments: list[str]) -> int:
    """The whole, or one part of it, which has a JVM of its own. An error is told, and is none of the installation."""
    configure_logging()
    try:
        if arguments[:1] == [_RECORD]:
            _record(Path(arguments[1]))
        elif arguments[:1] == [_FETCH]:
            start_local("dedup-spark prepare").stop()
        else:
            prepare()
    except (DedupError, OSError, RuntimeError, subprocess.SubprocessError) as e:
        log.warning("Spark could not be prepared, so that each start takes some seconds longer: %s", e)
    return 0


def prepare() -> None:
    """Fetch the jars and write the archive, where they are not there. Raises DedupError, OSError, SubprocessError."""
    require_startable()
    if local_start.archive() is None:
        _in_a_process(_FETCH)
    archive = local_start.archive()
    if archive is None or archive.is_file():
        return
    log.info("preparing quicker starts of Spark, once (a minute or two)")
    with tempfile.TemporaryDirectory(prefix="dedup_spark-prepare-") as folder:
        written = Path(folder, "classes.jsa")
        _in_a_process(_RECORD, str(written))
        if written.is_file():
            with written.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                kept.write(archive, data)


def _in_a_process(*arguments: str) -> None:
    command = [sys.executable, "-m", "dedup_spark.commands.prepare", *arguments]
    subprocess.run(command, check=True, timeout=_SECONDS_OF_A_PART)


def _record(archive: Path) -> None:
    """Run on a few photos, and wait until the JVM has ended and written its classes."""
    config = Config()
    with tempfile.TemporaryDirectory(prefix="dedup_spark-prepare-") as folder:
        lake = build_small_lake(Path(folder, "lake"), _N_PHOTOS)
        whole = Path(folder, "classes.jsa")
        spark = start_local("dedup-spark prepare", is_small=True, archive_to=whole)
        with open_run(Opening("run", None, Path(folder, "tables"), lake=lake), config) as run:
            run_all(spark, config, run)
        spark.stop()
        _end_of_java()
        if whole.is_file():  # else the user's own options of Java stood in its place
            shutil.move(whole, archive)


def _end_of_java() -> None:
    gateway = SparkContext._gateway
    assert gateway is not None
    process: subprocess.Popen[bytes] = gateway.proc
    gateway.shutdown()
    assert process.stdin is not None
    process.stdin.close()  # at the end of its input the gateway of Spark ends
    try:
        process.wait(_SECONDS_TO_WRITE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
