"""How a start uses what earlier ones left; Spark itself is not started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dedup_spark.spark import kept, launch, local_settings, local_start
from dedup_spark.spark.delta import delta_jar
from dedup_spark.spark.local_settings import JAVA_OPTIONS

Started = list[dict[str, str]]


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    path = tmp_path / "ivy home" / "jars" / "delta.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"delta")
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jar: Path) -> Started:
    """The settings and the class path of each start; each finds the jar, as Spark tells it, and one of the user."""
    seen: Started = []

    def start(_: object, settings: Mapping[str, str]) -> Any:
        seen.append({**settings, "class path": os.environ.get(kept.CLASS_PATH, "")})
        told = f"{jar.as_uri()},file:///their/own.jar"
        context = SimpleNamespace(getConf=lambda: {"spark.jars": told}, applicationId=f"local-{len(seen)}")
        return SimpleNamespace(sparkContext=context)

    monkeypatch.setattr(launch, "start", start)
    monkeypatch.setattr(local_start, "require_java", lambda: "/bin/sh")  # any file has a date
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(local_start, "_STARTED", set())
    for variable in ("PYSPARK_SUBMIT_ARGS", "SPARK_CONF_DIR", kept.CLASS_PATH, *local_settings._ALSO_OF_JAVA):
        monkeypatch.delenv(variable, raising=False)
    return seen


def start(**options: Any) -> None:
    local_start.start(SparkSession.builder, "tests", **options)


def test_the_first_start_resolves_delta_and_later_ones_take_the_jars_that_it_found(started: Started, jar: Path) -> None:
    start()
    start()
    assert started[0]["spark.jars.packages"] == delta_jar()
    assert started[0]["class path"] == ""
    assert "spark.jars.packages" not in started[1]
    assert started[1]["class path"] == str(jar)
    jar.unlink()
    start()
    assert started[2]["spark.jars.packages"] == delta_jar()


def test_who_names_jars_of_their_own_gets_delta_resolved_with_them(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--packages org.example:a:1 pyspark-shell")
    start()
    assert started[0]["spark.jars.packages"] == delta_jar()
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS")
    assert local_start.archive() is None  # what was found with theirs is not what Delta needs
    start()
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--packages org.example:a:1 pyspark-shell")
    start()
    assert started[2]["class path"] == ""


def test_classes_come_from_an_archive_where_there_is_one_and_go_into_one_where_it_is_asked_for(
    started: Started, tmp_path: Path
) -> None:
    start()
    start(archive_to=tmp_path / "new.jsa")
    assert f"-XX:ArchiveClassesAtExit={tmp_path}/new.jsa" in started[1][JAVA_OPTIONS]
    archive = local_start.archive()
    assert archive is not None
    start()
    assert "Archive" not in started[2][JAVA_OPTIONS]
    archive.write_bytes(b"classes")
    archive.chmod(0o600)
    start(is_small=True)
    assert f"-XX:SharedArchiveFile={archive}" in started[3][JAVA_OPTIONS]
    assert "TieredStopAtLevel=1" in started[3][JAVA_OPTIONS]


def test_where_a_launcher_sets_the_environment_anew_delta_is_resolved_at_each_start(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    (tmp_path / "spark-env.sh").write_text("export SPARK_DIST_CLASSPATH=$(hadoop classpath)")
    start()
    start()
    assert [s["spark.jars.packages"] for s in started] == [delta_jar()] * 2
    assert [s["class path"] for s in started] == ["", ""]


@pytest.mark.parametrize("where", ["JAVA_TOOL_OPTIONS", "spark.driver.defaultJavaOptions"])
def test_no_second_collector_is_named(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    start(is_small=True)
    assert "SerialGC" in started[0][JAVA_OPTIONS]
    if where.startswith("spark."):
        monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
        (tmp_path / "spark-defaults.conf").write_text(f"{where}: -XX:+UseParallelGC")
    else:
        monkeypatch.setenv(where, "-XX:+UseParallelGC")
    start(is_small=True)
    assert "SerialGC" not in started[1][JAVA_OPTIONS]
    assert "TieredStopAtLevel=1" in started[1][JAVA_OPTIONS]


def test_a_session_that_was_not_started_here_is_not_ours(started: Started) -> None:
    spark = local_start.start(SparkSession.builder, "tests")
    assert local_start.is_ours(spark)
    of_user = SimpleNamespace(sparkContext=SimpleNamespace(applicationId="local-99"))
    assert not local_start.is_ours(of_user)  # type: ignore[arg-type]


def test_settings_of_the_user_hold_also_for_a_small_lake(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    start()
    chosen = "--driver-memory 9g --driver-java-options -Xss4m --conf spark.ui.enabled=true pyspark-shell"
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", chosen)
    start(is_small=True)
    assert started[1].keys().isdisjoint({"spark.driver.memory", JAVA_OPTIONS, "spark.ui.enabled"})
    assert started[1]["spark.master"] == "local[*,4]"
