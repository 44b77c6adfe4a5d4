"""Whether lake and tables are small, by names on this machine's disks and before Spark starts.

For a small lake Spark is started so that many plans over few rows cost little; over millions of rows that would be
slower. So what cannot be told at once (a store, a manifest, tar files, a table) counts as large, as did every lake
before.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from dedup_spark.sources import addresses
from dedup_spark.sources.base import Source
from dedup_spark.sources.folder import FolderSource
from dedup_spark.store.schema import FEATURES

MOST_IMAGES = 3_000
"""Entries of a small lake, and rows of its tables; counting that many names takes milliseconds. With 249 images a run
takes 70 s of processor time less in the JVM. What interpreted plans cost more grows with the rows: 3,000 images have
some 20,000 pairs, at a microsecond for each and each of a hundred plans a few seconds."""
_BYTES_PER_ROW = 10_000
"""Of `features`, with thumbnail and embedding."""


def is_small(root: str, database: str | None, lake: Source | None = None) -> bool:
    """Whether the tables at `root`, and the lake where a command has one, hold at most MOST_IMAGES images."""
    if database or "://" in root or not _has_few_rows(Path(root, FEATURES.name)):
        return False
    return lake is None or _has_few_entries(lake)


def _has_few_entries(lake: Source) -> bool:
    if not isinstance(lake, FolderSource):
        return False
    uri = addresses.to_uri(lake.lake)
    if addresses.is_remote(uri):
        return False
    names = (name for _, _, files in os.walk(addresses.to_path(uri)) for name in files)
    return next(itertools.islice(names, MOST_IMAGES, None), None) is None


def _has_few_rows(features: Path) -> bool:
    """A folder that is not there has none, and so has one that may not be looked into."""
    sizes = itertools.accumulate(_sizes(features))
    return not any(size > MOST_IMAGES * _BYTES_PER_ROW for size in sizes)


def _sizes(folder: Path) -> Iterator[int]:
    for path, _, files in os.walk(folder):
        yield from (os.lstat(Path(path, name)).st_size for name in files if name.endswith(".parquet"))
