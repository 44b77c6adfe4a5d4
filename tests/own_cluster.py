"""Starts the Spark session of a test that runs as a process of its own, on the cluster that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from processes import ROOT
from pyspark.sql import SparkSession

from dedup_spark.spark.delta import delta_jar
from dedup_spark.spark.session import get_session


def start(master: str, folder: Path, more: Mapping[str, str] | None = None) -> SparkSession:
    """A session with Delta on `master`; executors of 1 GB import this package. `more` are additional settings."""
    settings = {
        "spark.executor.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.jars.packages": delta_jar(),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    builder = SparkSession.builder.master(master)
    for key, value in {**settings, **(more or {})}.items():
        builder = builder.config(key, value)
    builder.getOrCreate()
    return get_session("tests")
