"""Errors of our own raised in a task, as themselves on the driver: Spark hands over a Java trace with their text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from dedup_spark import errors


@contextmanager
def raised_in_tasks() -> Iterator[None]:
    """Raise a DedupError that failed the Spark job inside; whatever else failed it stays as it is."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as e:
        found = re.search(r"dedup_spark\.errors\.(\w+): (.+)", str(e))
        if found is None:
            raise
        raise getattr(errors, found[1])(found[2].strip()) from e
