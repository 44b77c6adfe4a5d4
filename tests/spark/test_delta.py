"""The jar of Delta for each Spark, and what is said of one that does not fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyspark
import pytest
from py4j.java_gateway import JavaPackage

from dedup_spark.errors import ConfigError
from dedup_spark.spark.delta import delta_jar, require_delta, require_fitting_jar


@pytest.mark.parametrize(
    ("spark", "jar"),
    [
        ("4.0.1", "io.delta:delta-spark_4.0_2.13:4.4.0"), ("4.0.2", "io.delta:delta-spark_4.0_2.13:4.4.0"),
        ("4.1.1", "io.delta:delta-spark_4.1_2.13:4.4.0"), ("4.1.3-amzn-0", "io.delta:delta-spark_4.1_2.13:4.4.0"),
        ("4.2.0", "io.delta:delta-spark_4.2_2.13:4.4.0"),
    ],
)  # fmt: skip
def test_each_spark_gets_the_jar_that_was_built_for_it(spark: str, jar: str) -> None:
    assert delta_jar(spark) == jar


def test_without_a_version_it_is_that_of_the_installed_spark() -> None:
    assert delta_jar() == delta_jar(pyspark.__version__)


@pytest.mark.parametrize("spark", ["3.5.6", "4.3.0", "4.10.0", "5.0.0"])
def test_a_spark_without_a_jar_is_refused_with_what_to_install(spark: str) -> None:
    with pytest.raises(ConfigError, match=rf"Spark {spark}: .* runs on Spark 4\.0 to 4\.2: `pip install 'pyspark"):
        delta_jar(spark)


@pytest.mark.parametrize(
    "jar",
    [
        "io.delta:delta-spark_4.1_2.13:4.4.0", "/opt/spark/jars/delta-spark_4.1_2.13-4.2.0.jar",
        "s3://bucket/jars/io.delta_delta-spark_4.1_2.13-4.4.0.jar",
    ],
)  # fmt: skip
def test_a_jar_of_another_spark_is_refused_with_the_one_that_fits(jar: str) -> None:
    require_fitting_jar("4.1.3", ["org.apache.hadoop:hadoop-aws:3.4.2", jar])
    for spark in ("4.0.2", "4.2.0"):
        with pytest.raises(ConfigError) as e:
            require_fitting_jar(spark, ["org.apache.hadoop:hadoop-aws:3.4.2", jar])
        assert str(e.value).startswith(f"{jar} does not fit Spark {spark}: ")
        assert f"spark.jars.packages={delta_jar(spark)}" in str(e.value)


def test_a_jar_whose_name_does_not_say_its_spark_is_left_to_who_chose_it() -> None:
    for jar in ("io.delta:delta-spark_2.13:4.0.1", "file:///usr/share/aws/delta/lib/delta-spark.jar"):
        require_fitting_jar("4.0.2", [jar])


def session(version: str, conf: dict[str, str], *, has_delta: bool) -> Any:
    """Stands in for one: only its version, its settings and its classes are looked at."""
    found = object() if has_delta else JavaPackage("io.delta.tables.DeltaTable", None)
    tables = SimpleNamespace(DeltaTable=found)
    jvm = SimpleNamespace(io=SimpleNamespace(delta=SimpleNamespace(tables=tables)))
    context = SimpleNamespace(getConf=lambda: SimpleNamespace(get=conf.get))
    return SimpleNamespace(version=version, sparkContext=context, _jvm=jvm)


def test_a_session_without_delta_is_told_what_to_build_it_with() -> None:
    require_delta(session("4.2.0", {}, has_delta=True))  # in the image, or Databricks' own
    with pytest.raises(
        ConfigError, match=r"packages=io\.delta:delta-spark_4\.2_2\.13.*spark\.sql\.extensions=io\.delta"
    ):
        require_delta(session("4.2.0", {}, has_delta=False))


@pytest.mark.parametrize("key", ["spark.jars.packages", "spark.jars"])
def test_a_session_with_the_delta_of_another_spark_is_refused(key: str) -> None:
    named = {key: "a.jar, delta-spark_4.1_2.13-4.4.0.jar"}
    require_delta(session("4.1.1", named, has_delta=True))
    with pytest.raises(ConfigError, match=r"^delta-spark_4\.1_2\.13-4\.4\.0\.jar does not fit Spark 4\.0\.2"):
        require_delta(session("4.0.2", named, has_delta=True))
