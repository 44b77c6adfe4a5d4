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
    """Whether the tables at `root`, and the lake where a command has one, hold at most MOST_IMAGES images.

    What cannot be listed is not small, and neither is a tree of folders. Cost: at most twice as many names are read.
    """
    if database or "://" in root:
        return False
    try:
        return _has_few_rows(Path(root, FEATURES.name)) and (lake is None or _has_few_entries(lake))
    except OSError:
        return False


def _has_few_entries(lake: Source) -> bool:
    if not isinstance(lake, FolderSource):
        return False
    uri = addresses.to_uri(lake.lake)
    if addresses.is_remote(uri):
        return False
    found = list(itertools.islice(_entries(addresses.to_path(uri)), 2 * MOST_IMAGES + 1))
    return len(found) <= 2 * MOST_IMAGES and sum(not e.is_dir(follow_symlinks=False) for e in found) <= MOST_IMAGES


def _has_few_rows(features: Path) -> bool:
    """A folder that is not there has none."""
    if not features.exists():
        return True
    files = itertools.islice(_entries(str(features)), MOST_IMAGES + 1)
    sizes = [entry.stat(follow_symlinks=False).st_size for entry in files]
    return len(sizes) <= MOST_IMAGES and sum(sizes) <= MOST_IMAGES * _BYTES_PER_ROW


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, one by one: a folder of millions is not read to its end."""
    left = [folder]
    while left:
        with os.scandir(left.pop()) as found:
            for entry in found:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
