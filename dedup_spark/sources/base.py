"""The interface of a source: the driver plans a listing that executors do; `fetch` runs on executors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self

from pyspark.sql import DataFrame, SparkSession

from dedup_spark.columns import Columns

LISTING = Columns(
    "uri string, member string, location string, position bigint, size_bytes bigint, modified_at timestamp, "
    "etag string, attributes map<string,string>, file_id string, n_links int, "
    "passed_over string, n_passed_over bigint"
)
"""What a source knows of an object without reading it. `uri` and `member` are its identity; unknown facts are null.

`file_id` tells files of a disk apart whatever they are called, and `n_links` says how many names one has. A row whose
`passed_over` is not null is no image: it says why `n_passed_over` entries are none, and `uri` is the first of them.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the bytes of one image are; named as the columns of `images`.

    `member` names the image inside a container (a tar file, a table). `location` is the file that holds it where
    that is not `uri`, and `position` its place there: a byte offset in a tar file, a row number in a table file.
    """

    uri: str
    member: str | None = None
    location: str | None = None
    position: int | None = None
    size_bytes: int | None = None
    etag: str | None = None

    @classmethod
    def of(cls, row: Any) -> Self:
        """From a row, or a dictionary, with columns of `images`; what it has no column for is not known."""
        return cls(**{name: row[name] for name in ADDRESS_COLUMNS if name in row})


ADDRESS_COLUMNS = tuple(field.name for field in fields(Address))
"""Columns of `images` that say where the bytes of one are, and of which object."""


class Listed:
    """What holds of most sources: they list what is there now, by facts that are not the store's own."""

    has_own_etags: ClassVar[bool] = False
    """Whether the ETags of the listing are those that the store gives with the bytes."""

    def as_of(self) -> datetime | None:
        """The time that the listing speaks of, where that is not now."""
        return None


class Source(Protocol):
    """A lake of one kind. Small and picklable: it goes to the executors as it is."""

    @property
    def root(self) -> str:
        """The lake's normalised address, its identity in `images.lake`. Raises ConfigError when there is none."""
        ...

    @property
    def has_own_etags(self) -> bool:
        """See `Listed`."""
        ...

    def as_of(self) -> datetime | None:
        """See `Listed`."""
        ...

    def list_images(self, spark: SparkSession) -> DataFrame:
        """One row an object, LISTING, lazy: listed by executors and never collected on the driver."""
        ...

    def fetch(self, address: Address) -> bytes:
        """The bytes of one image. Thread-safe; retries of passing faults are the caller's (`fetching.py`).

        Raises:
            ImageRejected: `missing`, `forbidden` or `archived`, which no retry mends.
            OSError: a fault that may pass; `faults.py` tells kinds of them apart.
        """
        ...
