"""The shell of `dedup-spark sql`: queries that end with a semicolon, a history, completion of tables and columns."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dedup_spark.commands.sql import describe_answer
from dedup_spark.commands.text_table import format_table
from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.printable import printable
from dedup_spark.redaction import without_secrets
from dedup_spark.store.duck import NAMES
from dedup_spark.store.schema import ALL
from dedup_spark.store.sql_tables import SqlTables
from dedup_spark.store.view_definitions import VIEWS

_HELP = """\
A query ends with a semicolon, on one line or several.
\\d          tables and views; \\d NAME lists the columns of one
\\x          one value a line, or one row a line again
\\q          leave (also Ctrl-D)"""
_WORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "JOIN", "LEFT JOIN", "ON", "AND", "OR", "NOT", "IN",
    "LIKE", "IS NULL", "COUNT(*)", "SUM", "MIN", "MAX", "AVG", "DISTINCT", "HAVING", "DESC", "CASE", "WHEN", "END",
    "WITH", "hex_id", "to_id",
)  # fmt: skip


class Shell:
    """What one line of the shell does; the terminal is outside, so that tests need none.

    Args:
        say: Prints a text.
        width: The width of the terminal now.
    """

    def __init__(
        self, tables: SqlTables, max_rows: int, say: Callable[[str], None], width: Callable[[], int | None]
    ) -> None:
        self._tables, self._max_rows, self._say, self._width = tables, max_rows, say, width
        self.vertical = False
        self.waiting = ""

    def take(self, line: str) -> bool:
        """Take one line; False: the person leaves. A mistake is told and the shell goes on."""
        if not self.waiting and line.strip().startswith("\\"):
            return self._command(*line.strip().partition(" ")[::2])
        self.waiting += line + "\n"
        if line.rstrip().endswith(";"):
            query, self.waiting = self.waiting, ""
            self._answer(query)
        elif not self.waiting.strip():
            self.waiting = ""
        return True

    def _command(self, name: str, argument: str) -> bool:
        if name == "\\d":
            self._say(described(argument.strip()))
        elif name == "\\x":
            self.vertical = not self.vertical
        elif name != "\\q":
            self._say(_HELP)
        return name != "\\q"

    def _answer(self, query: str) -> None:
        try:
            found = self._tables.answer(query, self._max_rows + 1)
            self._say(describe_answer(found, self._max_rows, width=self._width(), vertical=self.vertical))
        except DedupError as e:
            self._say(str(e))
        except KeyboardInterrupt:
            self._say("the query was stopped")


def described(name: str) -> str:
    """The tables and views with what a row of each is; or the columns of one of them."""
    comments = {table.name: table.comment for table in ALL} | {view.name: view.comment for view in VIEWS}
    if not name:
        return format_table(["name", "rows"], list(comments.items()), most=None)
    if name not in comments:
        return f"there is no table or view '{name}'; \\d lists them"
    tables = {table.name: [(c, kind, text) for c, kind, text in table.columns] for table in ALL}
    views = {view.name: [(c, "", text) for c, text in view.columns] for view in VIEWS}
    return format_table(["column", "type", "meaning"], (tables | views)[name], most=None)


def completions() -> list[str]:
    """Words that the shell completes: of SQL, and the names of tables, views and their columns."""
    columns = {column for of_one in NAMES.values() for column in of_one}
    return sorted({*_WORDS, *NAMES, *columns})


def run_shell(tables: SqlTables, max_rows: int, *, vertical: bool = False) -> None:
    """Talk with a person at the terminal until they leave. Raises ConfigError where prompt_toolkit is missing."""
    session = _session()
    shell = Shell(tables, max_rows, _print, lambda: shutil.get_terminal_size().columns)
    shell.vertical = vertical
    _print(_HELP)
    going = True
    with _stopping_queries():
        while going:
            try:
                going = shell.take(session.prompt("   -> " if shell.waiting else "sql> "))
            except KeyboardInterrupt:
                shell.waiting = ""
            except EOFError:
                going = False


@contextmanager
def _stopping_queries() -> Iterator[None]:
    """Ctrl-C stops a query and leaves the shell, whatever the program does at Ctrl-C otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


def _session() -> Any:
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory, InMemoryHistory
    except ImportError as e:
        raise ConfigError(
            "the shell of sql needs prompt_toolkit: `pip install 'dedup-spark[reader]'`; or give it the query"
        ) from e
    folder = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")) / "dedup-spark"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        history: Any = FileHistory(str(folder / "sql_history"))
    except OSError:  # no home that can be written to: nothing is kept
        history = InMemoryHistory()
    completer = WordCompleter(completions(), ignore_case=True)
    return PromptSession(history=history, completer=completer, complete_while_typing=False)


def _print(text: str) -> None:
    sys.stdout.write(printable(without_secrets(text)) + "\n")
    sys.stdout.flush()
