"""`dedup-spark completion`: a script by which a shell completes commands, options and their values. No Spark.

The script is made once, by shtab from the parser, and asks no Python when a person presses the tabulator.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from dedup_spark.errors import ConfigError

SHELLS = ("bash", "zsh")
_FOLDERS = frozenset({"--tables", "--lake", "--to"})
_FILES = frozenset({"--config", "--file", "--out", "--pairs"})


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for the whole command line of `parser`. Raises ConfigError where shtab is missing."""
    try:
        import shtab
    except ImportError as e:
        raise ConfigError("to complete commands needs shtab: `pip install 'dedup-spark[reader]'`") from e
    for action in _actions(parser):
        names = set(action.option_strings)
        if names & (_FOLDERS | _FILES):
            action.complete = shtab.DIRECTORY if names & _FOLDERS else shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of the parser and of all commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
