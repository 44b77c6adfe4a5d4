"""Commands that messages tell the user to type."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from dedup_spark.config import as_overrides


def command_line(
    name: str,
    lake: str,
    tables: str,
    database: str | None,
    *options: str,
    changed: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """`dedup-spark <name>` on a lake and its tables, quoted for a shell.

    Args:
        options: Words that stand at the end.
        changed: Settings by section, as `config.changed_settings` gives them; the command line reads back the same.
    """
    words = ["dedup-spark", name, "--lake", lake, "--tables", tables]
    if database:
        words += ["--database", database]
    for setting in as_overrides(changed or {}):
        words += ["--set", setting]
    return shlex.join([*words, *options])
