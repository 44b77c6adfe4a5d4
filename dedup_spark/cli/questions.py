"""The answers of `status`, `sql`, `trace`, `explain` and `dendrogram`: like `answers.py`, but nothing here loads Spark.

`command_line.py` takes this module instead of `answers.py` where a question is answered without Spark. What one command
needs is imported when it is asked for: `sql` waits for no SciPy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dedup_spark.api import questions as api
from dedup_spark.commands.asking import to_ask
from dedup_spark.commands.sql import as_text, describe_answer, format_of, write_answer
from dedup_spark.config import Config, load_config
from dedup_spark.errors import AttentionError, ConfigError
from dedup_spark.store.sql_tables import SqlTables
from dedup_spark.store.view_definitions import ViewSettings

Options = argparse.Namespace

_ROWS = 50
_THUMBNAILS = 200


def load_settings(options: Options) -> Config:
    """The settings from --config and --set. Raises ConfigError."""
    return load_config(options.config, options.set)


def _place(options: Options) -> dict[str, Any]:
    return {"tables": options.tables, "database": options.database, "engine": options.engine}


def _sql(options: Options, config: Config) -> Iterator[str]:
    query, kind = _query(options), format_of(options.format, options.out)
    if options.out and options.vertical:
        raise ConfigError("--vertical: it shows an answer on the terminal; leave it out with --out")
    of_views = ViewSettings.of(config)
    with to_ask(
        "sql", None, options.tables, database=options.database, engine=options.engine, settings=of_views
    ) as tables:
        if query is None:
            from dedup_spark.commands.sql_shell import run_shell

            run_shell(tables, options.rows or _ROWS, vertical=options.vertical)
        elif kind is None:
            yield _shown(tables, query, options)
        elif options.out:
            n_rows = write_answer(_rows(tables, query, options.rows), kind, options.out)
            yield f"{n_rows:,} rows were written to {options.out}"
        else:
            yield from as_text(_rows(tables, query, options.rows), kind)


def _rows(tables: SqlTables, query: str, most: int | None) -> Any:
    return tables.stream(query) if most is None else tables.answer(query, most).to_reader()


def _shown(tables: SqlTables, query: str, options: Options) -> str:
    most = options.rows or _ROWS
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return describe_answer(tables.answer(query, most + 1), most, width=width, vertical=options.vertical)


def _query(options: Options) -> str | None:
    """The query given, or that of a file, or of standard input; None where a person sits there, who wants a shell."""
    if options.file and options.query:
        raise ConfigError("sql: found a query and --file; give one of the two")
    if options.file:
        try:
            with open(os.path.expanduser(options.file), encoding="utf-8") as f:
                return f.read()
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"--file {options.file}: cannot be read ({e})") from e
    if options.query not in (None, "-"):
        return str(options.query)
    if options.query is None and sys.stdin.isatty():
        if options.format or options.out:
            raise ConfigError("sql: expected a query; a shell writes no files")
        return None
    return sys.stdin.read()


def _status(options: Options, _: Config) -> Iterator[str]:
    """Raises AttentionError behind the answer, so that the exit code tells it too."""
    from dedup_spark.commands.status import describe_status, status_json

    found = api.status(None, **_place(options))
    yield status_json(found) if options.json else describe_status(found)
    if not found.is_healthy:
        raise AttentionError(f"status: {'; '.join(found.attention)}")


def _trace(options: Options, _: Config) -> Iterator[str]:
    from dedup_spark.commands.trace import describe_trace

    for found in api.trace(None, options.uri, **_place(options)):
        yield describe_trace(found)


def _explain(options: Options, _: Config) -> Iterator[str]:
    from dedup_spark.commands.explain import describe_explanation

    if len(options.uri) != 2:
        raise ConfigError(f"explain: expected --uri twice, once for each image; found it {len(options.uri)} times")
    yield describe_explanation(api.explain(None, *options.uri, **_place(options)))


def _dendrogram(options: Options, _: Config) -> Iterator[str]:
    from dedup_spark.commands.dendrogram.page import has_pictures, require_kind, write_dendrogram
    from dedup_spark.commands.dendrogram.texts import describe_groups, describe_part, to_newick

    suffix = require_kind(options.out) if options.out else ""  # before tables are read
    is_page, n_thumbnails = suffix == ".html", _THUMBNAILS if options.thumbnails is None else options.thumbnails
    if options.pairs and suffix not in (".html", ".json"):
        raise ConfigError("--pairs: precision and recall are written to a page or JSON: give --out with .html or .json")
    if options.thumbnails and not has_pictures(suffix):
        raise ConfigError("--thumbnails: they are shown in a page or a drawing: give --out with .html or .svg")
    found = api.dendrogram(
        None,
        options.cluster,
        image=options.image,
        at=options.at,
        max_pictures=options.max_pictures,
        max_thumbnails=n_thumbnails if has_pictures(suffix) else 0,
        of_lake=is_page,
        pairs=options.pairs,
        **_place(options),
    )
    if options.out:
        write_dendrogram(found, options.out)
    if options.at is not None:
        yield describe_groups(found)
    if options.out:
        yield f"The tree of {describe_part(found)} was written to {options.out}"
    elif options.at is None:
        yield to_newick(found)


ANSWERS: dict[str, Callable[[Options, Config], Iterator[str]]] = {
    "status": _status,
    "sql": _sql,
    "trace": _trace,
    "explain": _explain,
    "dendrogram": _dendrogram,
}
"""The answers, by the name of the command: `arguments.QUESTIONS`."""
