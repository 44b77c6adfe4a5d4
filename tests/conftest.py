"""One Spark session for all tests, and one finished run of the tiny lake for those that only look at results."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tiny_lake import TinyLake, build_tiny_lake

from dedup_spark import pipeline
from dedup_spark.config import Config, load_config
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.session import DELTA_JAR, get_session
from dedup_spark.store.runs import Run
from dedup_spark.store.tables import Tables

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = sys.executable  # workers with the packages of this environment


_LONG_WITHOUT_SPARK = ("kernels/", "models/", "sources/", "stages/reading/test_decoder_pool.py")
"""Where tests that are slow or kill processes start no Spark of their own."""


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts Spark: `make test` runs those tests one after the other, and the others beside them."""
    here = Path(__file__).parent
    for item in items:
        is_long = any(item.get_closest_marker(name) for name in ("slow", "chaos"))
        starts_its_own = is_long and not item.path.relative_to(here).as_posix().startswith(_LONG_WITHOUT_SPARK)
        if starts_its_own or "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.starts_spark)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    scratch = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[2,4]")  # as on a laptop: a task is retried
        .config("spark.jars.packages", DELTA_JAR)
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
        # Plans over ten rows run once: to compile them, by Spark to Java and by the JVM to its best code, costs half of
        # the time (measured on cluster.run). The tests of the command line and of spark-submit compile, as users do.
        # The JVM gives its first compiler 48 MB; Spark fills them, and a fifth of the time goes into emptying them.
        .config(
            "spark.driver.extraJavaOptions",
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
        )
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.databricks.delta.stats.collect", "false")
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .getOrCreate()
    )
    yield get_session("tests")  # adds the package's own runtime settings
    session.stop()


@pytest.fixture(scope="session")
def empty_tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of tables without rows. Read only: to copy takes milliseconds, to create takes seconds."""
    root = tmp_path_factory.mktemp("empty") / "tables"
    Tables(spark, str(root)).create_missing()
    return root


@pytest.fixture
def tables(spark: SparkSession, empty_tables: Path, tmp_path: Path) -> Tables:
    """Empty tables of its own for one test."""
    return Tables(spark, str(shutil.copytree(empty_tables, tmp_path / "tables")))


@dataclass(frozen=True)
class FinishedRun:
    """A lake with known truth, the tables of one complete run over it, and the run."""

    lake: TinyLake
    tables: Tables
    run: Run


@pytest.fixture(scope="session")
def finished(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Read only: shared by all tests that ask for it."""
    root = tmp_path_factory.mktemp("finished")
    lake = build_tiny_lake(root / "lake")
    tables = Tables(spark, str(root / "tables"))
    tables.create_missing()
    run = run_everything(tables, lake.folder, load_config())
    return FinishedRun(lake, tables, run)


def run_everything(tables: Tables, lake: Path, config: Config, run_id: str | None = None) -> Run:
    """What `dedup-spark run` does after its checks."""
    root = open_source(str(lake), config.inventory).root
    run = Run(tables, config, root, pipeline.run_id_to_use(tables, root, run_id))
    pipeline.run_all(tables.spark, config, run)
    return run
