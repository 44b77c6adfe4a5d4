"""A first look at a folder, on the driver and before Spark starts: whether anything in it may be an image."""

from __future__ import annotations

import itertools
from collections import Counter, deque

from dedup_spark.kernels.decoding.other_kinds import claims_to_be_image, kind_of_bytes
from dedup_spark.sources import addresses
from dedup_spark.sources.entries import Entry
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.other_files import first_bytes, other_kind
from dedup_spark.sources.passed_over import REMEDIES, UNLISTED

_MOST_ENTRIES = 10_000
_MOST_FOLDERS, _MOST_FOLDERS_OF_STORE = 1_000, 20
"""In a store each folder takes a request."""
_IMAGE = "image"


def why_no_image(lake: FolderSource) -> str | None:
    """Why there is no image below the folder, in words; None where there may be one.

    It stops at the first file that may be one: of a lake of images it sees one name. A folder with more entries than it
    looks at is left to the listing. On a disk it reads first bytes where a name says nothing.
    """
    kinds, waiting, n_entries = Counter[str](), deque([lake.root]), 0
    most_folders = _MOST_FOLDERS_OF_STORE if addresses.is_remote(lake.root) else _MOST_FOLDERS
    for _ in range(most_folders):
        if not waiting:
            return _in_words(kinds)
        for entry in itertools.islice(lake.entries(waiting.popleft()), _MOST_ENTRIES):
            n_entries += 1
            if entry.is_folder and not entry.passed_over:
                waiting.append(entry.uri)
                continue
            kind = _kind(entry)
            if kind in (_IMAGE, *UNLISTED) or n_entries >= _MOST_ENTRIES:
                return None
            kinds[kind] += 1
    return None if waiting else _in_words(kinds)


def _kind(entry: Entry) -> str:
    """Why it is passed over, or what it is; `image` where it may be one."""
    kind = entry.passed_over or other_kind(entry.uri)
    if kind or claims_to_be_image(entry.uri):
        return kind or _IMAGE
    found = kind_of_bytes(first_bytes(entry.uri))
    return f"{found} by its first bytes" if found else _IMAGE


def _in_words(kinds: Counter[str]) -> str:
    if not kinds:
        return "empty, there is no file to look at"
    listed = ", ".join(f"{kind} {n:,}" for kind, n in sorted(kinds.items()))
    remedies = "".join(f"; {kind}: {REMEDIES[kind]}" for kind in sorted(kinds) if kind in REMEDIES)
    return f"empty, there is no image in it; passed over: {listed}{remedies}"
