"""A chain of Java's errors, or what a JVM printed before it gave up, in one sentence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from dedup_spark.spark.java_errors import cause_in_words, root_cause

CHAIN = """An error occurred while calling o151.execute.
: org.apache.spark.SparkException: Job aborted due to stage failure
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:2844)
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.util.concurrent.ExecutionException: java.lang.IllegalStateException: the log is damaged
\tat java.base/java.util.concurrent.FutureTask.report(FutureTask.java:122)
Caused by: java.lang.IllegalStateException: the log is damaged
\t... 12 more
"""


def test_the_last_error_of_a_chain_is_its_cause() -> None:
    assert cause_in_words(CHAIN) == "IllegalStateException: the log is damaged"


def test_a_text_without_an_error_of_java_has_no_cause() -> None:
    assert cause_in_words("WARN Utils: your hostname resolves to a loopback address") is None
    assert cause_in_words("") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Caused by: java.io.IOException: No space left on device", "the disk is full"),
        ("java.io.IOException: Disk quota exceeded", "the disk is full"),
        ("Error: Could not reserve enough space for 8388608KB object heap", "less free memory than Java asks for"),
        ("# There is insufficient memory for the Java Runtime Environment to continue.", "less free memory"),
        ("java.lang.OutOfMemoryError: Java heap space", "too little memory"),
        ("::          UNRESOLVED DEPENDENCIES         ::", "could not be fetched: there is no network"),
        ("[NOT FOUND  ] io.delta#delta-spark_4.1_2.13;4.4.0 download failed", "could not be fetched"),
        ("java.net.BindException: Address already in use: Service 'sparkDriver' failed after 16 retries", "no port is"),
        ("java.net.BindException: Cannot assign requested address: Service 'sparkDriver'", "SPARK_LOCAL_IP=127.0.0.1"),
        ("java.lang.UnsupportedClassVersionError: has been compiled by a more recent version", "use Java 17 or newer"),
        ("java.io.FileNotFoundException: /t/x (Permission denied)", "may not read or write"),
    ],
)
def test_what_a_person_can_mend_is_said_with_how(line: str, said: str) -> None:
    told = cause_in_words(f":: loading settings\n{line}\n\tat org.apache.Spark.main(Spark.scala:1)\n")
    assert told is not None
    assert said in told
    assert "\n" not in told
    assert line[:30].removeprefix("Caused by: ").strip(": ") in told


def test_what_a_person_can_mend_is_said_of_the_trace_beside_a_message_too() -> None:
    error = PySparkException("Writing failed.")
    error._stackTrace = "x\n\tat a\nCaused by: java.io.IOException: No space left on device\n\tat b"  # type: ignore[attr-defined]
    told = root_cause(error)
    assert told.startswith("the disk is full")
    assert told.endswith("(java.io.IOException: No space left on device)")


def test_frames_of_a_trace_are_no_causes() -> None:
    assert cause_in_words("\tat org.x.AccessControlException.<init>(AccessControlException.java:1)") is None


# --- of an error, the texts as Spark and py4j give them ------------------------------------------------------

WRONG_JAR = """An error occurred while calling o26.sessionState.
: java.util.concurrent.ExecutionException: java.lang.NoClassDefFoundError: org/apache/spark/sql/catalyst/X
\tat com.google.common.util.concurrent.AbstractFuture.getDoneValue(AbstractFuture.java:1)
\tSuppressed: java.io.IOException: closing
\t\tat java.base/java.lang.Thread.run(Thread.java:840)
\tCaused by: java.io.EOFException: of the suppressed one
Caused by: java.lang.NoClassDefFoundError: org/apache/spark/sql/catalyst/X
\tat org.apache.spark.sql.delta.Y.<init>(Y.scala:1)
Caused by: java.lang.ClassNotFoundException: org.apache.spark.sql.catalyst.X
\t... 40 more
"""
NO_SCHEME = 'No FileSystem for scheme "gs"'
NO_CAUSE = (
    "An error occurred while calling o26.x.\n"
    f": org.apache.hadoop.fs.UnsupportedFileSystemException: {NO_SCHEME}\n\tat a.B"
)
NO_SCHEMA = "[SCHEMA_NOT_FOUND] The schema `x` cannot be found."


class JavaError(Py4JJavaError):
    """py4j asks the JVM for its text."""

    def __init__(self, said: str) -> None:
        self.said = said

    def __str__(self) -> str:
        return self.said


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            JavaError(WRONG_JAR),
            "ExecutionException: java.lang.NoClassDefFoundError: org/apache/spark/sql/catalyst/X: "
            "ClassNotFoundException: org.apache.spark.sql.catalyst.X",
        ),
        (JavaError(NO_CAUSE), f"UnsupportedFileSystemException: {NO_SCHEME}"),
        (PySparkException(f"{NO_SCHEMA}\nVerify it."), NO_SCHEMA),
        (PySparkException(""), "PySparkException"),
        (OSError("a\nb"), "a"),
    ],
)  # fmt: skip
def test_the_cause_is_told_in_a_sentence(error: Exception, told: str) -> None:
    assert root_cause(error) == told


def test_the_trace_beside_a_message_is_searched_too() -> None:
    error = PySparkException("Unable to instantiate SessionCatalog.")
    error._stackTrace = "x\n\tat a\nCaused by: ERROR XSDB6: Another instance of Derby may have booted the database.\n"  # type: ignore[attr-defined]
    assert root_cause(error) == (
        "Unable to instantiate SessionCatalog: ERROR XSDB6: Another instance of Derby may have booted the database."
    )


def test_a_cause_that_the_message_has_already_is_not_repeated() -> None:
    error = PySparkException("The bucket is gone: s3a://b/k")
    error._stackTrace = "x\nCaused by: java.io.FileNotFoundException: s3a://b/k\n"  # type: ignore[attr-defined]
    assert root_cause(error) == "The bucket is gone: s3a://b/k"


def test_a_cause_without_a_message_is_its_class() -> None:
    error = SimpleNamespace(_stackTrace="x\nCaused by: java.io.EOFException\n")
    failed = PySparkException("the file cannot be read.")
    failed._stackTrace = error._stackTrace  # type: ignore[attr-defined]
    assert root_cause(failed) == "the file cannot be read: EOFException"


def test_a_sentence_stays_short() -> None:
    assert len(root_cause(PySparkException("x" * 10_000))) < 600
