"""The interface of a source: the driver plans a listing, executors carry it out; `fetch` runs on executors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self

from pyspark.sql import DataFrame, SparkSession

from dedup_spark.columns import Columns
from dedup_spark.sources.limits import MOST_BYTES

LISTING = Columns(
    "uri string, member string, location string, position bigint, size_bytes bigint, modified_at timestamp, "
    "etag string, attributes map<string,string>, file_id string, n_links int, "
    "passed_over string, n_passed_over bigint"
)
"""What a source knows of an object without reading it. `uri` and `member` are its identity; unknown facts are null.

`file_id` is equal for two names of one file on a disk, and `n_links` counts those names. A row whose `passed_over` is
not null is no image: it says why `n_passed_over` entries are not listed, and `uri` is the first of them.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the bytes of one image are; its fields are named like the columns of `images`.

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
    """Defaults that fit most sources: they list what is there now, and their ETags are not those of the store."""

    has_own_etags: ClassVar[bool] = False
    """Whether the ETags of the listing are those that the store sends with the bytes."""

    def as_of(self) -> datetime | None:
        """The time that the listing describes; None when that is now."""
        return None


class Source(Protocol):
    """A lake of one kind. A source is small and is pickled to the executors."""

    @property
    def root(self) -> str:
        """The canonical address of the lake, its identity in `images.lake`. Raises ConfigError when there is none."""
        ...

    @property
    def has_own_etags(self) -> bool:
        """See `Listed`."""
        ...

    def as_of(self) -> datetime | None:
        """See `Listed`."""
        ...

    def list_images(self, spark: SparkSession) -> DataFrame:
        """One row of LISTING per object; lazy, listed by executors and never collected on the driver."""
        ...

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        """The bytes of one image, of which no more than `max_bytes` + 1 are read. Thread-safe. The caller retries
        faults that may pass (`fetching.py`).

        Raises:
            ImageRejected: `too_large`, `missing`, `forbidden`, `archived` and whatever else no retry mends.
            OSError: a fault that may pass; `faults.py` has its kinds.
        """
        ...
