"""The command `dedup-spark`: parse, check everything before Spark starts, call the pipeline, say what happened.

Exit codes: 0 done, 1 a step failed (the message says how to continue), 2 wrong settings or surroundings.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pyspark.sql import SparkSession

import dedup_spark
from dedup_spark import pipeline
from dedup_spark.commands.calibrate import step as calibrate
from dedup_spark.commands.calibrate.settings_file import overlay, say_operating_point
from dedup_spark.commands.demo import demo
from dedup_spark.commands.demo_lake import build_demo_lake
from dedup_spark.commands.dendrogram import write_dendrogram
from dedup_spark.commands.explain import explain_pair
from dedup_spark.commands.plan.forecast import parse_cluster
from dedup_spark.commands.plan.plan import make_plan
from dedup_spark.commands.plan.text import describe_plan, plan_json
from dedup_spark.commands.repair import repair
from dedup_spark.commands.sql import run_sql
from dedup_spark.commands.trace import trace_image
from dedup_spark.commands.upgrade import require_current, upgrade
from dedup_spark.commands.verify_removal.command import RELATIONS, Wanted, require_file, verify_removal
from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError, DedupError, LeaseError
from dedup_spark.kernels.decoding.images import REJECT_REASONS
from dedup_spark.models.registry import require_model
from dedup_spark.sources import addresses
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.session import configure_logging, get_session, require_java, require_startable
from dedup_spark.stages.reading.read_ahead import RETRIABLE
from dedup_spark.store import lease
from dedup_spark.store.runs import Run, new_run_id
from dedup_spark.store.tables import Tables
from dedup_spark.store.views import ViewSettings
from dedup_spark.vocabulary import StepName

log = logging.getLogger(__name__)

Command = Callable[[argparse.Namespace, Config], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(arguments)
    configure_logging()
    try:
        config = load_config(options.config, [*options.set, *_retries(options)])
        options.command(options, config)
    except ConfigError as e:
        for problem in e.problems:
            _say(f"dedup-spark: {problem}", error=True)
        return 2
    except DedupError as e:
        _say(f"dedup-spark: {e}", error=True)
        return _failed(arguments)
    except Exception:
        log.exception("unexpected error")
        return _failed(arguments)
    finally:
        if options.lease:
            options.lease.release()
    return 0


def _failed(arguments: list[str]) -> int:
    again = shlex.join(argument for argument in arguments if argument != "--break-lock")
    _say(f"dedup-spark: stopped. Finished work is kept; continue with: dedup-spark {again}", error=True)
    return 1


def _retries(options: argparse.Namespace) -> list[str]:
    """`--retry-rejects` as the setting that it stands for; without reasons it means the retriable ones."""
    reasons = getattr(options, "retry_rejects", None)
    if reasons is None:
        return []
    unknown = sorted(set(reasons) - set(REJECT_REASONS))
    if unknown:
        raise ConfigError(
            f"--retry-rejects: no such reason {', '.join(unknown)}; there are {', '.join(REJECT_REASONS)}"
        )
    return [f"extract.retry_rejects={json.dumps(reasons or sorted(RETRIABLE))}"]


def _run(options: argparse.Namespace, config: Config) -> None:
    spark, run = _open(options, config)
    pipeline.run_all(spark, config, run)


def _one_step(options: argparse.Namespace, config: Config) -> None:
    spark, run = _open(options, config)
    pipeline.run_step(spark, config, run, pipeline.find_step(options.step), force=options.force)


def _embed(options: argparse.Namespace, config: Config) -> None:
    spark, run = _open(options, config)
    pipeline.run_step(spark, config, run, pipeline.EMBED)


def _sql(options: argparse.Namespace, config: Config) -> None:
    run_sql(_open_tables(options), options.query, options.rows, ViewSettings.of(config), _say)


def _verify_removal(options: argparse.Namespace, config: Config) -> None:
    wanted = Wanted(tuple(options.relation), options.limit)
    require_file(options.out)  # before Spark starts
    verify_removal(_open_tables(options), config, wanted, options.out, _say)


def _trace(options: argparse.Namespace, _: Config) -> None:
    trace_image(_open_tables(options), options.uri, _say)


def _plan(options: argparse.Namespace, config: Config) -> None:
    clusters = [parse_cluster(text) for text in options.cluster]
    spark, run = _open_beside(options, config)
    made = make_plan(spark, config, run, clusters)
    _say(plan_json(made) if options.json else describe_plan(made))


def _calibrate(options: argparse.Namespace, config: Config) -> None:
    folder = Path(options.out).expanduser().absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise ConfigError(f"--out {options.out}: {folder} is no folder that can be written to")
    options.run_id = options.run_id or new_run_id()  # no part of a run that was interrupted
    spark, run = _open(options, config)
    with run.step(StepName.CALIBRATE):
        found = calibrate.run(spark, config, run)
    Path(options.out).expanduser().write_text(overlay(found, config, run.run_id), encoding="utf-8")
    say_operating_point(found.point, config, options.out, _say)


def _explain(options: argparse.Namespace, _: Config) -> None:
    explain_pair(_open_tables(options), options.uri, _say)


def _dendrogram(options: argparse.Namespace, config: Config) -> None:
    write_dendrogram(_open_tables(options), options.cluster, config.cluster.linkage, options.out, _say)


def _demo(options: argparse.Namespace, config: Config) -> None:
    require_java()  # before the lake of samples is built
    if not options.lake:
        _require_writable(options.tables)
        options.lake = str(build_demo_lake(Path(options.tables).absolute().parent / "lake").folder)
    _, run = _open(options, config)
    demo(run, _say)


def _upgrade(options: argparse.Namespace, _: Config) -> None:
    _require_tables(options)
    tables = _take_tables(options)
    _say_changes("upgrade", upgrade(tables))


def _repair(options: argparse.Namespace, _: Config) -> None:
    _require_tables(options)
    _say_changes("repair", repair(_take_tables(options)))


def _say_changes(command: str, changed: dict[str, int]) -> None:
    figures = ", ".join(f"{n:,} {what}" for what, n in changed.items() if n)
    _say(f"{command}: {figures or 'nothing to do'}")


def _open(options: argparse.Namespace, config: Config) -> tuple[SparkSession, Run]:
    """Check what can be checked without Spark, take the tables, then open session, tables and run."""
    _require_all(options, config)
    tables = _take_tables(options)
    require_current(tables)
    lake = open_source(options.lake, config.inventory).root
    run_id = pipeline.run_id_to_use(tables, lake, options.run_id)
    if tables.lease:
        tables.lease.name_run(run_id)
    log.info("run %s: lake %s, tables %s", run_id, lake, tables.root)
    return tables.spark, Run(tables, config, lake, run_id, full=getattr(options, "full", False))


def _open_beside(options: argparse.Namespace, config: Config) -> tuple[SparkSession, Run]:
    """The same for a command that writes nothing but the log of runs, and may work beside a run that writes."""
    _require_all(options, config)
    root = _absolute(options.tables)
    spark = get_session("dedup-spark")
    if not Tables(spark, root, options.database).are_current():  # they must be made first, which is to write
        require_current(_take_tables(options))
        if options.lease:
            options.lease.release()
    lake = open_source(options.lake, config.inventory).root
    tables = Tables(spark, root, options.database)
    return spark, Run(tables, config, lake, options.run_id or new_run_id(), is_logged=not _has_one_driver(root))


def _has_one_driver(root: str) -> bool:
    """Whether Delta lets one driver alone commit there: of two on S3 one commit may be lost."""
    return root.startswith(("s3://", "s3a://", "s3n://"))


def _take_tables(options: argparse.Namespace) -> Tables:
    """The tables, which are this command's alone until it ends. Starts Spark. Raises ConfigError."""
    require_startable()
    root = _absolute(options.tables)
    try:
        options.lease = lease.take(
            root, options.run_id or "of a new name", f"dedup-spark {options.name}", break_lock=options.break_lock
        )
    except LeaseError as e:  # at the start this is a matter of surroundings
        raise ConfigError(str(e)) from e
    except Exception as e:  # each store has error types of its own
        raise ConfigError(f"--tables {options.tables}: cannot be written: {type(e).__name__}: {e}") from e
    tables = Tables(get_session("dedup-spark"), root, options.database, lease=options.lease)
    tables.create_missing()
    if options.lease:
        tables.sweep_staged()
        if options.lease.took_over:
            log.warning("lease: the run that held the tables before has ended without saying so; they were taken over")
    return tables


