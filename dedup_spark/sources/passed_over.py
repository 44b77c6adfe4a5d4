"""Entries that a listing passes over: a task counts them by reason, with the first example, and gives them as rows.

Of most reasons the count is enough. Those of `UNLISTED` are about a folder or a container of which it is not known what
is in it: each of them is a row of its own, so that the step inventory takes nothing in it for gone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from dedup_spark.sources.base import LISTING

HIDDEN_FILE, HIDDEN_FOLDER = "hidden file", "hidden folder"
LINK_TO_FILE, LINK_TO_FOLDER = "link to a file", "link to a folder"
BEHIND_LINK = "file behind a link to a folder"
FOLDER_MARKER = "folder marker"
BESIDE_CONTAINERS = "file beside tar files"
NAME_IS_NO_TEXT = "name that is no valid Unicode"
CLOSED_FOLDER = "folder that may not be listed"
LONG_PATH = "folder whose path is longer than the system takes"
FAILING_FOLDER = "folder whose disk or server fails"
COMPRESSED_TAR = "compressed tar file"
UNLISTED_TAR = "tar file that could not be listed to its end"
FORGOTTEN = "image that was forgotten"
"""By `dedup-spark forget`; such an entry has no address."""
UNLISTED = (CLOSED_FOLDER, LONG_PATH, FAILING_FOLDER, UNLISTED_TAR)
"""Reasons to pass over a folder, or a container, that may hold images."""

_TAR = "its images are read when it is a lake of its own: --lake '<folder>/*.tar'"
_TABLE = "where it holds images, they are read when it is a lake of its own: --lake <file or folder of Parquet files>"
REMEDIES = {
    BESIDE_CONTAINERS: "where these are images, they are read as a lake of their own, or with inventory.source=folder",
    "tar file": _TAR,
    "parquet file": _TABLE,
    COMPRESSED_TAR: "members cannot be read one by one: store it as plain .tar (images hardly compress)",
    "zip file": "images in it are not looked for: unpack it, or store it as plain .tar",
}
"""What to do where such entries hold images, by reason."""


class PassedOver:
    """The entries of one task. Reasons are words that fit behind "12 entries passed over: ".

    It holds a row per reason and per entry of `UNLISTED`: a task that may meet many of these asks `len` now and then.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[str, str | None]] = {}
        self._unlisted: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._counts) + len(self._unlisted)

    def add(self, reason: str, uri: str, member: str | None = None) -> None:
        """Add one entry; of a reason in UNLISTED `uri` is the folder or container of which the content is unknown."""
        self.add_all(reason, 1, uri, member)

    def add_all(self, reason: str, n: int, uri: str, member: str | None = None) -> None:
        """Add `n` entries that another task has counted; `uri` and `member` are its example."""
        if reason in UNLISTED:
            self._unlisted.append(_row(reason, n, uri, member))
            return
        self._counts[reason] += n
        self._first.setdefault(reason, (uri, member))

    def rows(self) -> list[dict[str, Any]]:
        """One row of LISTING per reason, and per entry of UNLISTED, as dicts."""
        return [_row(reason, n, *self._first[reason]) for reason, n in self._counts.items()] + self._unlisted

    def to_arrow(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist(self.rows(), schema=LISTING.arrow)


def _row(reason: str, n: int, uri: str, member: str | None) -> dict[str, Any]:
    return {"uri": uri, "member": member, "passed_over": reason, "n_passed_over": n}
