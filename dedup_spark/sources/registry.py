"""Which source serves a lake."""

from __future__ import annotations

from dedup_spark.config import InventorySettings
from dedup_spark.sources.base import Source
from dedup_spark.sources.folder import FolderSource


def open_source(lake: str, settings: InventorySettings) -> Source:
    """The source for an address; looks at nothing yet."""
    return FolderSource(lake, settings.skip_hidden)