def _require_all(options: argparse.Namespace, config: Config) -> None:
    """Raise ConfigError with everything that is wrong with lake, tables and model."""
    problems: list[str] = []
    checks: tuple[Callable[[], None], ...] = (
        lambda: _require_lake(options.lake, config),
        lambda: _require_writable(options.tables),
        lambda: _require_apart(options.lake, options.tables, options.database),
        lambda: require_model(config.extract),
    )
    for check in checks:
        try:
            check()
        except ConfigError as e:
            problems += [p for p in e.problems if p not in problems]
    if problems:
        raise ConfigError(problems)


def _open_tables(options: argparse.Namespace) -> Tables:
    """For commands that only read."""
    _require_tables(options)
    tables = Tables(get_session("dedup-spark"), _absolute(options.tables), options.database)
    if not tables.are_current():
        raise ConfigError(
            f"--tables {options.tables}: written by an older dedup-spark, or not at all; `dedup-spark upgrade` with "
            "the same --tables brings older ones to this version, `dedup-spark run` makes new ones"
        )
    return tables


def _require_tables(options: argparse.Namespace) -> None:
    root = _absolute(options.tables)
    if options.database:
        are_there = Tables(get_session("dedup-spark"), root, options.database).are_there()
    else:
        are_there = "://" in root or Path(root, "runs", "_delta_log").is_dir()
    if not are_there:
        raise ConfigError(f"--tables {options.tables}: there are no dedup-spark tables; `dedup-spark run` makes them")


def _require_lake(lake: str | None, config: Config) -> None:
    if not lake:
        raise ConfigError("--lake is missing: the folder or URI that holds the images")
    _ = open_source(lake, config.inventory).root  # looks whether it is there


