"""Why a call to the JVM failed, in one sentence: Spark hands over a chain of errors of Java with all their frames."""

from __future__ import annotations

import re

from py4j.protocol import Py4JJavaError

_ERROR = r"[\w.$]+(?:Exception|Error|Failure)"
_CAUSE = re.compile(rf"^(?:Caused by: |(?:: |Exception in thread \S+ )(?={_ERROR}))(\S.*)$", re.M)
"""An error in a chain; of most chains the last is the cause. Those that are set in belong to suppressed ones."""
_CALLED = re.compile(r"^: (.+)", re.M)
"""The error itself, in the text of a Py4JJavaError, whose first line is `An error occurred while calling o52.sql.`"""
_PACKAGE = re.compile(r"^(?:[a-z]\w*\.)+(?=[A-Z])")
_WRAPPERS = ("InvocationTargetException", "ExecutionException", "UndeclaredThrowableException", "RuntimeException")
_KNOWN: tuple[tuple[str, str], ...] = (
    (r"No space left on device|Disk quota exceeded|ENOSPC",
     "the disk is full (of the tables, or of Spark's temporary files): free space, or set SPARK_LOCAL_DIRS"),
    (r"insufficient memory for the Java|Could not reserve enough space|Cannot allocate memory|pthread_create failed",
     "there is less free memory than Java asks for (spark.driver.memory): end other programs, or ask for less with "
     'PYSPARK_SUBMIT_ARGS="--driver-memory 2g pyspark-shell"'),
    (r"OutOfMemoryError|GC overhead limit exceeded",
     "Spark's Java has too little memory: give it more (spark.driver.memory, spark.executor.memory)"),
    (r"unresolved dependency|UNRESOLVED DEPENDENCIES|download failed|FAILED DOWNLOADS",
     "Delta's jars could not be fetched: there is no network, or a proxy stands before it; they are needed once, and "
     "then kept below ~/.ivy2.5.2"),
    (r"Address already in use",
     "no port is free where Spark looks for one: end other Spark programs, or let it choose any (spark.driver.port=0)"),
    (r"Cannot assign requested address",
     "Spark cannot listen at the address that it was given: set SPARK_LOCAL_IP=127.0.0.1, or unset it"),
    (r"UnsupportedClassVersionError", "this Java is older than what Spark's jars were built for: use Java 17 or newer"),
    (r"Permission denied|AccessControlException|AccessDeniedException",
     "this user may not read or write a file that is needed"),
)  # fmt: skip
"""What Java or a system says, and what it means to the one who has to mend it."""
_LONGEST, _LONGEST_LINE = 500, 200


def cause_in_words(text: str) -> str | None:
    """The sentence for a text of Java's, with the line that it was made from; None where no error of Java is in it.

    Args:
        text: Of an error that py4j or PySpark raised, or the end of what a JVM printed.
    """
    if known := _known(text):
        return known
    causes = _causes(text)
    named = [cause for cause in causes if ": " in cause and not cause.startswith(_WRAPPERS)] or causes
    return _short(named[-1], _LONGEST) if named else None


def root_cause(e: BaseException) -> str:
    """The sentence for an error of Java that is known; else what failed, and its last cause where that says more.

    No line break is in it. An error of Java is told by its class and message, one of PySpark or Python by its message.
    """
    text = whole_text(e)
    if known := _known(text):
        return known
    called = _CALLED.search(text) if isinstance(e, Py4JJavaError) else None
    what = _without_package(called[1]) if called else (text.splitlines() or [type(e).__name__])[0].strip()
    cause = next(reversed(_causes(text)), "")
    message = cause.partition(": ")[2] or cause
    return _short(f"{what.rstrip('.: ')}: {cause}" if message and message not in what else what, _LONGEST)


def whole_text(e: BaseException) -> str:
    """The message of an error with the trace of Java, which PySpark keeps beside it and py4j in it."""
    return f"{e}\n{getattr(e, '_stackTrace', None) or ''}".strip()


def _known(text: str) -> str | None:
    for pattern, words in _KNOWN:
        if found := re.search(rf"^(?!\s+at ).*(?:{pattern}).*$", text, re.M):
            line = re.sub(r"^(Caused by|Exception in thread \S+|:)[: ]*", "", found[0].strip())
            return f"{words} ({_short(line, _LONGEST_LINE)})"
    return None


def _causes(text: str) -> list[str]:
    return [_without_package(cause) for cause in _CAUSE.findall(text)]


def _without_package(error: str) -> str:
    """`NoSuchMethodError: ...` of `java.lang.NoSuchMethodError: ...`."""
    return _PACKAGE.sub("", error.strip())


def _short(line: str, longest: int) -> str:
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
