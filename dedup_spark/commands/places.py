"""Whether tables can be made in a folder of a disk, found out before Spark starts and by trying."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dedup_spark.errors import ConfigError
from dedup_spark.store import lease, outcomes, shards
from dedup_spark.store.tables import FOLDERS

OWN_FOLDERS = frozenset({*FOLDERS, lease.FOLDER, shards.FOLDER, outcomes.FOLDER, "report"})
"""What a run makes below the root of its tables."""
_NO_TABLES = (shards.FOLDER, outcomes.FOLDER, "report")
_NO_THING = ("lost+found",)
_SHOWN = 3


def require_writable(given: str, root: str, lake: str | None = None) -> None:
    """Raise ConfigError where a run could not write its tables to a folder of a disk, or would mix them with others'.

    Args:
        given: The place as the caller wrote it, for messages.
        lake: The path of a lake on a disk, which may lie beside the tables below `root`.
    """
    try:
        root.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"--tables {root!r}: no UTF-8, and Spark's Java opens no such path") from None
    existing = _existing(given, Path(root))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        found = "read-only" if existing.is_dir() else "a file"
        raise ConfigError(f"--tables {given}: cannot be written ({existing} is {found})")
    if existing == Path(root):
        _require_ours(given, existing, lake)
    _try(given, existing)


def _existing(given: str, path: Path) -> Path:
    """The path, or the folder next above it that is there; also where one may not look."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as e:  # a name that is too long, a disk that fails
        raise ConfigError(f"--tables {given}: cannot be written: {e.strerror}") from e
    return next(p for p in (path, *path.parents) if os.path.exists(p))


def _require_ours(given: str, root: Path, lake: str | None) -> None:
    """Raise ConfigError where the folder holds what a run did not make, or what it made and can write no more."""
    try:
        names = sorted(os.listdir(root))
    except OSError as e:
        raise ConfigError(f"--tables {given}: cannot be looked into: {e.strerror}") from e
    ours = [name for name in names if name in OWN_FOLDERS]
    for name in ours:
        _require_table(given, root / name)
    others = [name for name in names if name not in (*OWN_FOLDERS, *_NO_THING) and not name.startswith(".")]
    others = [name for name in others if not f"{lake or ''}/".startswith(f"{root / name}/")]
    if others and not set(ours) - {outcomes.FOLDER}:  # an outcome is also left where a command was refused
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise ConfigError(
            f"--tables {given}: is a folder with other things in it ({shown}); give an empty or a new folder, for "
            f"example {given.rstrip('/')}/dedup"
        )


def _require_table(given: str, folder: Path) -> None:
    log_of_delta = folder / "_delta_log"
    is_table = os.path.isdir(log_of_delta)
    may_be_none = folder.name.startswith("_") or folder.name in _NO_TABLES
    if not folder.is_dir() or not (is_table or may_be_none or _is_empty(folder)):
        raise ConfigError(
            f"--tables {given}: {folder.name} in it is no table of dedup-spark, and a run makes one of that name; give "
            "an empty or a new folder"
        )
    for place in (folder, log_of_delta) if is_table else (folder,):
        if not os.access(place, os.W_OK | os.X_OK):
            raise ConfigError(f"--tables {given}: cannot be written ({place} is read-only)")


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _try(given: str, folder: Path) -> None:
    """What a system says of permissions is not all: disks are full, mounted read-only, or no disks."""
    try:
        with tempfile.TemporaryDirectory(prefix=".dedup_spark-", dir=folder) as made:
            Path(made, "tried").write_bytes(bytes(4096))
    except OSError as e:
        raise ConfigError(f"--tables {given}: cannot be written ({folder}: {e.strerror or e})") from e
