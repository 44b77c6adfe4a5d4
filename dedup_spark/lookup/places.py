"""Where look-ups keep what they make of tables: a cache that may be deleted at any time, and what was added since.

By the rules of the XDG base directories: `$XDG_CACHE_HOME` (`~/.cache`) and `$XDG_STATE_HOME` (`~/.local/state`), below
them a folder for each set of tables, which this user alone may read.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CACHE, _STATE = ("XDG_CACHE_HOME", ".cache"), ("XDG_STATE_HOME", ".local/state")


def cache_folder(root: str, asked: str | None = None) -> Path:
    """Of the tables at `root`, below `asked` or the user's cache."""
    return _folder(root, asked, *_CACHE)


def state_folder(root: str, asked: str | None = None) -> Path:
    """Where additions and the negative list of these tables are; `asked` or below the user's state."""
    return _folder(root, asked, *_STATE)


def _folder(root: str, asked: str | None, variable: str, usual: str) -> Path:
    base = Path(asked or os.environ.get(variable) or Path.home() / usual)
    folder = base.expanduser() / "dedup_spark" / "lookup" / hashlib.sha256(root.encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
