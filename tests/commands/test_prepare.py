"""What `make setup` does once for later starts of Spark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dedup_spark.commands import prepare
from dedup_spark.commands.demo_lake import build_small_lake
from dedup_spark.errors import ConfigError
from dedup_spark.spark import local_start

ROOT = Path(__file__).parents[2]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """The parts that were run in processes of their own. A fetch makes the place of the archive known."""
    done: list[tuple[str, ...]] = []
    archive = tmp_path / "cache" / "classes.jsa"

    def run(*arguments: str) -> None:
        done.append(arguments[:1])
        if arguments[0] == prepare._RECORD:
            Path(arguments[1]).write_bytes(b"classes")

    monkeypatch.setattr(prepare, "_in_a_process", run)
    monkeypatch.setattr(prepare, "require_startable", lambda: None)
    monkeypatch.setattr(local_start, "archive", lambda: archive if done or archive.exists() else None)
    return done


def test_jars_are_fetched_and_classes_recorded_once(parts: list[tuple[str, ...]], tmp_path: Path) -> None:
    assert prepare.main([]) == 0
    assert parts == [(prepare._FETCH,), (prepare._RECORD,)]
    assert (tmp_path / "cache" / "classes.jsa").read_bytes() == b"classes"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["classes.jsa"]
    assert prepare.main([]) == 0
    assert len(parts) == 2


def test_a_cache_that_cannot_be_written_is_told_and_fails_nothing(
    parts: list[tuple[str, ...]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert prepare.main([]) == 0
    assert "each start takes some seconds longer" in caplog.text


@pytest.mark.parametrize(
    "error", [ConfigError("Java not found"), subprocess.CalledProcessError(1, "java"), OSError("no space left")]
)
def test_what_cannot_be_prepared_does_not_end_the_installation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(prepare, "prepare", fail)
    assert prepare.main([]) == 0
    assert str(error) in caplog.text


def test_the_lake_that_is_run_on_has_copies_of_each_photo(tmp_path: Path) -> None:
    files = [path for path in build_small_lake(tmp_path / "lake", 2).rglob("*") if path.is_file()]
    assert len(files) == 24
    assert sum("astronaut" in path.name for path in files) == 12


STARTS_BY_WHAT_IS_KEPT = """
import sys
from pathlib import Path
from pyspark import SparkContext
from dedup_spark.spark import local_start
from dedup_spark.spark.session import get_session

spark = get_session("small", is_small=True)
java = spark.sparkContext._jvm.java.lang.management.ManagementFactory.getRuntimeMXBean()
conf = spark.sparkContext.getConf()
assert "spark.jars.packages" not in dict(conf.getAll())
assert str(local_start.archive()) in conf.get("spark.driver.extraJavaOptions")
assert spark.conf.get("spark.sql.codegen.wholeStage") == "false"
spark.range(3).write.format("delta").save(sys.argv[1])
assert spark.read.format("delta").load(sys.argv[1]).count() == 3
again = get_session("large")
assert again.conf.get("spark.sql.codegen.wholeStage") == "true"
assert again.conf.get("spark.sql.shuffle.partitions") == "8"
print("classes of an archive:", Path("/proc", str(SparkContext._gateway.proc.pid), "maps").read_text().count(".jsa"))
"""


@pytest.mark.slow
def test_a_prepared_machine_starts_spark_by_what_is_kept(tmp_path: Path) -> None:
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    env.pop("PYSPARK_SUBMIT_ARGS", None)
    subprocess.run([sys.executable, "-m", "dedup_spark.commands.prepare"], env=env, check=True)
    assert len(list((tmp_path / "cache/dedup_spark").glob("classes-*.jsa"))) == 1
    told = subprocess.run(
        [sys.executable, "-c", STARTS_BY_WHAT_IS_KEPT, str(tmp_path / "table")],
        env=env, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert int(told.rsplit(": ", 1)[1]) > 0