def _require_apart(lake: str | None, tables: str, database: str | None) -> None:
    """Tables inside the lake would be listed as images, and be lost with the folder that a person cleans up."""
    if not lake or database:
        return
    outer, inner = (addresses.to_uri(place) + "/" for place in (lake, tables))
    if inner.startswith(outer):
        raise ConfigError(f"--tables {tables}: lies inside the lake ({lake}); choose a folder outside it")


def _require_writable(root: str) -> None:
    if "://" in _absolute(root):
        return  # the first write to a table says it
    path = Path(_absolute(root))
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--tables {root}: cannot be written ({existing} is {'read-only' if existing.is_dir() else 'a file'})"
        )


def _absolute(root: str) -> str:
    """As the tables know their root: a path where it is local, however it is written, else the URI."""
    if root.startswith("file:"):
        return addresses.to_path(addresses.to_uri(root))
    return root if "://" in root else str(Path(root).expanduser().absolute())


def _say(text: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    stream.write(text + "\n")
    stream.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dedup-spark", description="Find duplicate and near-duplicate images in a data lake."
    )
    parser.add_argument("--version", action="version", version=dedup_spark.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Command, text: str, *, lake: bool = False, writes: bool = False
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--tables", default="tables", metavar="PATH", help="where the tables live (default: ./tables)")
        sub.add_argument("--database", metavar="NAME", help="catalog schema for the tables, e.g. main.dedup")
        sub.add_argument("--config", metavar="FILE", help="TOML settings; see conf/base.toml")
        sub.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, e.g. match.min_similarity=0.5"
        )
        if lake:
            sub.add_argument("--lake", metavar="URI", help="folder or URI of the images")
            sub.add_argument(
                "--run-id", metavar="ID", help="name of the run (default: continue an interrupted one, else a new name)"
            )
        else:
            sub.set_defaults(run_id=None)
        if lake or writes:
            sub.add_argument(
                "--break-lock",
                action="store_true",
                help="take the tables from a run that seems alive; that one ends before it writes again",
            )
        sub.set_defaults(command=command, name=name, lease=None)
        return sub

    _add_full(add("run", _run, "all steps, in order", lake=True))
    for step in pipeline.STEPS:
        sub = add(step.name, _one_step, (step.stage.__doc__ or "").splitlines()[0], lake=True)
        sub.add_argument("--force", action="store_true", help="do it even if nothing changed")
        sub.set_defaults(step=step.name)
        if step.remembers:
            _add_full(sub)
        if step.name == "extract":
            sub.add_argument(
                "--retry-rejects",
                nargs="*",
                metavar="REASON",
                help="read rejected images again: those that time may mend",
            )
    sub = add("plan", _plan, "what a run will cost and find, from the listing and a sample", lake=True)
    sub.add_argument(
        "--cluster",
        action="append",
        default=[],
        metavar="SIZE",
        help="forecast for this one too: <nodes>x<cores>cpu or <nodes>xgpu, e.g. 100x16cpu, 100xgpu",
    )
    sub.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    add("embed", _embed, "embed all images again, with another model; hashes and thumbnails stay", lake=True)
    sql = add("sql", _sql, "ask the tables and views by name")
    sql.add_argument("query")
    sql.add_argument("--rows", type=int, default=50, help="rows to show (default: 50)")
    sub = add(
        "verify-removal", _verify_removal, "look again at what may be removed; write the list of what is still true"
    )
    sub.add_argument("--out", default="removals.csv", metavar="FILE", help="the list, as CSV (default: ./removals.csv)")
    sub.add_argument(
        "--relation", action="append", default=[], choices=RELATIONS, help="only such copies; may be repeated"
    )
    sub.add_argument("--limit", type=int, metavar="N", help="look at so many at most, those first that free most")
    add("trace", _trace, "one image's rows in every table").add_argument(
        "--uri", required=True, help="address, or the end of one"
    )
    add("calibrate", _calibrate, "how well edited copies of this lake's own images are found", lake=True).add_argument(
        "--out", default="calibrated.toml", metavar="FILE", help="settings to use with --config (./calibrated.toml)"
    )
    sub = add("explain", _explain, "why two images are joined, or are not: the evidence side by side")
    sub.add_argument("--uri", action="append", required=True, help="address, or the end of one; give it twice")
    sub = add("dendrogram", _dendrogram, "the hierarchy inside one cluster: Newick text, or a file")
    sub.add_argument("--cluster", type=int, required=True, metavar="ID", help="a cluster_id")
    sub.add_argument("--out", metavar="FILE", help="a drawing (.svg), leaves and merges (.json) or Newick (.nwk)")
    add("upgrade", _upgrade, "bring tables that an older version wrote to the format of this one", writes=True)
    add("repair", _repair, "mend tables in which two runs wrote at once", writes=True)
    sub = add("demo", _demo, "the whole job on a small lake of sample photos, or on --lake", writes=True)
    sub.add_argument("--lake", metavar="URI", help="a folder of your own; default: sample photos and edits of them")
    return parser


def _add_full(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="compare all images again, also those matched before")
