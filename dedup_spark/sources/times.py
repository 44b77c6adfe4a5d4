"""When an object was last written: each filesystem has its own name for it, and some have times that no calendar has.

Such a time (the year 30828, the year 0, NaN) is unknown: it must not end the listing of all other objects. So is one
that a nanosecond counter of 64 bits does not hold: Spark writes times to Parquet in a form (INT96) that most other
readers take for such a counter, and they would see another year (2185 for 1601, with which Windows begins to count).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

FIRST, END = datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)
"""Times from the first on and before the second are known to every reader."""
_NAMES = ("LastModified", "last_modified", "mtime", "modificationTime", "updated", "created")
_IN_MILLISECONDS = "modificationTime"  # of WebHDFS


def modified_at(facts: Mapping[str, Any]) -> datetime | None:
    """The time in what `info` or `ls` of fsspec says of an object; None where there is none between FIRST and END."""
    for name in _NAMES:
        value = facts.get(name)
        if isinstance(value, datetime):
            return _in_utc(value)
        if isinstance(value, int | float):
            return from_seconds(value / 1000 if name == _IN_MILLISECONDS else value)
    return None


def from_seconds(seconds: float) -> datetime | None:
    """The time in UTC so many seconds after 1970; None where it is not between FIRST and END."""
    try:
        return _known(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def from_nanoseconds(nanoseconds: int) -> datetime | None:
    """As `from_seconds`, of `st_mtime_ns`; whatever is below a microsecond is cut off."""
    return from_seconds(nanoseconds // 1000 / 1e6)


def _in_utc(time: datetime) -> datetime | None:
    if time.tzinfo is None:
        return _known(time.replace(tzinfo=UTC))
    try:
        return _known(time.astimezone(UTC))
    except (ValueError, OverflowError):  # within a day of the ends of the calendar
        return None


def _known(time: datetime) -> datetime | None:
    return time if FIRST <= time < END else None
