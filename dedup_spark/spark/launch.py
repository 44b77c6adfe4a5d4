"""Starts the JVM of a local session. What Ivy, Java and Spark print goes to a file, unless a person asked to see it.

Ivy and Java speak before log4j is configured, and Spark's Python workers write to the JVM's standard error, so it is
the JVM's streams that are led away; levels and layout of its log stay as they are. A JVM that others started is theirs.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from dedup_spark import console
from dedup_spark.errors import ConfigError
from dedup_spark.spark.java_errors import cause_in_words, root_cause, whole_text
from dedup_spark.store.log_file import log_file

log = logging.getLogger(__name__)

_END_OF_LOG = 20_000
"""Bytes of a log that are searched for the cause of a failed start."""


def start(builder: SparkSession.Builder, settings: Mapping[str, str]) -> SparkSession:
    """A new local session with these settings, which hold its master and its name.

    Raises:
        ConfigError: it did not start; the message says why, as far as Java tells.
    """
    try:
        with interrupts_as_they_were():
            if not console.is_verbose() and SparkContext._gateway is None:
                _start_quietly(settings)
            return builder.config(map=dict(settings)).getOrCreate()
    except (PySparkException, Py4JError) as e:
        raise ConfigError(_why_not_started(e)) from e


def _start_quietly(settings: Mapping[str, str]) -> None:
    conf = SparkConf(loadDefaults=False)
    conf.setAll(list(settings.items()))
    with log_file().open("ab") as file:
        gateway = launch_gateway(conf, {"stdout": file, "stderr": file})  # type: ignore[no-untyped-call]
    SparkContext(conf=conf, gateway=gateway)


@contextmanager
def interrupts_as_they_were() -> Iterator[None]:
    """A SparkContext that starts in the block leaves the program's handler of Ctrl-C: PySpark puts its own there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before not in (signal.default_int_handler, None):
            signal.signal(signal.SIGINT, before)


def _why_not_started(e: Exception) -> str:
    printed = _end_of_log()
    told = cause_in_words(f"{printed}\n{whole_text(e)}") or f"{root_cause(e).rstrip('.')}. Java says no more"
    where = f"; what it printed is in {log_file()}" if printed else ""
    return f"Spark did not start: {told}{where}"


def _end_of_log() -> str:
    with suppress(FileNotFoundError), log_file().open("rb") as file:
        file.seek(max(0, log_file().stat().st_size - _END_OF_LOG))
        return file.read().decode(errors="replace")
    return ""
