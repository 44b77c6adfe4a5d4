"""When an object was last written: each filesystem of fsspec has its own name for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_NAMES = ("LastModified", "last_modified", "mtime", "modificationTime", "updated", "created")
_IN_MILLISECONDS = "modificationTime"  # of WebHDFS


def modified_at(facts: Mapping[str, Any]) -> datetime | None:
    """The time in what `info` or `ls` says of an object; None where there is none."""
    for name in _NAMES:
        value = facts.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value / 1000 if name == _IN_MILLISECONDS else value, UTC)
    return None
