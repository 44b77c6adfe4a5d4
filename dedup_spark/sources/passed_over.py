"""Entries that a listing passes over: a task counts them by reason, with the first example, and gives them as rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from dedup_spark.sources.base import LISTING

HIDDEN_FILE, HIDDEN_FOLDER = "hidden file", "hidden folder"
LINK_TO_FILE, LINK_TO_FOLDER = "link to a file", "link to a folder"
BEHIND_LINK = "file behind a link to a folder"
FOLDER_MARKER = "folder marker"


class PassedOver:
    """The counts of one task. Reasons are words that fit behind "12 entries passed over: "."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[str, str | None]] = {}

    def add(self, reason: str, uri: str, member: str | None = None) -> None:
        self._counts[reason] += 1
        self._first.setdefault(reason, (uri, member))

    def add_all(self, reason: str, n: int, uri: str) -> None:
        """Add `n` entries that another task has counted; `uri` is its example."""
        self._counts[reason] += n
        self._first.setdefault(reason, (uri, None))

    def rows(self) -> list[dict[str, Any]]:
        """One row of LISTING per reason, as dicts."""
        examples = ((reason, n, *self._first[reason]) for reason, n in self._counts.items())
        return [
            {"uri": uri, "member": member, "passed_over": reason, "n_passed_over": n}
            for reason, n, uri, member in examples
        ]

    def to_arrow(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist(self.rows(), schema=LISTING.arrow)
