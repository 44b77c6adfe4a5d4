"""What a failed listing says: the deepest cause that says anything. No Spark."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pyspark.errors import PySparkException

from dedup_spark.errors import SourceError
from dedup_spark.sources.spark_reader import listing_errors


@dataclass
class Cause:
    """A throwable of Java, as py4j shows it."""

    message: str | None
    cause: Cause | None = None

    def getMessage(self) -> str | None:  # noqa: N802
        return self.message

    def getCause(self) -> Cause | None:  # noqa: N802
        return self.cause


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (Cause("Job aborted", Cause("Python worker exited", Cause(None))), "Python worker exited"),
        (Cause("Job aborted", Cause("disk full\n\tat java.io.X")), "disk full"),
        (Cause(None), "a query failed"),
        (None, "a query failed"),
    ],
)
def test_it_is_never_none(cause: Cause | None, told: str) -> None:
    error = PySparkException("a query failed")
    error.java_exception = cause  # type: ignore[attr-defined]
    with (
        pytest.raises(SourceError, match=rf"^lake x: its listing ended early: {told}; what is in it"),
        listing_errors("lake x"),
    ):
        raise error
