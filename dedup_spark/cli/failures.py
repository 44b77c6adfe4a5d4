"""An error that nobody foresaw, or one of the machine, in one sentence; its trace is in a file, or shown with -v."""

from __future__ import annotations

import errno
import logging
import re
import sys
import traceback

from dedup_spark import console
from dedup_spark.store.log_file import log_file

log = logging.getLogger(__name__)

_OF_SYSTEM = {
    errno.ENOSPC: "the disk is full: free space there",
    errno.EDQUOT: "the quota of this user is used up: free space there",
    errno.EACCES: "this user has no permission for it",
    errno.EPERM: "this user has no permission for it",
    errno.EROFS: "it is on a disk that is mounted read-only",
    errno.EMFILE: "this process may open no more files: raise its limit (ulimit -n)",
    errno.ENOMEM: "there is no free memory",
}


def tell(e: Exception) -> str:
    """One sentence on `e`, and where its trace is."""
    told = in_words(e)
    if console.is_verbose():
        log.error("the trace", exc_info=e)
        return told
    with log_file().open("a", encoding="utf-8", errors="backslashreplace") as file:
        traceback.print_exception(e, file=file)
    return f"{told}; the trace is in {log_file()}, or shown with --verbose"


def in_words(e: BaseException) -> str:
    """What failed, in one line."""
    if isinstance(e, MemoryError):
        return "there is not enough memory for this process"
    if isinstance(e, OSError) and e.errno in _OF_SYSTEM:
        place = f"{e.filename}: " if e.filename is not None else ""
        return f"{place}{_OF_SYSTEM[e.errno]} ({e.strerror})"
    if "py4j" in sys.modules and (told := _of_spark(e)):
        return told
    return f"unexpected error: {type(e).__name__}: {_first_line(e)}{_place(e)}"


def _of_spark(e: BaseException) -> str | None:
    """Where the error is one of Spark, which questions do without: it is imported here."""
    from py4j.protocol import Py4JError, Py4JNetworkError
    from pyspark.errors import PySparkException

    from dedup_spark.spark.java_errors import root_cause

    if isinstance(e, Py4JNetworkError | ConnectionError) or "JVM is not running" in str(e):
        return (
            "Spark's Java has ended in the middle of its work: as a rule the system took it for want of memory "
            f"({_first_line(e)})"
        )
    return root_cause(e) if isinstance(e, PySparkException | Py4JError) else None


def _first_line(e: BaseException) -> str:
    return next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)


def _place(e: BaseException) -> str:
    """The last line of ours that it came through."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if "dedup_spark" in f.filename]
    return f" ({re.sub('^.*/(?=dedup_spark/)', '', frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
