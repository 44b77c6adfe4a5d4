"""Java checks with scripts that stand for a java; the session's settings; who sets up logging."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dedup_spark.console import configure_logging
from dedup_spark.errors import ConfigError
from dedup_spark.spark import session
from dedup_spark.spark.delta import delta_jar
from dedup_spark.spark.local_settings import laptop_settings
from dedup_spark.spark.session import get_session, require_java

LOCAL_CONF = Path(__file__).parents[2] / "conf/local/spark-defaults.conf"
INSTALL = "install Java 17"

FakeJava = Callable[[str, str], str]


@pytest.fixture
def fake_java(tmp_path: Path) -> FakeJava:
    """Writes a java that says a version as the real ones do; returns its home."""

    def write(home: str, says: str) -> str:
        java = tmp_path / home / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\n[ \"$*\" = -version ] || exit 9\ncat >&2 <<'EOF'\n{says}\nEOF\n")
        java.chmod(0o755)
        return str(tmp_path / home)

    return write


@pytest.fixture
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither JAVA_HOME nor a java on the PATH; what the scripts need is there."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("JAVA_HOME", raising=False)


def put_first(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("PATH", f"{home}/bin", prepend=":")


@pytest.mark.parametrize(
    "says",
    [
        'openjdk version "17" 2021-09-14',
        'openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment (build 17.0.15+6)',
        'openjdk version "18-ea" 2022-03-22',
        'java version "21.0.1" 2023-10-17 LTS',
        'Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "25" 2025-09-16',
    ],
)
def test_java_17_and_newer_are_accepted(
    no_java: None, fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    put_first(monkeypatch, fake_java("jdk", says))
    require_java()


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "11.0.2" 2019-01-15', "11"),
        ('java version "1.8.0_292"', "8"),
        ('openjdk version "9"', "9"),
        ('openjdk version "16.0.2" 2021-07-20', "16"),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", "of unknown version"),
        ("", "of unknown version"),
    ],
)
def test_an_older_java_is_refused_with_its_version_and_what_to_install(
    no_java: None, fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch, says: str, version: str
) -> None:
    home = fake_java("jdk", says)
    put_first(monkeypatch, home)
    with pytest.raises(ConfigError) as e:
        require_java()
    assert f"{home}/bin/java is {version}: {INSTALL}" in str(e.value)


def test_no_java_at_all_is_one_sentence_that_says_what_to_install(no_java: None) -> None:
    with pytest.raises(ConfigError, match=f"no `java` on the PATH.*{INSTALL}"):
        require_java()


def test_a_java_home_without_java_is_named_even_with_a_java_on_the_path(
    no_java: None, fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_first(monkeypatch, fake_java("good", 'openjdk version "17"'))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=f"JAVA_HOME={tmp_path}/nothing has no bin/java.*{INSTALL}"):
        require_java()


def test_java_home_decides_and_not_the_path(
    no_java: None, fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = fake_java("new", 'openjdk version "17.0.1"'), fake_java("old", 'openjdk version "11.0.2"')
    put_first(monkeypatch, old)
    monkeypatch.setenv("JAVA_HOME", new)
    require_java()
    put_first(monkeypatch, new)
    monkeypatch.setenv("JAVA_HOME", old)
    with pytest.raises(ConfigError, match="is 11"):
        require_java()


@pytest.mark.parametrize("how", ["not executable", "of another machine"])
def test_a_java_that_cannot_run_is_refused_like_an_old_one(
    no_java: None, fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    home = fake_java("jdk", 'openjdk version "17"')
    java = Path(home, "bin", "java")
    if how == "not executable":
        java.chmod(0o644)
    else:
        java.write_bytes(b"\x7fELF of an architecture that is not this one")
    monkeypatch.setenv("JAVA_HOME", home)
    with pytest.raises(ConfigError, match=INSTALL):
        require_java()


def test_no_session_is_started_without_java(no_java: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda _: None))
    for variable in ("DATABRICKS_RUNTIME_VERSION", "PYSPARK_GATEWAY_PORT"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match="Java not found"):
        get_session("tests")


def test_the_console_command_and_conf_local_start_the_same_session() -> None:
    lines = [line.split(maxsplit=1) for line in LOCAL_CONF.read_text().splitlines() if line.startswith("spark.")]
    written = {key: value.strip() for key, value in lines}
    assert written.pop("spark.log.level") == "WARN"  # a session cannot set it for its own start
    assert written == laptop_settings()


def test_the_delta_jar_is_built_for_the_spark_that_is_installed(spark: SparkSession) -> None:
    minor = ".".join(spark.version.split(".")[:2])
    scala = spark.sparkContext._jvm.scala.util.Properties.versionNumberString().rsplit(".", 1)[0]  # type: ignore[union-attr]
    assert f"_{minor}_{scala}:" in delta_jar()


def test_a_session_that_is_there_is_used_and_its_own_settings_are_left_alone(spark: SparkSession) -> None:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    assert before == "2"  # as tests/conftest.py submitted it
    again = get_session("another name")
    assert again.sparkContext is spark.sparkContext
    assert again.conf.get("spark.sql.shuffle.partitions") == before
    assert again.conf.get("spark.sql.session.timeZone") == "UTC"


class FakeContext:
    """What `shuffle_partitions` asks of a session."""

    def __init__(self, master: str, n_cores: int, conf: dict[str, str]) -> None:
        self.master, self.defaultParallelism, self._conf = master, n_cores, conf
        self.sparkContext = self

    def getConf(self) -> FakeContext:  # noqa: N802
        return self

    def get(self, key: str, default: str | None = None) -> str | None:
        return self._conf.get(key.rpartition(".")[2], default)


@pytest.mark.parametrize(
    ("master", "cores", "conf", "partitions"),
    [
        ("local[2]", 2, {}, 8),
        ("local[*]", 32, {}, 96),
        ("yarn", 16, {}, 200),
        ("spark://head:7077", 1400, {}, 4200),
        ("k8s://https://api", 4, {"enabled": "true", "maxExecutors": "100", "cores": "14"}, 4200),
        ("k8s://https://api", 4, {"enabled": "true"}, 200),
        ("k8s://https://api", 4, {"enabled": "false", "maxExecutors": "100", "cores": "14"}, 200),
        ("yarn", 8, {"enabled": "true", "maxExecutors": "10000", "cores": "4"}, 200),  # no bound that somebody chose
        ("yarn", 8, {"enabled": "true", "maxExecutors": "2147483647", "cores": "4"}, 200),
        ("yarn", 8, {"enabled": "true", "maxExecutors": "infinity"}, 200),
    ],
)
def test_a_shuffle_has_partitions_for_all_cores_that_there_are_or_may_be(
    master: str, cores: int, conf: dict[str, str], partitions: int
) -> None:
    assert session.shuffle_partitions(FakeContext(master, cores, conf)) == partitions  # type: ignore[arg-type]


def test_a_session_that_is_given_has_them_for_the_length_of_the_block_unless_somebody_set_them(
    spark: SparkSession,
) -> None:
    key, submitted = session.SHUFFLE_PARTITIONS, spark.conf.get(session.SHUFFLE_PARTITIONS)
    assert submitted is not None
    with session.session_for(spark):
        assert spark.conf.get(key) == submitted
    spark.conf.unset(key)
    try:
        with session.session_for(spark):
            assert spark.conf.get(key) == str(session.shuffle_partitions(spark)) != "200"
        assert spark.conf.get(key, None) is None
    finally:
        spark.conf.set(key, submitted)


@pytest.fixture
def package_log() -> Iterator[logging.Logger]:
    """The package's logger, put back afterwards."""
    package = logging.getLogger("dedup_spark")
    handlers, level, propagate = list(package.handlers), package.level, package.propagate
    package.handlers.clear()
    yield package
    package.handlers[:] = handlers
    package.setLevel(level)
    package.propagate = propagate


