"""The bytes of files by Spark's `binaryFile` reader, for stores that only Spark can read.

A store that only Hadoop's connectors reach, or a location of Unity Catalog that gives its credentials to Spark alone,
can be read neither by fsspec nor by Python on executors. Here Spark reads the files in the JVM, and a task gets their
bytes in small Arrow batches. What Spark does not give (a file that is gone, that may not be read, that is too large)
has no row in the end; `why_absent` finds out the reasons, by threads of the driver.

Cost per file: the driver keeps its path and state (1 KB) while a slice is read; two or three requests of metadata
before the one that reads it, where fsspec makes one. No bytes are shuffled.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import SourceError
from dedup_spark.sources import addresses, spark_reader
from dedup_spark.sources.faults import reason_of_java
from dedup_spark.spark.session import putting_back, setting_of

_COST_OF_A_FILE = 1 << 30
"""Bytes that each file counts for when Spark packs files into tasks: so many more than a file has that the number of
files decides, and not their sizes."""
_LARGEST_ARRAY = 2**31 - 1
_GROUP_WITHOUT_GLOBS, _MOST_GLOBBED_IN_VAIN = 16, 2_000
"""Paths per scan, and per slice, that no pattern finds (`addresses.is_globbed_in_vain`): the plan has all scans."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_QUESTIONS_AT_ONCE = 32
"""Threads of the driver that ask Hadoop about single files."""
_OPENS = ("store_unavailable", "Spark did not give it, though it can be opened now; the next run reads it")
_MAX_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
_BATCH_ROWS = 64
_BATCHES_IN_FLIGHT = 4
"""One in the JVM, one under way, and two in Python: of the last one images are decoded while the next one comes."""


