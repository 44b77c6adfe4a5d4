"""A JVM whose streams are led into a file: what is asked of PySpark, and what is told when it does not start."""

from __future__ import annotations

import logging
import pwd
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkRuntimeError

from dedup_spark import console
from dedup_spark.errors import ConfigError
from dedup_spark.spark import launch, surroundings
from dedup_spark.store import files
from dedup_spark.store.log_file import log_file

SETTINGS = {"spark.master": "local[*,4]", "spark.app.name": "tests", "spark.driver.memory": "4g"}


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of logs; no JVM is there yet."""
    monkeypatch.setattr(files, "private_folder", lambda _: tmp_path)
    log_file.cache_clear()
    monkeypatch.setattr(SparkContext, "_gateway", None)
    return tmp_path


class Builder:
    """What `start` asks of a builder of sessions."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.settings = error, dict[str, str]()

    def config(self, *, map: dict[str, str]) -> Builder:  # PySpark's name
        self.settings = map
        return self

    def getOrCreate(self) -> str:  # noqa: N802
        if self.error:
            raise self.error
        return "a session"


def test_the_streams_of_the_jvm_go_to_a_file(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def launched(conf: Any, popen: dict[str, Any]) -> str:
        asked.update(conf=dict(conf.getAll()), out=popen["stdout"].name, err=popen["stderr"].name)
        return "a gateway"

    monkeypatch.setattr(launch, "launch_gateway", launched)
    monkeypatch.setattr(launch, "SparkContext", with_context := Contexts())
    builder: Any = Builder()
    assert launch.start(builder, SETTINGS) == "a session"  # type: ignore[comparison-overlap]
    assert asked == {"conf": SETTINGS, "out": str(log_file()), "err": str(log_file())}
    assert with_context.made == [(SETTINGS, "a gateway")]
    assert builder.settings == SETTINGS
    assert log_file().parent == logs


class Contexts:
    """In the place of SparkContext: notes of what it was made."""

    _gateway = None

    def __init__(self) -> None:
        self.made: list[tuple[dict[str, str], str]] = []

    def __call__(self, conf: Any, gateway: str) -> None:
        self.made.append((dict(conf.getAll()), gateway))


def test_a_person_who_wants_everything_sees_the_streams_of_the_jvm(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "is_verbose", lambda: True)
    monkeypatch.setattr(launch, "launch_gateway", None)  # PySpark launches it, with its streams as they are
    builder: Any = Builder()
    launch.start(builder, SETTINGS)
    assert builder.settings == SETTINGS
    assert list(logs.iterdir()) == []


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("Error occurred\nCould not reserve enough space for object heap", "less free memory"),
        (":: UNRESOLVED DEPENDENCIES ::", "there is no network"),
        ('Exception in thread "main" java.lang.IllegalStateException: bad option', "IllegalStateException: bad"),
        ("", "[JAVA_GATEWAY_EXITED]"),
    ],
)  # fmt: skip
def test_a_jvm_that_does_not_start_is_one_sentence(
    logs: Path, monkeypatch: pytest.MonkeyPatch, printed: str, said: str
) -> None:
    def gone(_: Any, popen: dict[str, Any]) -> None:
        popen["stderr"].write(printed.encode())
        raise PySparkRuntimeError(errorClass="JAVA_GATEWAY_EXITED", messageParameters={})

    monkeypatch.setattr(launch, "launch_gateway", gone)
    builder: Any = Builder()
    with pytest.raises(ConfigError) as e:
        launch.start(builder, SETTINGS)
    [problem] = e.value.problems
    assert problem.startswith("Spark did not start: ")
    assert said in problem
    assert "\n" not in problem
    assert (str(log_file()) in problem) == bool(printed)


def test_a_session_that_does_not_start_tells_the_cause_and_not_the_call(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_verbose", lambda: True)
    trace = "An error while calling None.o1.\n: java.net.BindException: Address already in use: Service 'x'\n\tat a"
    builder: Any = Builder(Py4JError(trace))
    with pytest.raises(ConfigError, match=r"no port is free.*Address already in use"):
        launch.start(builder, SETTINGS)


def test_the_last_ten_logs_stay(logs: Path) -> None:
    for second in range(30):
        (logs / f"20261128-1000{second:02d}-1.log").touch()
    log_file().touch()
    left = sorted(path.name for path in logs.iterdir())
    assert len(left) == 10
    assert left[0] == "20261128-100021-1.log"


def test_a_session_leaves_the_handler_of_ctrl_c_that_the_program_has_set() -> None:
    def own(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGINT, own)
    try:
        with launch.interrupts_as_they_were():
            signal.signal(signal.SIGINT, lambda *_: None)  # as a SparkContext does
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("kept_in", ["home", "elsewhere"])
def test_jars_that_were_fetched_before_are_known(kept_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        pw_dir = str(tmp_path)

    monkeypatch.setattr(pwd, "getpwuid", lambda _: Entry)
    folder = tmp_path / ".ivy2.5.2" if kept_in == "home" else tmp_path / "elsewhere"
    setting = None if kept_in == "home" else str(folder)
    assert not surroundings.has_jar("io.delta:delta-spark_4.1_2.13:4.4.0", setting)
    (folder / "jars").mkdir(parents=True)
    (folder / "jars" / "io.delta_delta-spark_4.1_2.13-4.4.0.jar").touch()
    assert surroundings.has_jar("io.delta:delta-spark_4.1_2.13:4.4.0", setting)
    assert not surroundings.has_jar("io.delta:delta-spark_4.1_2.13:4.4.1", setting)


def test_logs_are_for_this_user_alone() -> None:
    log_file.cache_clear()
    folder = log_file().parent
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
    assert logging.getLogger("dedup_spark.spark.launch") is launch.log
