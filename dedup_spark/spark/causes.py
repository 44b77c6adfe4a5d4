"""Why a call of Java failed, in one sentence: its first line often names only what was called."""

from __future__ import annotations

import re

from py4j.protocol import Py4JJavaError

_CAUSED_BY = re.compile(r"^Caused by: (.+)", re.MULTILINE)
_CALLED = re.compile(r"^: (.+)", re.MULTILINE)
"""The error itself, in the text of a Py4JJavaError, whose first line is `An error occurred while calling o52.sql.`"""
_PACKAGE = re.compile(r"^(?:[a-z]\w*\.)+(?=[A-Z])")
_LONGEST = 500


def root_cause(e: BaseException) -> str:
    """What failed, and the last cause that Java's trace names where that says more; no line break is in it.

    An error of Java is told by its class and message, one of PySpark or Python by its message.
    """
    text = str(e).strip()
    called = _CALLED.search(text) if isinstance(e, Py4JJavaError) else None
    what = _without_package(called[1]) if called else (text.splitlines() or [type(e).__name__])[0].strip()
    causes = _CAUSED_BY.findall(f"{text}\n{getattr(e, '_stackTrace', None) or ''}")
    cause = _without_package(causes[-1]) if causes else ""
    message = cause.partition(": ")[2] or cause
    told = f"{what.rstrip('.: ')}: {cause}" if message and message not in what else what
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}..."


def _without_package(error: str) -> str:
    """`NoSuchMethodError: ...` of `java.lang.NoSuchMethodError: ...`."""
    return _PACKAGE.sub("", error.strip())
