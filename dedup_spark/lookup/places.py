"""Where look-ups keep what they make of tables: a cache that may be deleted at any time, and what was added since.

By the rules of the XDG base directories: `$XDG_CACHE_HOME` (`~/.cache`) and `$XDG_STATE_HOME` (`~/.local/state`), below
them a folder for each set of tables, which this user alone may read.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dedup_spark.errors import ConfigError
from dedup_spark.store.files import is_of_this_user_alone

_CACHE, _STATE = ("XDG_CACHE_HOME", ".cache"), ("XDG_STATE_HOME", ".local/state")


def cache_folder(root: str, asked: str | None = None) -> Path:
    """Of the tables at `root`, below `asked` or the user's cache."""
    return _folder(root, asked, *_CACHE)


def state_folder(root: str, asked: str | None = None) -> Path:
    """Where additions and the negative list of these tables are; `asked` or below the user's state."""
    return _folder(root, asked, *_STATE)


def states_there(root: str, asked: str | None) -> list[Path]:
    """The folders of additions to these tables that this machine has: `asked`, that of this user, and those below the
    tables, where these are on a disk. None is made."""
    bases = [Path(asked)] if asked else []
    bases.append(Path(os.environ.get(_STATE[0]) or Path.home() / _STATE[1]))
    bases += [Path(root), *Path(root).glob("*/")] if "://" not in root else []
    folders = [base.expanduser().joinpath(*_below(root)) for base in bases]
    return [folder for folder in dict.fromkeys(map(Path.resolve, folders)) if folder.is_dir()]


def _below(root: str) -> tuple[str, str, str]:
    return "dedup_spark", "lookup", hashlib.sha256(root.encode()).hexdigest()[:16]


def _folder(root: str, asked: str | None, variable: str, usual: str) -> Path:
    base = Path(asked or os.environ.get(variable) or Path.home() / usual)
    folder = base.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for name in _below(root):
        folder /= name
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_own(folder)
    return folder


def _require_own(folder: Path) -> None:
    """Raise ConfigError where others could put files into a folder, or another one in its place."""
    if not is_of_this_user_alone(folder) or not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder that this user alone may write, for what look-ups keep")


_SECONDS_OF_WRITING = 86_400.0
"""After a day a file that is half written belongs to a process that was killed."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write a file under; it gets its own name at the end of the block, so that nobody sees a part of it."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as f:
            os.fsync(f.fileno())  # else a power loss may leave the name without the content
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def delete_others(paths: Iterable[Path], is_needed: Callable[[str], bool]) -> None:
    """Delete files of the cache that nobody needs any more, by name; what another process is writing stays."""
    for path in paths:
        is_old = path.suffix != ".tmp" or time.time() - _written_at(path) > _SECONDS_OF_WRITING
        if is_old and not is_needed(path.name):
            path.unlink(missing_ok=True)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
