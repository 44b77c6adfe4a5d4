"""The answer of each command: calls a function of `dedup_spark.api` with the options, and writes its value as text.

An answer is a generator of texts for standard output; `command_line.py` prints them, and the errors that it raises.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dedup_spark import api, console, pipeline
from dedup_spark.cli import questions
from dedup_spark.commands.calibrate.settings_file import describe_operating_point
from dedup_spark.commands.demo import QUERIES
from dedup_spark.commands.export_index.text import describe_export
from dedup_spark.commands.forget.command import Forgettable
from dedup_spark.commands.forget.words import describe_forgotten, describe_found
from dedup_spark.commands.maintain import describe as describe_maintained
from dedup_spark.commands.plan.text import describe_plan, plan_json
from dedup_spark.commands.sql import describe_answer
from dedup_spark.commands.verify_removal.command import describe_removals
from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import REJECT_REASONS
from dedup_spark.stages.command_lines import command_line
from dedup_spark.stages.reading.read_ahead import RETRIABLE
from dedup_spark.stages.report.summary import describe

__all__ = ["ANSWERS", "load_settings"]

Options = argparse.Namespace
Answer = Callable[[Options, Config], Iterator[str]]


def load_settings(options: Options) -> Config:
    """The settings from --config, --set and the options that stand for a setting. Raises ConfigError."""
    return load_config(options.config, [*options.set, *_retries(options)])


def _retries(options: Options) -> list[str]:
    """`--retry-rejects` as the setting that it stands for; without reasons, the reasons that are retriable."""
    reasons = getattr(options, "retry_rejects", None)
    if reasons is None:
        return []
    unknown = sorted(set(reasons) - set(REJECT_REASONS))
    if unknown:
        raise ConfigError(
            f"--retry-rejects: there is no reject reason {', '.join(unknown)}; expected some of "
            f"{', '.join(REJECT_REASONS)}"
        )
    return [f"extract.retry_rejects={json.dumps(reasons or sorted(RETRIABLE))}"]


def _place(options: Options, config: Config) -> dict[str, Any]:
    """The arguments of commands that only read."""
    return {"tables": options.tables, "database": options.database, "settings": config}


def _work(options: Options, config: Config) -> dict[str, Any]:
    """The arguments of commands that work on a lake."""
    given = {"lake": options.lake, "run_id": options.run_id, "break_lock": options.break_lock}
    return _place(options, config) | given


def _run(options: Options, config: Config) -> Iterator[str]:
    done = api.run(None, full=options.full, **_work(options, config))
    if options.json:
        yield run_json(done)


def run_json(done: api.RunResult) -> str:
    """What `run --json` prints: the fields of the result, and its figures where the step report gave them."""
    figures = {name: done.counts.get("report", {}).get(name) for name in ("clusters", "removable", "removable_bytes")}
    return json.dumps(asdict(done) | figures | {"report": done.report}, sort_keys=True)


def _step(options: Options, config: Config) -> Iterator[str]:
    is_full = getattr(options, "full", False)
    api.run_step(None, options.command, full=is_full, force=options.force, **_work(options, config))
    yield from ()


def _embed(options: Options, config: Config) -> Iterator[str]:
    api.embed(None, **_work(options, config))
    yield from ()


def _plan(options: Options, config: Config) -> Iterator[str]:
    made = api.plan(None, clusters=options.cluster, **_work(options, config))
    yield plan_json(made) if options.json else describe_plan(made)


def _calibrate(options: Options, config: Config) -> Iterator[str]:
    out = Path(os.path.expanduser(options.out))  # Path.expanduser raises where nobody knows the home
    folder = out.absolute().parent
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
        raise ConfigError(f"--out {options.out}: expected a file in a folder that can be written to; {folder} is none")
    found = api.calibrate(None, pairs=options.pairs, **_work(options, config))
    out.write_text(found.toml, encoding="utf-8")
    if found.labels:
        yield found.labels
    yield describe_operating_point(found.point, config)
    go_on = command_line("run", options.lake, options.tables, options.database, "--config", options.out)
    yield f"All settings were written to {options.out}. Go on with them: {go_on}"


def _verify_removal(options: Options, config: Config) -> Iterator[str]:
    asked = {"out": options.out, "relations": options.relation, "tiers": options.tier, "limit": options.limit}
    yield describe_removals(api.verify_removal(None, **asked, **_place(options, config)))


def _export_index(options: Options, _: Config) -> Iterator[str]:
    place = {"tables": options.tables, "database": options.database}
    yield describe_export(api.export_index(None, to=options.to, merged=options.merged, **place))


def _forget(options: Options, _: Config) -> Iterator[str]:
    asks = not (options.yes or options.dry_run)
    if asks and not sys.stdin.isatty():
        raise ConfigError(
            "forget: it cannot be undone, and nobody is here to be asked: give --yes, or --dry-run to see what would go"
        )
    asked = {"uris": options.uri, "prefixes": options.prefix, "dry_run": options.dry_run}
    place = {"tables": options.tables, "database": options.database, "break_lock": options.break_lock}
    place |= {"nobody_writes": options.nobody_writes, "state": options.state}
    yield describe_forgotten(api.forget(None, confirm=_is_confirmed if asks else None, **asked, **place))


def _is_confirmed(found: Forgettable) -> bool:
    """Ask on the terminal."""
    console.say(f"forget: this erases {describe_found(found)}, with all older versions of the tables, for good")
    console.say("type yes to go on")
    return sys.stdin.readline().strip().lower() == "yes"


def _upkeep(options: Options, _: Config, do: Callable[..., dict[str, int]]) -> Iterator[str]:
    changed = do(None, tables=options.tables, database=options.database, break_lock=options.break_lock)
    figures = ", ".join(f"{n:,} {what}" for what, n in changed.items() if n)
    yield f"{options.command}: {figures or 'nothing to do'}"


def _maintain(options: Options, _: Config) -> Iterator[str]:
    asked = {"vacuum": options.vacuum, "keep_days": options.keep_days, "dry_run": options.dry_run}
    place = {"tables": options.tables, "database": options.database, "break_lock": options.break_lock}
    yield describe_maintained(api.maintain(None, **asked, **place), dry_run=options.dry_run)


def _demo(options: Options, config: Config) -> Iterator[str]:
    """Run all steps; print what was found, where it is, and the answers to three questions."""
    place = _place(options, config)
    done = api.demo(None, lake=options.lake, break_lock=options.break_lock, **place)
    yield "\n" + describe(api.summary(None, **place))
    yield f"\ntables  {done.tables}\nreport  {done.report}"
    for question, query in QUERIES:
        yield f'\n{question}\n  dedup-spark sql --tables {done.tables} "{query}"\n'
        yield describe_answer(api.sql(None, query, max_rows=21, engine="spark", **place), 20)


ANSWERS: dict[str, Answer] = {
    "run": _run,
    **{step.name: _step for step in pipeline.STEPS},
    "index export": _export_index,
    "plan": _plan,
    "embed": _embed,
    "verify-removal": _verify_removal,
    "calibrate": _calibrate,
    "forget": _forget,
    "upgrade": functools.partial(_upkeep, do=api.upgrade),
    "repair": functools.partial(_upkeep, do=api.repair),
    "maintain": _maintain,
    "demo": _demo,
    **questions.ANSWERS,
}
"""The answers, by the name of the command."""