@contextmanager
def scan_settings(spark: SparkSession, limits: ExtractSettings) -> Iterator[None]:
    """In the block the session plans scans of files as extract needs them; then it is as it was.

    About `extract.task_images` files per task, and Arrow batches of at most 64 files, which end when they hold a
    quarter of `extract.inflight_bytes`. Where a Spark knows no limit in bytes, each batch has one file.
    """
    knows_bytes = setting_of(spark, _MAX_BYTES) is not None
    wanted = {
        "spark.sql.files.openCostInBytes": _COST_OF_A_FILE,
        "spark.sql.files.maxPartitionBytes": limits.task_images * _COST_OF_A_FILE,
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": spark.sparkContext.defaultParallelism,
        "spark.sql.sources.binaryFile.maxLength": _LARGEST_ARRAY,
        "spark.sql.execution.arrow.maxRecordsPerBatch": _BATCH_ROWS if knows_bytes else 1,
    }
    if knows_bytes:
        wanted[_MAX_BYTES] = max(1, limits.inflight_bytes // _BATCHES_IN_FLIGHT)
    before = {key: spark.conf.get(key, None) for key in wanted}
    with putting_back(lambda: _put_back(spark, before)):
        for key, value in wanted.items():
            spark.conf.set(key, str(value))
        yield


def _put_back(spark: SparkSession, before: dict[str, str | None]) -> None:
    for key, earlier in before.items():
        if earlier is None:
            spark.conf.unset(key)
        else:
            spark.conf.set(key, earlier)


def with_content(images: DataFrame, root: str, max_bytes: int) -> DataFrame:
    """The rows of `images` (with `uri` and `size_bytes`) that Spark can read, with their bytes as `content`; lazy.

    Use it, and what is made of it, inside `scan_settings`. The driver collects the addresses, and Spark lists those
    files. Files above `max_bytes` are not read. The small side of the join is broadcast, so the bytes stay in the task
    that reads them.

    Raises:
        SourceError: Spark cannot list files of this lake.
    """
    small = images.where(F.col("uri").isNotNull() & (F.coalesce("size_bytes", F.lit(0)) <= max_bytes))
    files = _files(small, root)
    if files is None:
        return images.limit(0).withColumn("content", F.lit(None).cast("binary"))
    read = files.where(F.col("length") <= max_bytes)  # Spark looks at it before it reads
    found = read.select(addresses.from_hadoop(F.col("path"), root).alias("uri"), "content")
    return found.join(F.broadcast(small), "uri").select(*images.columns, "content")


def why_absent(
    spark: SparkSession, files: Iterable[tuple[str, int | None]], limits: ExtractSettings
) -> Iterator[tuple[str, str]]:
    """For each (uri, listed size) that Spark did not read: reason and message, in order.

    Threads of the driver ask Hadoop for each, for as long as any gets an answer about its file. When none got one for
    `extract.fetch_patience_seconds`, the store fails, and the rest are `store_unavailable` without a request.
    """
    conf, answered = addresses.hadoop_conf(spark), time.monotonic()

    def ask(file: tuple[str, int | None]) -> tuple[str, str]:
        nonlocal answered
        uri, size_bytes = file
        if size_bytes is not None and size_bytes > limits.max_object_bytes:
            return "too_large", _too_large(size_bytes, limits.max_object_bytes)
        if time.monotonic() > answered + limits.fetch_patience_seconds:
            return "store_unavailable", "Spark did not give it, and the store answers no questions about others"
        why = _why(spark, conf, uri, size_bytes, limits.max_object_bytes)
        if why is _OPENS or why[0] != "store_unavailable":
            answered = time.monotonic()
        return why

    with ThreadPoolExecutor(_QUESTIONS_AT_ONCE, thread_name_prefix="why") as pool:
        yield from pool.map(ask, files)


def _files(images: DataFrame, root: str) -> DataFrame | None:
    """The files of the addresses, of which some may be gone; None where all are."""
    spark, uri = images.sparkSession, F.col("uri")
    in_vain = addresses.is_globbed_in_vain(uri)
    plain = _texts(images.where(~in_vain).select(addresses.to_hadoop_column(spark, uri, root)))
    others = _texts(images.where(in_vain).select(addresses.to_hadoop_column(spark, uri, root, literal=False)))
    if others.size() > _MOST_GLOBBED_IN_VAIN:
        raise SourceError(
            f"{root}: {others.size():,} files of a slice have a colon and one of []{{}}*?\\ in their path, which Spark "
            "reads one by one; take fewer per slice (extract.slice_images), or let Python read them by --set "
            "extract.bytes_from=fsspec"
        )
    try:
        found = [*_loaded(spark, plain), *_loaded_without_globs(spark, others)]
    except (PySparkException, Py4JError) as e:
        raise SourceError(f"{root}: Spark cannot list its files: {spark_reader.first_line(e)}") from e
    return functools.reduce(DataFrame.union, found) if found else None


def _reader(spark: SparkSession, **options: bool) -> Any:
    passing = {"recursiveFileLookup": True, "ignoreMissingFiles": True, "ignoreCorruptFiles": True}
    return spark.read.options(**passing, **options).format("binaryFile")


def _loaded(spark: SparkSession, paths: Any) -> Iterator[DataFrame]:
    """The files of a Java list of escaped paths, if any of them is there."""
    reader, jvm = _reader(spark), _jvm(spark)
    while paths.size():
        try:
            yield reader._df(reader._jreader.load(jvm.PythonUtils.toSeq(paths)))
            return
        except AnalysisException as e:
            if e.getCondition() != "PATH_NOT_FOUND":
                raise
            left = _present(spark, paths)
            if left.size() == paths.size():  # there is something, and Spark finds it not
                raise
            paths = left


def _loaded_without_globs(spark: SparkSession, paths: Any) -> Iterator[DataFrame]:
    """The files of a Java list of paths as they are.

    Spark has an option for that, of its streaming sources; with it the list is taken once for each of its paths, so the
    groups are small.
    """
    reader = _reader(spark, __globPaths__=False)
    for start in range(0, paths.size(), _GROUP_WITHOUT_GLOBS):
        group = paths.subList(start, min(paths.size(), start + _GROUP_WITHOUT_GLOBS))
        yield reader._df(reader._jreader.load(_jvm(spark).PythonUtils.toSeq(group)))


def _present(spark: SparkSession, paths: Any) -> Any:
    """The paths of a Java list of escaped paths at which there is something, as a new list.

    Spark refuses a list with one path that leads nowhere, and names the first. So threads of the driver ask Hadoop
    for each, once: some hundred per second of a store. A path for which Hadoop has an error counts as not there:
    `why_absent` finds out what it is.
    """
    jvm, conf = _jvm(spark), addresses.hadoop_conf(spark)

    def is_there(path: str) -> bool:
        place = jvm.org.apache.hadoop.fs.Path(_ESCAPED.sub(r"\1", path))
        try:
            return bool(place.getFileSystem(conf).exists(place))
        except Py4JJavaError:
            return False

    texts = list(paths)
    left = jvm.java.util.ArrayList()
    with ThreadPoolExecutor(_QUESTIONS_AT_ONCE, thread_name_prefix="present") as pool:
        for text, found in zip(texts, pool.map(is_there, texts), strict=True):
            if found:
                left.add(text)
    return left


def _texts(column: DataFrame) -> Any:
    """The values of a column of text as a Java list: they do not pass through Python."""
    strings = _jvm(column.sparkSession).org.apache.spark.sql.Encoders.STRING()
    return getattr(column._jdf, "as")(strings).collectAsList()


def _jvm(spark: SparkSession) -> Any:
    return spark.sparkContext._jvm


def _why(spark: SparkSession, conf: Any, uri: str, size_bytes: int | None, max_bytes: int) -> tuple[str, str]:
    path = _jvm(spark).org.apache.hadoop.fs.Path(addresses.to_hadoop(spark, uri, literal=False))
    try:
        filesystem = path.getFileSystem(conf)
        state = filesystem.getFileStatus(path)
        if state.isDirectory():
            return "missing", "there is a folder of this name now"
        if state.getLen() > max_bytes:
            return "too_large", _too_large(state.getLen(), max_bytes)
        if size_bytes is not None and state.getLen() != size_bytes:
            return "changed_since_listing", f"{state.getLen():,} bytes, listed with {size_bytes:,}"
        stream = filesystem.open(path)
        stream.read()
        stream.close()
    except Py4JJavaError as e:
        error = e.java_exception
        return reason_of_java(set(_classes(error)), str(error.toString()))
    return _OPENS


def _classes(error: Any) -> Iterator[str]:
    kind = error.getClass()
    while kind is not None:
        yield str(kind.getName())
        kind = kind.getSuperclass()


def _too_large(size_bytes: int, max_bytes: int) -> str:
    return f"{size_bytes:,} bytes; extract.max_object_bytes is {max_bytes:,}"
