"""One Spark session for all tests, and one finished run of the tiny lake for tests that only read its results.

Spark is imported by the fixtures that use it: the tests of GPUs run on machines without Spark and Java.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from processes import in_a_shell
from tiny_lake import TinyLake, build_tiny_lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from dedup_spark.config import Config
    from dedup_spark.store.runs import Run
    from dedup_spark.store.tables import Tables

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = sys.executable  # workers with the packages of this environment


_LONG_WITHOUT_SPARK = ("kernels/", "models/", "sources/", "stages/reading/test_decoder_pool.py")
"""Folders and files of tests that are slow or kill processes, and start no Spark of their own."""


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start Spark, so that the others can be run alone, and order the files.

    Files with such tests come first, so that processes that share the tests have short ones left at the end. One file
    that needs the finished run is the first, and the others are the last of those: nobody waits until it is made.
    """
    here = Path(__file__).parent
    for item in items:
        is_long = any(item.get_closest_marker(name) for name in ("slow", "chaos", "platforms"))
        starts_its_own = is_long and not item.path.relative_to(here).as_posix().startswith(_LONG_WITHOUT_SPARK)
        if starts_its_own or "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.starts_spark)
    long = {item.path for item in items if item.get_closest_marker("starts_spark")}
    reading = {item.path: None for item in items if "finished_root" in getattr(item, "fixturenames", ())}
    first = [*reading][:1]

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        return item.path not in first, item.path not in long, item.path in reading

    items.sort(key=place)


@pytest.fixture(autouse=True)
def own_pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that decodes with a low limit, which is Pillow's for the whole process, leaves it to no other."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@contextlib.contextmanager
def alone(factory: pytest.TempPathFactory, what: str) -> Iterator[Path]:
    """Lets one process of this test run into the block at a time; gives the folder that the processes share."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills: one process of this test run fills it, for all of them."""
    with alone(factory, name) as shared:
        folder, mark = shared / name, shared / f"{name}.made"
        if not mark.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of another process that failed halfway
            make(folder)
            mark.touch()
    return folder


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from dedup_spark.spark.session import get_session

    scratch = tmp_path_factory.mktemp("spark")
    with alone(tmp_path_factory, "start of Spark"):  # the first one may have to download Delta
        session = _start(scratch)
    yield get_session("tests")  # adds the package's own runtime settings
    session.stop()


def _start(scratch: Path) -> SparkSession:
    from pyspark.sql import SparkSession

    from dedup_spark.spark.delta import delta_jar

    return (
        SparkSession.builder.master("local[2,4]")  # as on a laptop: a task is retried
        .config("spark.jars.packages", delta_jar())
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.memory", "2g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        # Two partitions: tables of ten rows in eight would spend the time on empty tasks.
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.databricks.delta.snapshotPartitions", "1")
        # Plans over ten rows run once: to compile them to Java costs half of the time (measured on cluster.run). The
        # tests of the command line and of spark-submit compile, as users do. The JVM compiles Spark's own code with all
        # its compilers: over ten minutes 12 % faster than with the first one alone (524 s and 596 s, side by side). It
        # gives them 48 MB each; Spark fills them, and a fifth of the time goes into emptying them.
        .config("spark.driver.extraJavaOptions", "-XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m")
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.databricks.delta.stats.collect", "false")
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .getOrCreate()
    )


@pytest.fixture(scope="session")
def empty_tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tables without rows. Read only: a copy takes milliseconds, new tables take seconds."""
    from dedup_spark.store.tables import Tables

    return made_once(tmp_path_factory, "empty", lambda root: Tables(spark, str(root)).create_missing())


@pytest.fixture
def tables(spark: SparkSession, empty_tables: Path, tmp_path: Path) -> Tables:
    """Empty tables for one test alone."""
    from dedup_spark.store.tables import Tables

    return Tables(spark, str(shutil.copytree(empty_tables, tmp_path / "tables")))


@dataclass(frozen=True)
class FinishedRun:
    """A lake with known truth, and the tables of one complete run over it."""

    lake: TinyLake
    tables: Tables


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run: `lake`, and its `tables`. Made as users make it: see `_run_the_command`."""
    return made_once(tmp_path_factory, "finished", _run_the_command)


@pytest.fixture(scope="session")
def finished(spark: SparkSession, finished_root: Path) -> FinishedRun:
    """Read only: shared by all tests that ask for it."""
    from dedup_spark.store.tables import Tables

    root = finished_root
    lake = pickle.loads((root / "lake.pickle").read_bytes())
    return FinishedRun(lake, Tables(spark, str(root / "tables")))


def _run_the_command(root: Path) -> None:
    """`python -m dedup_spark run` over the tiny lake, in a process of its own and on the session that it starts there:
    with adaptive execution, code generation and the statistics of Delta, which the session of the tests leaves out.
    """
    lake = build_tiny_lake(root / "lake")
    command = [sys.executable, "-m", "dedup_spark", "run", "--lake", str(lake.folder), "--tables", str(root / "tables")]
    done = in_a_shell(command)
    assert done.returncode == 0, done.stderr[-4000:]
    (root / "lake.pickle").write_bytes(pickle.dumps(lake))


def run_everything(tables: Tables, lake: Path, config: Config, run_id: str | None = None) -> Run:
    """What `dedup-spark run` does after its checks, on the session of the tests."""
    from dedup_spark import pipeline
    from dedup_spark.sources.registry import open_source
    from dedup_spark.store.runs import Run

    root = open_source(str(lake), config.inventory).root
    run = Run(tables, config, root, pipeline.run_id_to_use(tables, root, run_id))
    pipeline.run_all(tables.spark, config, run)
    return run
