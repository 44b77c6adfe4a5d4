"""The log of a Delta table as files: which belong to versions before a checkpoint, and deleting those. No Spark.

A commit names the least and the greatest id of every file that it adds or removes, and a checkpoint those of the files
that were there, so a deleted row lives on in them. A reader needs one whole checkpoint and the commits from it on;
what is older may go (Delta's protocol), which is what Delta does itself, by days and after a month.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable

from dedup_spark.store import files

FOLDER = "_delta_log"
KEEP_DAYS = 7
"""`dedup-spark maintain --vacuum` keeps the versions of so many days, as Delta does by default: longer than any query
takes, and long enough to look back after a weekend."""
SIDECARS = "_sidecars"
"""Parts of checkpoints of the newer kind, which name no version."""
_VERSION = re.compile(r"\.?(\d{20})\.")
"""A commit, checkpoint, checksum or compacted commit (by its first version), and Hadoop's hidden file beside it."""
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
"""A classic checkpoint, whole or in parts: part and number of parts."""

_DATA = re.compile(r"[^._].*\.(?:parquet|bin)")
"""A file of rows, of change data or of deletion vectors. Others hide their files behind a dot or a line."""


def newest_checkpoint(names: Iterable[str]) -> int | None:
    """The version of the newest classic checkpoint of which all parts are there; None where there is none."""
    parts: dict[tuple[int, int], set[int]] = defaultdict(set)
    for name in names:
        if found := _CHECKPOINT.fullmatch(name):
            parts[int(found[1]), int(found[3] or 1)].add(int(found[2] or 1))
    return max((version for (version, n), held in parts.items() if len(held) == n), default=None)


def older_than(names: Iterable[str], version: int) -> list[str]:
    """The files of versions before `version`, those of writers that were killed too (`.<commit>.<random>.tmp`).

    What names no version (`_last_checkpoint`, folders) is none of them.
    """
    return sorted(name for name in names if (found := _VERSION.match(name)) and int(found[1]) < version)


def unnamed(names: Iterable[str], named: Collection[str]) -> list[str]:
    """Of the files in the folders of a table those of data that its newest version does not name."""
    return sorted(name for name in names if _DATA.fullmatch(name) and name not in named)


def drop_before(path: str, version: int) -> int:
    """Delete what is older than the checkpoint `version` in the log of the table at a path; returns how many files.

    Whatever of it is left where this is killed, the table stays readable, and a second call deletes the rest.
    """
    log = f"{path}/{FOLDER}"
    return files.delete_files(log, older_than(files.list_names(log), version))


def drop_sidecars(path: str) -> None:
    """Delete all parts of checkpoints of the newer kind. Only where the newest checkpoint is a classic one."""
    files.delete_tree(f"{path}/{FOLDER}/{SIDECARS}")


def has_sidecars(path: str) -> bool:
    return bool(files.list_names(f"{path}/{FOLDER}/{SIDECARS}"))
