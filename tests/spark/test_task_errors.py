"""What tasks raise, as the driver tells it: one sentence, whichever way Spark hands it over."""

from __future__ import annotations

import pytest
from pyspark.errors import PySparkException

from dedup_spark.errors import ArtifactError, ConfigError, DedupError, TableError, TaskError, UncalibratedError
from dedup_spark.spark.task_errors import error_of_task, told_in_a_sentence

OF_SQL = """
  An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "/env/lib/python3.12/site-packages/dedup_spark/stages/reading/embedding.py", line 88, in embed
    raise kind(message)
          ^^^^^^
{error}


JVM stacktrace:
org.apache.spark.SparkException: Job aborted due to stage failure
"""
OF_JAVA = """An error occurred while calling o203.count.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 2.0 failed 4 times, most recent \
failure: Lost task 0.3 in stage 2.0 (TID 22) (10.0.0.7 executor 3): org.apache.spark.SparkException: {reason}
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.hasNext(PythonRunner.scala:596)
Caused by: java.io.EOFException
\t... 23 more

Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:3114)
"""
WRITING = """Job aborted due to stage failure: Task failed while writing rows.
\tat org.apache.spark.sql.execution.datasources.FileFormatWriter.write(FileFormatWriter.scala:1)
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/x/dedup_spark/store/shards.py", line 58, in read
    data = files.read_bytes(path)
           ^^^^^^^^^^^^^^^^^^^^^^
FileNotFoundError: /t/shard-0.faiss

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/x/dedup_spark/store/shards.py", line 60, in read
    raise ArtifactError(...)
dedup_spark.errors.ArtifactError: shard file /t/shard-0.faiss is missing; run `dedup-spark index --force`

\tat org.apache.spark.api.python.BasePythonRunner
"""


def told(text: str) -> DedupError:
    with pytest.raises(DedupError) as e, told_in_a_sentence():
        raise PySparkException(text)
    assert isinstance(e.value.__cause__, PySparkException)
    assert "\n" not in str(e.value)
    return e.value


@pytest.mark.parametrize("kind", [ArtifactError, TableError, UncalibratedError])
def test_an_error_of_ours_keeps_its_kind_and_its_sentence(kind: type[DedupError]) -> None:
    sentence = "model weights s3://b/m.pt: no such file; correct extract.weights"
    found = told(OF_SQL.format(error=f"dedup_spark.errors.{kind.__name__}: {sentence}"))
    assert (type(found), str(found)) == (kind, sentence)


def test_a_sentence_of_several_lines_becomes_one() -> None:
    found = told(OF_SQL.format(error="dedup_spark.errors.ArtifactError: one\n  and two"))
    assert str(found) == "one and two"


def test_settings_that_a_task_finds_wrong_are_a_failure_and_no_refusal_to_start() -> None:
    trace = OF_SQL.format(error="dedup_spark.errors.ConfigError: model 'onnx' needs onnxruntime")
    assert type(told(trace)) is TaskError
    assert type(error_of_task(PySparkException(trace))) is ConfigError


def test_of_a_chain_the_last_error_is_told() -> None:
    found = told(WRITING)
    assert type(found) is ArtifactError
    assert str(found) == "shard file /t/shard-0.faiss is missing; run `dedup-spark index --force`"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OF_SQL.format(error="ValueError: first line\nand a second"),
         "a task failed: ValueError: first line and a second (dedup_spark/stages/reading/embedding.py, line 88)"),
        (OF_SQL.format(error="MemoryError"),
         "a task failed: MemoryError (dedup_spark/stages/reading/embedding.py, line 88)"),
        (OF_JAVA.format(reason="Python worker exited unexpectedly (crashed)"),
         "a task failed: Python worker exited unexpectedly (crashed)"),
        ("Job aborted due to stage failure: ShuffleMapStage 3 has failed the maximum allowable number of times: 4.",
         "a task failed: Job aborted due to stage failure: ShuffleMapStage 3 has failed the maximum allowable number "
         "of times: 4."),
        ("An error occurred while calling o702.parquet.\n: org.apache.spark.SparkException: EOFException occurred "
         "while reading the port number from pyspark.daemon's stdout.\n"
         "\tat org.apache.spark.executor.Executor$TaskRunner.run",
         "a task failed: EOFException occurred while reading the port number from pyspark.daemon's stdout."),
        ("An error occurred while calling o7.save.\n: org.apache.spark.SparkException: Job aborted.\n\tat x.Y\n"
         "Caused by: org.apache.spark.SparkException: Task failed while writing rows.\n\tat x.Z\n"
         "Caused by: java.io.IOException: No space left on device\n\tat java.io.FileOutputStream",
         "a task failed: java.io.IOException: No space left on device"),
    ],
    ids=["python", "no message", "a crash", "no task named", "by py4j", "a cause behind others"],
)  # fmt: skip
def test_an_error_that_nobody_foresaw_is_told_with_its_place(text: str, said: str) -> None:
    found = told(text)
    assert (type(found), str(found)) == (TaskError, said)


def test_sparks_own_error_in_a_task_is_known_by_its_trace() -> None:
    error = PySparkException("[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012\n== SQL ==\n1/0")
    error._stackTrace = "at org.apache.spark.executor.Executor$TaskRunner.run(Executor.scala:719)"  # type: ignore[attr-defined]
    said = r"^a task failed: \[DIVIDE_BY_ZERO\] Division by zero\. SQLSTATE: 22012$"
    with pytest.raises(TaskError, match=said), told_in_a_sentence():
        raise error


@pytest.mark.parametrize(
    "error",
    [PySparkException("[UNRESOLVED_COLUMN] `x`"), ZeroDivisionError("x"), ArtifactError("x"), KeyboardInterrupt()],
)
def test_what_failed_outside_of_tasks_passes_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as e, told_in_a_sentence():
        raise error
    assert e.value is error


def test_a_worker_that_was_killed_is_told_without_the_settings_of_a_debugger() -> None:
    crashed = (
        "Python worker exited unexpectedly (crashed). Consider setting 'spark.sql.execution.pyspark.udf.faulthandler."
        "enabled' or'spark.python.worker.faulthandler.enabled' configuration to 'true' for the better Python traceback."
    )
    assert str(told(OF_JAVA.format(reason=crashed))) == (
        "a task failed: Python worker exited unexpectedly (crashed): killed, or ended for lack of memory; the log of "
        "its executor says more"
    )
