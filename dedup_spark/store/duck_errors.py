"""What DuckDB refuses or cannot do, as one sentence each; and what it is asked at all: one SELECT. No Spark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dedup_spark.did_you_mean import did_you_mean
from dedup_spark.errors import ConfigError, DedupError

_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_COLUMN = re.compile(
    r'Referenced column "(?P<bare>[^"]+)" (?:was )?not found|'
    r'(?:Table|Values list) "(?P<table>[^"]+)" does not have a column named "(?P<of_table>[^"]+)"'
)
_CANDIDATES = re.compile(r'Candidate bindings: :? ?((?:"[^"]+"(?:, )?)+)')
_EXPLAIN = re.compile(r"\s*explain\s+(?:analyze\s+)?", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{16}")
_ONLY = "sql answers one query (SELECT) and changes nothing"


def require_one_question(duckdb: Any, statements: Sequence[Any]) -> None:
    """Raise ConfigError where these are not one SELECT, or EXPLAIN of one."""
    if not statements:
        raise ConfigError(f"{_ONLY}: found an empty text")
    if len(statements) > 1:
        raise ConfigError(f"{_ONLY}: found {len(statements)} statements; give them one by one")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        inner = _EXPLAIN.sub("", statements[0].query, count=1)
        if _EXPLAIN.match(inner):
            raise ConfigError(f"{_ONLY}: found EXPLAIN of EXPLAIN")
        require_one_question(duckdb, duckdb.extract_statements(inner))
    elif kind != duckdb.StatementType.SELECT:
        word = re.search(r"[A-Za-z]+", re.sub(r"--.*|/\*.*?\*/", "", statements[0].query))
        raise ConfigError(f"{_ONLY}: found {word[0].upper() if word else kind.name}; only `dedup-spark` writes tables")


@contextmanager
def explained(duckdb: Any, names: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Raise an error of DuckDB as ConfigError where the query is at fault, in its values too, else as DedupError.

    `names`: the columns of every table and view, for names that are near to those that are not there.
    """
    try:
        yield
    except duckdb.InterruptException as e:
        raise KeyboardInterrupt from e
    except duckdb.PermissionException as e:
        raise ConfigError(
            f"the query was refused: it asks for a file; sql reads the tables of --tables alone ({_first(e)})"
        ) from e
    except (duckdb.ParserException, duckdb.SyntaxException, duckdb.BinderException, duckdb.CatalogException) as e:
        raise ConfigError(f"the query is not valid: {_told(str(e), names)}") from e
    except duckdb.Error as e:
        if "KeyboardInterrupt" in str(e):  # while it asked Arrow, which is Python
            raise KeyboardInterrupt from e
        hint = "; to_id('...') is the number of an id in hex" if _HEX.search(str(e)) else ""
        is_of_query = isinstance(
            e, (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)
        )
        raise (ConfigError if is_of_query else DedupError)(f"the query failed: {_first(e)}{hint}") from e
    except RuntimeError as e:  # where a handler of Python raised in the middle of a query, DuckDB says this
        if str(e) != "Query interrupted":
            raise
        raise KeyboardInterrupt from e


def _told(text: str, names: Mapping[str, Sequence[str]]) -> str:
    if found := _NO_TABLE.search(text):
        near = did_you_mean(found[1], names) or f"; there are {', '.join(names)}"
        return f"there is no table or view '{found[1]}'{near}"
    if found := _NO_COLUMN.search(text):
        name = found["bare"] or found["of_table"]
        listed = _CANDIDATES.search(text)
        candidates = re.findall(r'"(?:[^".]*\.)?([^"]+)"', listed[1]) if listed else []
        every = [column for columns in names.values() for column in columns]
        near = did_you_mean(name, candidates) or _has_it(name, names) or did_you_mean(name, every)
        return f"there is no column '{name}'{near or '; DESCRIBE and the name of a table or view lists its columns'}"
    return _first(text)


def _has_it(name: str, names: Mapping[str, Sequence[str]]) -> str:
    """Where a column is that the tables of the query lack; empty where it is nowhere."""
    homes = [table for table, columns in names.items() if name.lower() in columns]
    return f" in what the query reads; {', '.join(homes)} {'has' if len(homes) == 1 else 'have'} it" if homes else ""


def _first(e: object) -> str:
    """The text of an error without the lines that point into the query, on one line."""
    text = re.split(r"\n\s*\n?LINE \d+:|\n\s*Candidate functions:", str(e))[0]
    text = re.sub(r"^[\w ]+ Error: ", "", text)
    return " ".join(text.split())
