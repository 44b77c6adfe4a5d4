"""The only builder of a SparkSession.

Under spark-submit, on Databricks or in any host that already has a session, that session is used and its resources
are left alone. Otherwise (the console command on a laptop) a local one is started.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyspark
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from dedup_spark.console import configure_logging
from dedup_spark.errors import ConfigError
from dedup_spark.spark import launch, surroundings
from dedup_spark.spark.delta import DELTA_SETTINGS, delta_jar, instead_of_wrong_jar
from dedup_spark.spark.java import require_java as require_java
from dedup_spark.spark.java_errors import root_cause
from dedup_spark.store import files

log = logging.getLogger(__name__)


_COMPILE_LATER = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)
"""Ten times the JVM's own thresholds for its best compiler. With its own the compiler takes 15 s of processor time for
the plans of one small extract, beside the decoders; with these 5 s. Code that runs long is compiled all the same."""

_KEPT_CLASSES = "2000"
"""By default Spark keeps the compiled code of 100 plans; a run has some 500. Without this each step compiles its own
again: a fifth of the JVM's processor time in a match of 20,000 images (21 s; 17 s with this). On a cluster, where steps
take long, it matters less."""

_LAPTOP = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "4g",
    "spark.driver.extraJavaOptions": _COMPILE_LATER,
    "spark.sql.codegen.cache.maxEntries": _KEPT_CLASSES,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Python workers do not import from the current folder, where the files of a lake may lie.
    "spark.executorEnv.PYTHONSAFEPATH": "1",
    **DELTA_SETTINGS,
}

_SMALL_MASTER = {
    # With the cluster-sized defaults (200 shuffle partitions, 50 for a Delta snapshot) a table of
    # 1,000 rows takes 30 s on two cores.
    "spark.sql.shuffle.partitions": "8",
    "spark.databricks.delta.snapshotPartitions": "2",
}

_RUNTIME = {
    "spark.sql.session.timeZone": "UTC",
    # Most rows that cross to Python are about 1 KB (uri, hashes, embedding): batches of about 1 MB; with thumbnails 10.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1024",
}

_SET_BY_READERS = ("spark.sql.legacy.parquet.nanosAsLong",)  # sources/spark_reader.py
_JOB_GROUP = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")


def get_session(app_name: str) -> SparkSession:
    """The host's session if there is one, else a new local one.

    Raises:
        ConfigError: the host's session is one of Spark Connect or does not start; or a local session is needed and does
            not start: Java 17 or newer is not there, or the user has no name.
    """
    configure_logging()
    hosted = surroundings.is_hosted()
    require_startable()
    is_ours = not hosted and SparkSession.getActiveSession() is None
    spark = _start_local(app_name) if is_ours else _hosted(app_name)
    settings = dict(_RUNTIME)
    if str(spark.sparkContext.master).startswith("local"):
        settings |= _SMALL_MASTER
    submitted = {key for key, _ in spark.sparkContext.getConf().getAll()}
    for key, value in settings.items():
        if key not in submitted:
            spark.conf.set(key, value)
    return spark


def laptop_settings() -> dict[str, str]:
    """Of a session that is started here. Raises ConfigError for a Spark that no Delta is built for."""
    return {"spark.jars.packages": delta_jar(), **_LAPTOP}


def _hosted(app_name: str) -> SparkSession:
    """The session of the host."""
    try:
        with launch.interrupts_as_they_were():
            spark = SparkSession.builder.appName(app_name).getOrCreate()
    except (PySparkException, Py4JError) as e:
        raise ConfigError(
            f"the session of Spark {pyspark.__version__} did not start: {root_cause(e)}. Where a class or method is "
            f"missing, a jar was built for another Spark; for Delta Lake {instead_of_wrong_jar(pyspark.__version__)}"
        ) from e
    _require_classic(spark)
    return spark


def _start_local(app_name: str) -> SparkSession:
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    home = surroundings.settings_of_home()
    own = {
        "spark.app.name": app_name,
        "spark.master": "local[*,4]",  # 4 attempts: without the number a local master does not retry a task
        "spark.sql.warehouse.dir": str(files.private_folder("warehouse")),
    }
    fetches = not surroundings.has_jar(delta_jar(), home.get("spark.jars.ivy"))
    log.info("starting Spark on this machine%s", ", which first fetches Delta's jars, once" if fetches else "")
    with surroundings.names_in_utf_8():
        return launch.start(SparkSession.builder, {**laptop_settings(), **own, **home})


@contextmanager
def putting_back(put_back: Callable[[], None]) -> Iterator[None]:
    """`put_back` is called after the block. Where the block failed, its error is raised, and that of `put_back` logged.

    A session that died cannot be put back, and that is not why the step failed.
    """
    try:
        yield
    except BaseException:
        try:
            put_back()
        except Exception as e:
            log.warning("settings of the session could not be put back after an error: %s: %s", type(e).__name__, e)
        raise
    put_back()


def setting_of(spark: SparkSession, key: str) -> str | None:
    """What a setting of SQL is, by default too; None where this Spark knows none of that name.

    `spark.conf.get(key, None)` gives None also where nobody has set it.
    """
    try:
        return spark.conf.get(key)
    except (PySparkException, Py4JError):
        return None


@contextmanager
def session_for(given: SparkSession | None) -> Iterator[SparkSession]:
    """The session that a caller gave, or that of `get_session`; it is never stopped here.

    A given one has, for the length of the block, the settings that rows of ours count on (UTC, batches of about 1 MB):
    other threads that use it meanwhile see them too. Its settings and its job group are then as they were.

    Raises:
        ConfigError: a session of Spark Connect.
    """
    if given is None:
        yield get_session("dedup-spark")
        return
    configure_logging()
    _require_classic(given)
    context = given.sparkContext
    settings = {key: given.conf.get(key) for key in (*_RUNTIME, *_SET_BY_READERS)}
    group = {key: context.getLocalProperty(key) for key in _JOB_GROUP}
    submitted = {key for key, _ in context.getConf().getAll()}
    try:
        for key, value in _RUNTIME.items():
            if key not in submitted:
                given.conf.set(key, value)
        yield given
    finally:
        for key, before in settings.items():
            if given.conf.get(key) != before:
                given.conf.set(key, str(before))
        for key, named in group.items():
            context.setLocalProperty(key, named)  # type: ignore[arg-type]  # null takes it away


_NO_CONNECT = (
    "this is Spark Connect, which has no resource profiles for the model and no access to files through Spark's Java: "
    "take a classic session (on Databricks: a cluster with dedicated access, neither serverless nor standard access; "
    "elsewhere: unset SPARK_REMOTE)"
)


def _require_classic(spark: SparkSession) -> None:
    if not hasattr(spark, "_jvm"):
        raise ConfigError(_NO_CONNECT)


def require_startable() -> None:
    """Raise ConfigError when `get_session` would get Spark Connect, or would have to start Spark and could not."""
    if is_remote() or "SPARK_REMOTE" in os.environ:
        raise ConfigError(_NO_CONNECT)
    if not surroundings.is_hosted() and SparkSession.getActiveSession() is None:
        require_java()
        surroundings.require_user()
        delta_jar()  # for the installed Spark
