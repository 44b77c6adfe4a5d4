"""What fails in a task, told on the driver in one sentence: Spark hands over traces of Python and Java in one text.

Nothing else reads the error of a task; `java_errors.py` reads those of the JVM, `cli/failures.py` says all others.
`Run.step` has this around every step, and `dedup_spark.api` around what commands do besides.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from dedup_spark.errors import ConfigError, DedupError, TaskError

_OURS = re.compile(r"^dedup_spark\.errors\.(\w+): (.+(?:\n.*\S.*)*)", re.MULTILINE)
"""Kind and message, up to an empty line."""
_OF_JAVA = re.compile(r"\n\s+at |\n\n+JVM stacktrace:|\nDriver stacktrace:")
"""Where the text of an error ends and Java's frames begin."""
_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)
_LOST = re.compile(r"most recent failure: Lost task \S+ in stage \S+ \(TID \d+\)(?: \(.*?\))?: (.+)")
_CAUSES = re.compile(r"^Caused by: (.+)", re.MULTILINE)
_CALLING = "An error occurred while calling "
"""So py4j begins the text of an error of Java, before what it was."""
_OF_A_CRASH = re.compile(r"(Python worker exited unexpectedly \(crashed\))\. Consider setting .*")
"""Spark then names two settings of a debugger, which find nothing where the kernel has ended a process."""
_IN_A_TASK = ("Job aborted", "org.apache.spark.executor.Executor$TaskRunner", "Python worker")


@contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """Raise what failed in a task as a DedupError, `from` the error of Spark; other errors pass as they are.

    Also a decorator. A ConfigError of a task becomes a TaskError: work had begun.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as e:
        told = error_of_task(e) or foreign_error_of_task(e)
        if told is None:
            raise
        raise (TaskError(str(told)) if isinstance(told, ConfigError) else told) from e


def error_of_task(e: Exception) -> DedupError | None:
    """The error of ours that a task raised, as it was raised there; None where it was another one."""
    kinds = {kind.__name__: kind for kind in _kinds_of(DedupError)}
    for part in _OF_JAVA.split(str(e)):
        if found := _OURS.findall(part):
            name, message = found[-1]  # of a chain the last was raised
            return kinds.get(name, DedupError)(_on_one_line(message))
    return None


def _kinds_of(error: type[DedupError]) -> Iterator[type[DedupError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from _kinds_of(kind)


def foreign_error_of_task(e: Exception) -> TaskError | None:
    """What failed a task that we did not foresee; None where no task failed, as for a query that is not valid."""
    text = str(e)
    if not any(sign in f"{text}{getattr(e, '_stackTrace', '')}" for sign in _IN_A_TASK):
        return None
    what = next(filter(None, map(_error_of_python, _OF_JAVA.split(text))), None) or _error_of_java(text)
    return TaskError(f"a task failed: {what}")


def _error_of_python(text: str) -> str | None:
    """Type, message and place of the error at the end of the last traceback; None where there is none."""
    _, traceback, trace = text.rpartition("Traceback (most recent call last):\n")
    if not traceback:
        return None
    lines = trace.splitlines()
    n_lines = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    error = _on_one_line("\n".join(itertools.takewhile(str.strip, lines[n_lines:])))
    frames = _FRAME.findall("\n".join(lines[:n_lines]))
    ours = [frame for frame in frames if "dedup_spark" in frame[0]]
    file, line = (ours or frames or [("an unknown file", "?")])[-1]
    return f"{error} ({re.sub('^.*/(?=dedup_spark/)', '', file)}, line {line})"


def _error_of_java(text: str) -> str:
    """The reason of the task that was lost last, else the cause behind all others, else the first line."""
    if lost := _LOST.search(text):
        return _without_class(lost[1])
    causes = _CAUSES.findall(text)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_CALLING)]
    return _without_class(causes[-1] if causes else (lines or [text])[0])


def _without_class(line: str) -> str:
    said = line.strip().removeprefix(": ").removeprefix("org.apache.spark.SparkException: ")
    return _OF_A_CRASH.sub(r"\1: killed, or ended for lack of memory; the log of its executor says more", said)


def _on_one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())
