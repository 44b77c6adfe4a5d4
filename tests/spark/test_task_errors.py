"""Errors that tasks raise, as the driver tells them."""

from __future__ import annotations

from dedup_spark.errors import ArtifactError, ConfigError, error_of_task

TRACE = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/x/embedding.py", line 1, in embed
    raise ArtifactError("...")
dedup_spark.errors.{kind}: model weights s3://b/m.pt: no such file; correct extract.weights

JVM stacktrace:
org.apache.spark.SparkException
"""


def test_an_error_of_ours_is_found_in_sparks_trace() -> None:
    for kind in (ArtifactError, ConfigError):
        told = error_of_task(TRACE.format(kind=kind.__name__))
        assert type(told) is kind
        assert str(told) == "model weights s3://b/m.pt: no such file; correct extract.weights"


def test_other_errors_are_left_as_they_are() -> None:
    assert error_of_task("Traceback (most recent call last):\nZeroDivisionError: division by zero") is None
