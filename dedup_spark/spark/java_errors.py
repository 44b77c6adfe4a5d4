"""Why a call to the JVM failed, in one sentence: Spark hands over a chain of errors of Java with all their frames."""

from __future__ import annotations

import re

_CAUSE = re.compile(
    r"^(?:Caused by: |: |Exception in thread \S+ )([\w.$]+(?:Exception|Error|Failure)\S*?)(?:: (.*))?$", re.M
)
"""An error in a chain; of most chains the last is the cause."""
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


def cause_in_words(text: str) -> str | None:
    """The sentence for a text of Java's, with the line that it was made from; None where no error of Java is in it.

    Args:
        text: Of an error that py4j or PySpark raised, or the end of what a JVM printed.
    """
    for pattern, words in _KNOWN:
        if found := re.search(rf"^.*(?:{pattern}).*$", text, re.M):
            return f"{words} ({_short(found[0])})"
    causes = [(name.rpartition(".")[2], said) for name, said in _CAUSE.findall(text)]
    named = [cause for cause in causes if cause[1] and not cause[0].startswith(_WRAPPERS)] or causes
    return ": ".join(filter(None, named[-1])) if named else None


def _short(line: str) -> str:
    line = re.sub(r"^(Caused by|Exception in thread \S+|:)[: ]*", "", line.strip())
    return line if len(line) <= 200 else f"{line[:197]}..."
