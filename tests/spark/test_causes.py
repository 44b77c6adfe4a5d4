"""The cause of an error of Java in a sentence; the texts are those that Spark and py4j give."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from dedup_spark.spark.causes import root_cause

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
    error = PySparkException("Access denied: s3a://b/k")
    error._stackTrace = "x\nCaused by: java.nio.file.AccessDeniedException: s3a://b/k\n"  # type: ignore[attr-defined]
    assert root_cause(error) == "Access denied: s3a://b/k"


def test_a_cause_without_a_message_is_its_class() -> None:
    error = SimpleNamespace(_stackTrace="x\nCaused by: java.io.EOFException\n")
    failed = PySparkException("the file cannot be read.")
    failed._stackTrace = error._stackTrace  # type: ignore[attr-defined]
    assert root_cause(failed) == "the file cannot be read: EOFException"


def test_a_sentence_stays_short() -> None:
    assert len(root_cause(PySparkException("x" * 10_000))) < 600
