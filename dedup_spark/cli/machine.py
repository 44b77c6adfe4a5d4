"""The answers about this machine, `completion` and `doctor`: they need no tables, no Spark and hardly a package."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from dedup_spark.cli.arguments import make_parser
from dedup_spark.cli.options import load_settings
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError

__all__ = ["ANSWERS", "load_settings"]

Options = argparse.Namespace


def _completion(options: Options, _: Config) -> Iterator[str]:
    from dedup_spark.commands.completion import completion_script

    yield completion_script(make_parser(), options.shell).rstrip("\n")


def _doctor(options: Options, config: Config) -> Iterator[str]:
    from dedup_spark.commands.doctor.checks import examine
    from dedup_spark.commands.doctor.findings import lacking
    from dedup_spark.commands.doctor.text import describe_findings, findings_json

    found = examine(config)
    yield findings_json(found) if options.json else describe_findings(found)
    if missing := lacking(found):
        raise ConfigError(f"a run cannot start: {', '.join(missing)}")


ANSWERS: dict[str, Callable[[Options, Config], Iterator[str]]] = {"completion": _completion, "doctor": _doctor}
"""The answers, by the name of the command: `arguments.OF_MACHINE`."""
