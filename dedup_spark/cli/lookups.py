"""The answers of `lookup`: from the last finished run, without Spark and Java."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator

from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError

Options = argparse.Namespace

_AT_ONCE = 16


def load_settings(options: Options) -> Config:
    """The defaults: those of the run are in its tables."""
    return load_config(options.config, options.set)


def _lookup(options: Options, _: Config) -> Iterator[str]:
    from dedup_spark.lookup.files import look_up_files
    from dedup_spark.lookup.lookup import Lookup
    from dedup_spark.lookup.lookup import Options as Opened
    from dedup_spark.lookup.text import answer_json, describe_answer

    if options.database:
        raise ConfigError("--database: tables of a catalog are read from their folder; give --tables that")
    as_text = answer_json if options.json else describe_answer
    asked = {"exhaustive": options.exhaustive, "others": options.all}
    with Lookup.open(options.tables, Opened(cache=options.cache, reload_seconds=0)) as opened:
        for paths in itertools.batched(options.paths, _AT_ONCE):
            for path, answer in look_up_files(opened, paths, **asked):
                yield as_text(path, answer)


ANSWERS: dict[str, Callable[[Options, Config], Iterator[str]]] = {"lookup": _lookup}
"""The answers, by the name of the command: `arguments.LOOKUPS`."""
