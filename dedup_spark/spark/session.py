"""The only builder of a SparkSession.

Under spark-submit, on Databricks or in any host that already has a session, that session is used and its resources
are left alone. Otherwise (the console command on a laptop) a local one is started.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyspark
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from dedup_spark.console import configure_logging
from dedup_spark.errors import ConfigError
from dedup_spark.spark import launch, local_start, surroundings
from dedup_spark.spark.delta import delta_jar, instead_of_wrong_jar
from dedup_spark.spark.java import require_java as require_java
from dedup_spark.spark.java_errors import root_cause

log = logging.getLogger(__name__)


SHUFFLE_PARTITIONS = "spark.sql.shuffle.partitions"
ROWS_PER_FILE_BYTE = "spark.sql.sources.fileCompressionFactor"
"""By how much rows are taken to be larger than the file that they are in."""

_LOCAL_MASTER = {
    # With the cluster-sized defaults (200 shuffle partitions, 50 for a Delta snapshot) a table of
    # 1,000 rows takes 30 s on two cores.
    "spark.databricks.delta.snapshotPartitions": "2",
}

_SMALL_LAKE = {
    # Some 500 plans over few rows run once each: to write Java for them, compile it and load it costs more than to
    # interpret the plans.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # One partition holds all files of a small table, and two the rows of a shuffle: each further one is an empty task.
    SHUFFLE_PARTITIONS: "2",
    "spark.databricks.delta.snapshotPartitions": "1",
}

_RUNTIME = {
    "spark.sql.session.timeZone": "UTC",
    # Most rows that cross to Python are about 1 KB (uri, hashes, embedding): batches of about 1 MB; with thumbnails 10.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1024",
    # Spark takes the bytes of a file for those of its rows, and by them whether a join sends one side to the driver and
    # to all nodes. Addresses and ids take 10 to 20 times their bytes in files: a million made 160 MB out of 10.
    ROWS_PER_FILE_BYTE: "20",
}

_LEAST_LOCAL, _LEAST_ON_A_CLUSTER = 8, 200
_MOST_CORES = 10_000
"""What dynamic allocation may grow to beyond that bounds nothing: platforms name 10,000 executors, or 2^31 - 1."""
_SET_BY_READERS = ("spark.sql.legacy.parquet.nanosAsLong",)  # sources/spark_reader.py
_JOB_GROUP = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")


def get_session(app_name: str, *, is_small: bool = False) -> SparkSession:
    """The host's session if there is one, else a new local one.

    What is set here gives way to what a person has set, in Spark's own places or in the session of a notebook.
    `is_small`: the lake and its tables are, so that a session which is started here suits many plans over few rows.

    Raises:
        ConfigError: the host's session is one of Spark Connect or does not start; or a local session is needed and does
            not start: Java 17 or newer is not there, or the user has no name.
    """
    configure_logging()
    hosted = surroundings.is_hosted()
    require_startable()
    is_ours = not hosted and SparkSession.getActiveSession() is None
    spark = start_local(app_name, is_small=is_small) if is_ours else _hosted(app_name)
    submitted = {key for key, _ in spark.sparkContext.getConf().getAll()}
    if local_start.is_ours(spark):
        _fit_to_size(spark, submitted, is_small=is_small)
    settings = dict(_RUNTIME)
    if _is_local(spark):
        settings |= _LOCAL_MASTER
    if is_ours or not _is_set(spark, SHUFFLE_PARTITIONS):
        settings[SHUFFLE_PARTITIONS] = str(shuffle_partitions(spark))
    if local_start.is_ours(spark) and is_small:
        settings |= _SMALL_LAKE
    for key, value in settings.items():
        if key not in submitted:
            spark.conf.set(key, value)
    return spark


def shuffle_partitions(spark: SparkSession) -> int:
    """Partitions of a shuffle: three for each core that the cluster has or may grow to.

    At least 200 on a cluster, whose tables may be large for its cores, and 8 on one machine. Spark joins those that
    turn out small (adaptive execution), and has 200 whatever the cluster: some tens of gigabytes each at 100 million
    images, and six cores in seven idle on a cluster of 1,400.
    """
    least = _LEAST_LOCAL if _is_local(spark) else _LEAST_ON_A_CLUSTER
    return max(least, 3 * max(spark.sparkContext.defaultParallelism, _cores_to_grow_to(spark)))


def _cores_to_grow_to(spark: SparkSession) -> int:
    """Of dynamic allocation, where it is bounded: at the start of a session few of its executors are there yet."""
    conf = spark.sparkContext.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false") != "true":
        return 0
    most, cores = (conf.get(key, "") for key in ("spark.dynamicAllocation.maxExecutors", "spark.executor.cores"))
    n_cores = int(most) * int(cores or 1) if most.isdecimal() else 0
    return n_cores if n_cores <= _MOST_CORES else 0


def _is_local(spark: SparkSession) -> bool:
    return str(spark.sparkContext.master).startswith("local")


def _is_set(spark: SparkSession, key: str) -> bool:
    """Whether anybody has set it, of the session too; without a value of its own `get` gives what it is handed."""
    return spark.conf.get(key, None) is not None


def start_local(app_name: str, *, is_small: bool = False, archive_to: Path | None = None) -> SparkSession:
    """See `local_start.start`; `get_session` then gives this session, with the settings of our rows."""
    return local_start.start(SparkSession.builder, app_name, is_small=is_small, archive_to=archive_to)


def _fit_to_size(spark: SparkSession, submitted: set[str], *, is_small: bool) -> None:
    """Take back what an earlier command of this process has set for a small lake, where this one's is not."""
    for key in () if is_small else _SMALL_LAKE.keys() - submitted:
        spark.conf.unset(key)


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
def with_settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Settings of SQL for the length of the block; other threads that use the session meanwhile see them too."""
    before = {key: spark.conf.get(key, None) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)

    def put_back() -> None:
        for key, value in before.items():
            if value is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, value)

    with putting_back(put_back):
        yield


@contextmanager
def session_for(given: SparkSession | None, *, is_small: bool = False) -> Iterator[SparkSession]:
    """The session that a caller gave, or that of `get_session`; it is never stopped here.

    A given one has, for the length of the block, the settings that rows of ours count on (UTC, batches of about 1 MB):
    other threads that use it meanwhile see them too. Its settings and its job group are then as they were.

    Raises:
        ConfigError: a session of Spark Connect.
    """
    if given is None:
        yield get_session("dedup-spark", is_small=is_small)
        return
    configure_logging()
    _require_classic(given)
    context = given.sparkContext
    settings = {key: given.conf.get(key) for key in (*_RUNTIME, *_SET_BY_READERS)}
    group = {key: context.getLocalProperty(key) for key in _JOB_GROUP}
    submitted = {key for key, _ in context.getConf().getAll()}
    if local_start.is_ours(given):  # of an earlier command without a session, perhaps on a small lake
        _fit_to_size(given, submitted, is_small=is_small)
    by_cores = {} if _is_set(given, SHUFFLE_PARTITIONS) else {SHUFFLE_PARTITIONS: str(shuffle_partitions(given))}
    try:
        for key, value in _RUNTIME.items():
            if key not in submitted:
                given.conf.set(key, value)
        with with_settings(given, by_cores):
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
