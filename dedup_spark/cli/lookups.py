"""The answers of `lookup` and `serve`: from the last finished run, without Spark and Java."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

from dedup_spark.cli.options import load_settings
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError, SourceError

__all__ = ["ANSWERS", "load_settings"]

Options = argparse.Namespace

_AT_ONCE = 16


def _lookup(options: Options, _: Config) -> Iterator[str]:
    from dedup_spark.lookup.files import look_up_files
    from dedup_spark.lookup.lookup import Lookup
    from dedup_spark.lookup.lookup import Options as Opened
    from dedup_spark.lookup.text import answer_json, describe_answer

    _refuse_database(options)
    _require_something(options)
    if options.never_match is not None:
        yield from _never_match(options)
        return
    as_text = answer_json if options.json else describe_answer
    asked = {"exhaustive": options.exhaustive, "others": options.all}
    with Lookup.open(options.tables, Opened(cache=options.cache, state=options.state, reload_seconds=0)) as opened:
        for paths in itertools.batched(options.paths, _AT_ONCE):
            for path, answer in look_up_files(opened, paths, **asked):
                yield as_text(path, answer)


def _never_match(options: Options) -> Iterator[str]:
    from dedup_spark.kernels.decoding.images import ImageRejected
    from dedup_spark.lookup.files import read_file
    from dedup_spark.lookup.lookup import Lookup
    from dedup_spark.lookup.lookup import Options as Opened

    named = [hash_of(text) for text in options.hash]  # all of them, before any is listed
    with Lookup.open(options.tables, Opened(cache=options.cache, state=options.state, reload_seconds=0)) as opened:
        for kind, value in named:
            of_kind: dict[str, Any] = {kind: value}
            opened.never_match(reason=options.never_match, **of_kind)
            yield f"{kind}={value}: matches nothing from now on"
        for path in options.paths:
            try:
                opened.never_match(read_file(path, opened.max_bytes), reason=options.never_match)
            except ImageRejected as e:
                raise SourceError(f"{path}: {e.reason}: {e.message}; it is not on the list") from e
            yield f"{path}: matches nothing from now on"


def hash_of(text: str) -> tuple[str, str]:
    """Kind and value of `KIND=HEX`. Raises ConfigError."""
    from dedup_spark.lookup.never import KINDS

    kind, equals, value = text.partition("=")
    if not equals or kind not in KINDS:
        raise ConfigError(f"--hash {text}: expected one of {', '.join(KINDS)}, then = and the hash in hex")
    return kind, value


def _require_something(options: Options) -> None:
    if options.hash and options.never_match is None:
        raise ConfigError("--hash: only with --never-match REASON; look-ups are of images")
    if not options.paths and not options.hash:
        raise ConfigError("lookup: expected the path or URI of an image")


def _serve(options: Options, _: Config) -> Iterator[str]:
    _require_packages()
    _one_thread_each()
    from dedup_spark.lookup.lookup import Options as Opened
    from dedup_spark.lookup.service.server import serve
    from dedup_spark.lookup.service.settings import ServiceSettings

    _refuse_database(options)
    bounds = {"max_upload_bytes": options.max_upload_mib << 20, "max_waiting": options.max_waiting}
    settings = ServiceSettings.of(options.host, options.port, options.allow, **bounds)
    opened = Opened(
        cache=options.cache,
        state=options.state,
        decode_seconds=settings.decode_seconds,
        reload_seconds=options.reload_seconds,
    )
    serve(options.tables, opened, settings)
    yield from ()


def _one_thread_each() -> None:
    """Requests are what runs side by side. Libraries read this when they are loaded, and OpenMP's own call would bind
    one thread of the process only."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


def _require_packages() -> None:
    missing = [name for name in ("starlette", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve needs {', '.join(missing)}: `pip install 'dedup-spark[serve]'`")


def _refuse_database(options: Options) -> None:
    if options.database:
        raise ConfigError("--database: tables of a catalog are read from their folder; give --tables that")


ANSWERS: dict[str, Callable[[Options, Config], Iterator[str]]] = {"lookup": _lookup, "serve": _serve}
"""The answers, by the name of the command: `arguments.LOOKUPS`."""
