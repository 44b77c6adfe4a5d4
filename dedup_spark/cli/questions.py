"""The answers of the commands that only read (`status`, `sql`, `clusters`, ...): like `answers.py`, but without Spark.

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
from dedup_spark.cli.options import load_settings
from dedup_spark.commands.asking import to_ask
from dedup_spark.commands.sql import as_text, describe_answer, format_of, write_answer
from dedup_spark.config import Config
from dedup_spark.errors import AttentionError, ConfigError
from dedup_spark.store.schema import CLUSTERS, IMAGES
from dedup_spark.store.sql_tables import SqlTables
from dedup_spark.store.view_definitions import ViewSettings

__all__ = ["ANSWERS", "load_settings"]

Options = argparse.Namespace

_ROWS = 50
_CLUSTERS, _IMAGES = 20, 1000
_THUMBNAILS = 200


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
        else:
            yield from _as_asked(_rows(tables, query, options.rows), kind, options.out)


def _as_asked(rows: Any, kind: str, out: str | None) -> Iterator[str]:
    """The rows as a text of this format, or in a file."""
    if out:
        yield f"{write_answer(rows, kind, out):,} rows were written to {out}"
    else:
        yield from as_text(rows, kind)


def _rows(tables: SqlTables, query: str, most: int | None) -> Any:
    return tables.stream(query) if most is None else tables.answer(query, most).to_reader()


def _shown(tables: SqlTables, query: str, options: Options) -> str:
    most = options.rows or _ROWS
    return describe_answer(tables.answer(query, most + 1), most, width=_width(), vertical=options.vertical)


def _width() -> int | None:
    """Of the terminal; None where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _query(options: Options) -> str | None:
    """The query given, or that of a file, or of standard input; None where a person sits there, who wants a shell."""
    if options.file and options.query:
        raise ConfigError("sql: found a query and --file; give one of the two")
    if options.file:
        return _text_of(options.file)
    if options.query not in (None, "-"):
        return str(options.query)
    if options.query is None and sys.stdin.isatty():
        if options.format or options.out:
            raise ConfigError("sql: expected a query; a shell writes no files")
        return None
    return sys.stdin.read()


def _text_of(file: str) -> str:
    try:
        with open(os.path.expanduser(file), encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError as e:
        raise ConfigError(f"--file {file}: no such file") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"--file {file}: it is no text in UTF-8") from e
    except OSError as e:
        why = "it is a folder" if isinstance(e, IsADirectoryError) else e.strerror or str(e)
        raise ConfigError(f"--file {file}: cannot be read: {why}") from e


def _clusters(options: Options, config: Config) -> Iterator[str]:
    from dedup_spark.commands.clusters.choosing import Choice
    from dedup_spark.commands.clusters.naming import find_cluster
    from dedup_spark.commands.clusters.reading import images_of, list_of

    kind, choice = format_of(options.format, options.out), _choice(options)
    if options.named is not None and choice != Choice():
        raise ConfigError("clusters: conditions and --sort choose from all clusters; leave them out with one cluster")
    with to_ask("clusters", None, settings=ViewSettings.of(config), **_place(options)) as tables:
        cluster_id = None if options.named is None else find_cluster(tables, options.named)
        if kind is not None:
            asked = (list_of(choice) if cluster_id is None else images_of(cluster_id)).limited(options.limit)
            yield from _as_asked(tables.scan(asked.query, asked.values), kind, options.out)
        elif cluster_id is None:
            yield _list_of_clusters(tables, choice, options.limit or _CLUSTERS)
        else:
            yield _one_cluster(tables, cluster_id, options.limit or _IMAGES)


def _choice(options: Options) -> Any:
    from dedup_spark.commands.clusters.choosing import Choice

    return Choice(
        sort=options.sort,
        reverse=options.reverse,
        min_size=options.min_size,
        max_size=options.max_size,
        relations=tuple(options.relation),
        tiers=tuple(options.tier),
        edits=tuple(options.edit),
        removable=options.removable,
        bridges=options.bridges,
        paths=tuple(options.path),
    )


def _list_of_clusters(tables: SqlTables, choice: Any, most: int) -> str:
    from dedup_spark.commands.clusters import naming, reading, text

    asked = reading.list_of(choice).limited(most + 1)
    rows = tables.ask(asked.query, asked.values).to_pylist()
    if not rows:
        return text.nothing_found(is_every=choice.is_every)
    ids = naming.shown_ids(tables, CLUSTERS, "cluster_id", [row["cluster_id"] for row in rows])
    return text.describe_list(rows, ids, most, _width())


def _one_cluster(tables: SqlTables, cluster_id: int, most: int) -> str:
    from dedup_spark.commands.clusters import naming, reading, text

    asked, freed = reading.images_of(cluster_id).limited(most + 1), reading.freed_of(cluster_id)
    rows = tables.ask(asked.query, asked.values).to_pylist()
    ids = naming.shown_ids(tables, IMAGES, "image_id", [row["image_id"] for row in rows])
    return text.describe_cluster(rows, tables.ask(freed.query, freed.values).to_pylist()[0], ids, most)


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
        raise ConfigError(f"explain: expected --uri twice, once for each image; found {len(options.uri)} of them")
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
    "clusters": _clusters,
    "trace": _trace,
    "explain": _explain,
    "dendrogram": _dendrogram,
}
"""The answers, by the name of the command: `arguments.QUESTIONS`."""