def set_up_root(monkeypatch: pytest.MonkeyPatch, *handlers: logging.Handler) -> None:
    """Called by the test itself: pytest gives the root handlers of its own when the test begins."""
    monkeypatch.setattr(logging.getLogger(), "handlers", list(handlers))


def test_progress_goes_to_standard_error_once_however_often_it_is_set_up(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_root(monkeypatch)
    for _ in range(3):
        configure_logging()
    logging.getLogger("dedup_spark.stages.extract").info("extract: 1/2 images")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("INFO extract: 1/2 images\n") == 1


def test_a_program_that_has_set_up_logging_keeps_its_own(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = logging.NullHandler()
    set_up_root(monkeypatch, own)
    configure_logging()
    assert package_log.handlers == []
    assert logging.getLogger().handlers == [own]


# --- a session that somebody gave ---------------------------------------------------------------------------


class GivenSession:
    """What `session_for` touches of a session, with values as Spark has them."""

    def __init__(self, submitted: dict[str, str]) -> None:
        self.settings = {
            "spark.sql.session.timeZone": "Asia/Tokyo",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
            "spark.sql.legacy.parquet.nanosAsLong": "false",
            "spark.sql.sources.fileCompressionFactor": "1.0",
        } | submitted
        self.local = {"spark.jobGroup.id": "mine"}
        self._jvm = object()
        self.conf = SimpleNamespace(
            get=self.settings.get, set=self.settings.__setitem__, unset=self.settings.__delitem__
        )
        self.sparkContext = SimpleNamespace(
            applicationId="local-of-the-user",
            master="yarn",
            defaultParallelism=100,
            getConf=lambda: SimpleNamespace(getAll=submitted.items, get=submitted.get),
            getLocalProperty=self.local.get,
            setLocalProperty=self.local.__setitem__,
        )


@pytest.mark.parametrize("batch_rows", [None, "500"])
def test_a_given_session_has_our_settings_for_a_while_and_is_then_as_it_was(batch_rows: str | None) -> None:
    submitted = {"spark.sql.execution.arrow.maxRecordsPerBatch": batch_rows} if batch_rows else {}
    given = GivenSession(submitted)
    before = dict(given.settings)

    def work() -> None:
        with session.session_for(given) as spark:  # type: ignore[arg-type]
            assert spark is given  # type: ignore[comparison-overlap]
            assert given.settings["spark.sql.session.timeZone"] == "UTC"
            wanted = batch_rows or "1024"  # what a person submitted stays
            assert given.settings["spark.sql.execution.arrow.maxRecordsPerBatch"] == wanted
            assert given.settings[session.SHUFFLE_PARTITIONS] == "300"
            given.settings["spark.sql.legacy.parquet.nanosAsLong"] = "true"  # as a reader of Parquet does
            given.local |= {"spark.jobGroup.id": "r1", "spark.job.description": "match"}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert given.settings == before
    assert given.local == {
        "spark.jobGroup.id": "mine", "spark.job.description": None, "spark.job.interruptOnCancel": None
    }  # fmt: skip


def test_a_session_of_spark_connect_is_refused() -> None:
    with pytest.raises(ConfigError, match="Spark Connect"), session.session_for(object()):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("variable", ["SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED"])
def test_spark_connect_is_refused_before_a_session_is_asked_for(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Databricks sets it up on serverless compute, and on clusters with standard access."""
    monkeypatch.setenv(variable, "sc://host:15002")
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.4")
    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", lambda _: pytest.fail("a session was asked for"))
    for start in (session.require_startable, lambda: get_session("tests")):
        with pytest.raises(ConfigError, match=r"Spark Connect.*a cluster with dedicated access") as e:
            start()
        assert "\n" not in str(e.value)


def test_a_session_of_the_host_that_turns_out_to_be_one_of_spark_connect_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")
    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", lambda _: object())
    with pytest.raises(ConfigError, match="Spark Connect"):
        get_session("tests")


def test_a_session_of_the_host_that_does_not_start_is_a_sentence_with_its_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise PySparkException("An error occurred\nCaused by: java.lang.NoSuchMethodError: 'void a.B.c()'\n\tat x")

    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", fail)
    with pytest.raises(
        ConfigError, match=r"NoSuchMethodError: 'void a\.B\.c\(\)'.*spark\.jars\.packages=io\.delta"
    ) as e:
        get_session("tests")
    assert "\n" not in str(e.value)
