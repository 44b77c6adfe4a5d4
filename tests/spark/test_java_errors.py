"""A chain of Java's errors, or what a JVM printed before it gave up, in one sentence."""

from __future__ import annotations

import pytest

from dedup_spark.spark.java_errors import cause_in_words

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
