"""The interface of a source: the driver plans a listing that executors do; `fetch` runs on executors."""

from __future__ import annotations

from typing import Protocol

from pyspark.sql import DataFrame, SparkSession

LISTING_SCHEMA = "uri string, member string, size_bytes bigint, modified_at timestamp, etag string"


class Source(Protocol):
    """A lake of one kind. Small and picklable: it goes to the executors as it is."""

    @property
    def root(self) -> str:
        """The lake's normalised address, its identity in `images.lake`. Raises ConfigError when there is none."""
        ...

    def list_images(self, spark: SparkSession) -> DataFrame:
        """One row an object, LISTING_SCHEMA, lazy: listed by executors and never collected on the driver."""
        ...

    def fetch(self, uri: str, member: str | None) -> bytes:
        """The bytes of one image. Thread-safe.

        Raises:
            ImageRejected: `missing` or `forbidden`.
        """
        ...
