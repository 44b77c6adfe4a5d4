"""What a session needs for Delta Lake: two settings, and the jar that was built for its Spark.

Spark is imported where it is asked for: `dedup-spark doctor` asks for the jar alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from dedup_spark.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DELTA_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

_DELTA = "4.4.0"
_SPARKS = ("4.0", "4.1", "4.2")
"""The minors of Spark that this version of Delta is built for: each has a jar of its own."""
_CLASS = "io.delta.tables.DeltaTable"
_BUILT_FOR = re.compile(r"delta-spark_(\d+\.\d+)_2\.13")
"""The name of the jar; without a version of Spark in it, as older releases have it, it says nothing."""
_NAMED_IN = ("spark.jars.packages", "spark.jars")


def delta_jar(spark_version: str | None = None) -> str:
    """The coordinate for `spark.jars.packages`; None: for the installed Spark. Raises ConfigError for one without."""
    if spark_version is None:
        import pyspark

        spark_version = pyspark.__version__
    minor = minor_of(spark_version)
    if minor not in _SPARKS:
        raise ConfigError(
            f"Spark {spark_version}: dedup-spark runs on Spark {_SPARKS[0]} to {_SPARKS[-1]}: "
            "`pip install 'pyspark>=4.0.1,<4.3'`"
        )
    return f"io.delta:delta-spark_{minor}_2.13:{_DELTA}"


def require_fitting_jar(spark_version: str, jars: Iterable[str]) -> None:
    """Raise ConfigError where a jar or coordinate of Delta among `jars` was built for another minor of Spark."""
    wrong = [jar for jar in jars for minor in _BUILT_FOR.findall(jar) if minor != minor_of(spark_version)]
    if wrong:
        raise ConfigError(f"{wrong[0]} does not fit Spark {spark_version}: {instead_of_wrong_jar(spark_version)}")


def instead_of_wrong_jar(spark_version: str) -> str:
    """What to do about a jar that does not fit."""
    return f"start Spark with spark.jars.packages={delta_jar(spark_version)}, or with that jar in its image"


def require_delta(spark: SparkSession) -> None:
    """Raise ConfigError where a session has no Delta Lake, or that of another Spark."""
    from py4j.java_gateway import JavaPackage

    conf = spark.sparkContext.getConf()
    named = ",".join(conf.get(key, "") or "" for key in _NAMED_IN)
    require_fitting_jar(spark.version, filter(None, (jar.strip() for jar in named.split(","))))
    found = functools.reduce(getattr, _CLASS.split("."), cast("object", spark._jvm))
    if isinstance(found, JavaPackage):  # py4j's answer for the name of no class
        needed = {"spark.jars.packages": delta_jar(spark.version), **DELTA_SETTINGS}
        settings = ", ".join(f"{key}={value}" for key, value in needed.items())
        raise ConfigError(f"this session has no Delta Lake: build it with {settings}")


def minor_of(version: str) -> str:
    """Of a version of Spark: 4.1 of 4.1.1."""
    return ".".join(version.split(".")[:2])
