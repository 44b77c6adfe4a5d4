"""The options of every command. It imports no Spark, so that `--help` and a wrong option answer at once.

A command's answer has the same name in `answers.py`; all the places of a new one are listed in docs/contributing.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import dedup_spark
from dedup_spark.cli.options import (
    CLUSTERS,
    COMPLETION,
    DOCTOR,
    LOOKUP,
    SERVE,
    add_engine,
    add_for_clusters,
    add_for_completion,
    add_for_doctor,
    add_for_lookup,
    add_for_serve,
    add_formats,
    add_settings,
    positive,
)
from dedup_spark.cli.parser import Parser
from dedup_spark.errors import ConfigError
from dedup_spark.store.delta_log import KEEP_DAYS
from dedup_spark.vocabulary import Relation, RemovalTier

STEPS = {
    "inventory": "list the lake: which images are new, changed or gone",
    "extract": "read each new or changed image once: hashes, facts, thumbnail and embedding",
    "index": "sort the embeddings into FAISS files by cells of their space",
    "match": "find which images are near each other, and measure what the search missed",
    "cluster": "decide which pairs are copies, form groups, choose which image to keep, and give the reason",
    "report": "write the views for SQL and the page with the figures",
}
"""What each step of `pipeline.STEPS` does, in their order."""
_NEVER_SKIPPED = {
    "inventory": "it lists the lake every time",
    "extract": "it reads what is new or changed every time; --retry-rejects and extract.on_version_change read "
    "again what was read",
    "report": "it is made anew every time",
}
"""Steps that --force would not change, and why."""
UPKEEP = {
    "upgrade": "bring tables that an older version wrote to the format of this one",
    "repair": "mend tables in which two runs wrote at once",
}
CONTINUES = frozenset({"run", *STEPS, "embed", "plan", "calibrate", "demo", "forget", "maintain", *UPKEEP})
"""Commands that go on, when they are given again, where they were stopped."""
QUESTIONS = ("status", "sql", "clusters", "trace", "explain", "dendrogram")
"""Commands that only read; `questions.py` answers them."""
LOOKUPS = ("lookup", "serve")
"""Commands that look images up; `lookups.py` answers them."""
OF_MACHINE = ("completion", "doctor")
"""Commands that are about this machine; `machine.py` answers them."""
_SETTINGS = ("--config", "--set")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the attribute `command` of its result names the answer."""
    parser = Parser(prog="dedup-spark", description="Find duplicate and near-duplicate images in a data lake.")
    parser.add_argument("--version", action="version", version=dedup_spark.__version__)
    _add_tone(parser, default=False)
    commands = _Commands(parser)
    for add_some in _ADDERS:
        add_some(commands)
    return parser


def require_effect(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that were given and would change nothing in this command."""
    given = [option for option in options.ignored if getattr(options, option.strip("-").replace("-", "_"), None)]
    if given:
        raise ConfigError(
            f"{options.command}: found {' and '.join(given)}, which would change nothing: {options.ignored_as}"
        )


def is_question(options: argparse.Namespace) -> bool:
    """Whether this command is answered without Spark."""
    return options.command in QUESTIONS and (options.engine or ("spark" if options.database else "duckdb")) != "spark"


class _Commands:
    """Adds commands with the options that all of them have."""

    def __init__(self, parser: Parser) -> None:
        self._commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        self, name: str, text: str, *, lake: bool = False, writes: bool = False, why_no_settings: str = ""
    ) -> Parser:
        """`lake`: the command works on a lake, in a run. `writes`: it takes the lease, as commands on a lake do too.

        `why_no_settings`: why settings would change nothing; they are then refused with it.
        """
        sub = self._commands.add_parser(name, help=text, description=text)
        _add_common(sub)
        _ignore(sub, _SETTINGS if why_no_settings else (), why_no_settings)
        if lake:
            sub.add_argument("--lake", metavar="URI", help="folder or URI of the images")
            sub.add_argument(
                "--run-id", metavar="ID", help="name of the run (default: continue an interrupted one, else a new name)"
            )
        if lake or writes:
            sub.add_argument(
                "--break-lock",
                action="store_true",
                help="take the tables from a run that seems alive; that run stops before it writes again",
            )
        sub.set_defaults(command=name)
        return sub

    def add_of_machine(self, name: str, text: str) -> Parser:
        """A command without tables."""
        sub = self._commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=name, tables=None, result=None, config=None, set=[])
        _ignore(sub, (), "")
        _add_tone(sub, default=argparse.SUPPRESS)
        return sub

    @staticmethod
    def add_below(parser: argparse.ArgumentParser, name: str, text: str) -> argparse.ArgumentParser:
        """A command of two words, below that of `parser`: what stands before its name counts too."""
        below = parser.add_subparsers(required=False, metavar=f"[{name}]", title="commands below it")
        sub = below.add_parser(name, help=text, description=text, argument_default=argparse.SUPPRESS)
        _add_common(sub, is_below=True)
        sub.set_defaults(command=f"{parser.get_default('command')} {name}")
        return sub


def _ignore(parser: argparse.ArgumentParser, options: Sequence[str], why: str) -> None:
    """`options` would change nothing in this command: `require_effect` refuses them, and --help does not list them."""
    parser.set_defaults(ignored=tuple(options), ignored_as=why)
    for action in parser._actions:
        if set(action.option_strings) & set(options):
            action.help = argparse.SUPPRESS


def _add_common(parser: argparse.ArgumentParser, *, is_below: bool = False) -> None:
    """The options of all commands. `is_below`: an option that is not given leaves what the command above it says."""
    none = argparse.SUPPRESS if is_below else None
    parser.add_argument(
        "--tables", default=none or "tables", metavar="PATH", help="where the tables are (default: ./tables)"
    )
    parser.add_argument(
        "--database", default=none, metavar="NAME", help="catalog schema for the tables, e.g. main.dedup"
    )
    parser.add_argument(
        "--result",
        default=none,
        metavar="NAME",
        help="write the exit code to results/NAME.json below --tables, for a scheduler whose platform hides it",
    )
    add_settings(parser, none)
    _add_tone(parser, default=argparse.SUPPRESS)


def _add_tone(parser: argparse.ArgumentParser, *, default: bool | str) -> None:
    """How much is said, and how: before the name of the command or behind it."""
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "-v", "--verbose", action="store_true", default=default,
        help="show what Ivy, Java and Spark print, and the traces of errors",
    )  # fmt: skip
    amount.add_argument("-q", "--quiet", action="store_true", default=default, help="show warnings and errors alone")
    parser.add_argument(
        "--json-logs",
        action="store_true",
        default=default,
        help="log lines and errors as JSON, an object a line",
    )


def _add_steps(commands: _Commands) -> None:
    whole = commands.add("run", "run all six steps, in order", lake=True)
    whole.why_unknown = f"; each step is a command of its own: {', '.join(STEPS)}"
    _add_full(whole)
    whole.add_argument("--json", action="store_true", help="print the result of the run as one line of JSON")
    for step, text in STEPS.items():
        sub = commands.add(step, text, lake=True)
        sub.add_argument("--force", action="store_true", help="run the step even if nothing changed")
        if step == "cluster":
            sub.why_unknown = "; `dedup-spark clusters` lists the clusters"
        if step in _NEVER_SKIPPED:
            _ignore(sub, ["--force"], _NEVER_SKIPPED[step])
        if step == "index":
            _add_export(commands, sub)
        if step == "match":
            _add_full(sub)
        if step == "extract":
            sub.add_argument(
                "--retry-rejects",
                nargs="*",
                metavar="REASON",
                help="read images with these reject reasons again (default: the reasons that time may mend)",
            )


def _add_export(commands: _Commands, index: argparse.ArgumentParser) -> None:
    sub = commands.add_below(
        index,
        "export",
        "write the vectors of the index as plain FAISS files (IVF,SQfp16), with a map from ids to addresses",
    )
    sub.add_argument("--to", required=True, metavar="DIR", help="an empty or new folder, as path or URI")
    sub.add_argument("--merged", action="store_true", default=False, help="write one file, up to 4 GiB")
    _ignore(
        sub,
        [*_SETTINGS, "--lake", "--run-id", "--break-lock", "--force"],
        "it writes the vectors and cells of the index that is there, in float16 whatever index.faiss_index says, and "
        "changes no table",
    )


def _add_full(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="compare all images again, also those matched before")


def _add_plan(commands: _Commands) -> None:
    sub = commands.add("plan", "estimate what a run will cost and find, from the listing and a sample", lake=True)
    sub.add_argument(
        "--cluster",
        action="append",
        default=[],
        metavar="SIZE",
        help="forecast for this Spark cluster too: <nodes>x<cores>cpu or <nodes>xgpu, e.g. 100x16cpu, 100xgpu",
    )
    sub.add_argument("--json", action="store_true", help="print one line of JSON instead of text")


def _add_embed(commands: _Commands) -> None:
    commands.add("embed", "compute all embeddings again, with another model; hashes and thumbnails stay", lake=True)


def _add_sql(commands: _Commands) -> None:
    sub = commands.add("sql", "answer a SQL query over all tables and views")
    sub.add_argument(
        "query",
        nargs="?",
        help="for example: 'SELECT * FROM duplicates LIMIT 20'; without one it is read from standard input, and on a "
        "terminal a shell opens",
    )
    sub.add_argument("-f", "--file", metavar="FILE", help="read the query from a file")
    sub.add_argument("--rows", type=positive, metavar="N", help="rows to show (default: 50; in files: all)")
    shape = add_formats(sub)
    shape.add_argument("--vertical", action="store_true", help="print a line for each value")
    add_engine(sub)


def _add_clusters(commands: _Commands) -> None:
    add_for_clusters(commands.add("clusters", CLUSTERS))


def _add_verify_removal(commands: _Commands) -> None:
    sub = commands.add("verify-removal", "check again what may be removed, and write the list of what is still true")
    sub.add_argument("--out", default="removals.csv", metavar="FILE", help="the list, as CSV (default: ./removals.csv)")
    sub.add_argument(
        "--relation",
        action="append",
        default=[],
        choices=list(Relation),
        help="check only copies of this relation to their keeper; may be repeated",
    )
    sub.add_argument(
        "--tier",
        action="append",
        default=[],
        choices=list(RemovalTier),
        help="check only copies of this removal tier; may be repeated",
    )
    sub.add_argument("--limit", type=int, metavar="N", help="check at most N copies, those that free most first")


def _add_questions(commands: _Commands) -> None:
    sub = commands.add(
        "trace",
        "show what became of one image, from its listing to its cluster",
        why_no_settings="it shows what the tables hold",
    )
    sub.add_argument("--uri", required=True, help="address of the image, the end of its address, or its id")
    add_engine(sub)
    sub = commands.add(
        "calibrate", "measure how well edited copies of this lake's own images are found, and fit settings", lake=True
    )
    sub.add_argument(
        "--out",
        default="calibrated.toml",
        metavar="FILE",
        help="the settings, to use with --config (default: ./calibrated.toml)",
    )
    sub.add_argument(
        "--pairs",
        metavar="FILE",
        help="measure on pairs that you have labelled instead: CSV or Parquet with image_id_a and image_id_b, or uri_a "
        "and uri_b, and duplicate (1 or 0)",
    )
    sub = commands.add(
        "explain",
        "show why two images are joined, or are not, with the evidence side by side",
        why_no_settings="it takes the settings of the run that made the clusters from the tables; for other settings "
        "run the step cluster with them",
    )
    sub.add_argument(
        "--uri",
        action="append",
        required=True,
        help="address of an image, the end of its address, or its id; give it twice",
    )
    add_engine(sub)
    _add_dendrogram(commands)


def _add_dendrogram(commands: _Commands) -> None:
    sub = commands.add(
        "dendrogram",
        "show how one component was cut into groups, and what another cut would make of it",
        why_no_settings="it takes the settings of the run that cut the tree from the tables. --at shows another cut; "
        "for other settings run the step cluster with them",
    )
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--cluster", metavar="ID", help="the component of this cluster_id, of which the first few hex digits are enough"
    )
    which.add_argument("--image", metavar="URI", help="the same of an image, by its address or the end of it")
    sub.add_argument(
        "--at", type=float, metavar="HEIGHT", help="list the groups at another cut, in the unit of the tree's axis"
    )
    sub.add_argument(
        "--out",
        metavar="FILE",
        help="a page with precision and recall (.html), a drawing (.svg), leaves and merges (.json) or Newick (.nwk)",
    )
    sub.add_argument(
        "--pairs",
        metavar="FILE",
        help="labelled pairs (CSV or Parquet: uri_a, uri_b, duplicate), for their precision and recall",
    )
    sub.add_argument(
        "--max-pictures", type=int, default=500, metavar="N", help="show at most N pictures: a branch (default: 500)"
    )
    sub.add_argument("--thumbnails", type=int, metavar="N", help="thumbnails in a page or drawing (default: 200)")
    add_engine(sub)


def _add_lookups(commands: _Commands) -> None:
    why = "it takes the settings of the last finished run from the tables"
    add_for_lookup(commands.add("lookup", LOOKUP, why_no_settings=why))
    add_for_serve(commands.add("serve", SERVE, why_no_settings=why))


def _add_status(commands: _Commands) -> None:
    sub = commands.add(
        "status",
        "say how the last run ended, whether one is under way, and what to do next; exit code 1 where something is",
        why_no_settings="it shows what the tables hold",
    )
    sub.add_argument("--json", action="store_true", help="print one line of JSON, for a scheduler")
    add_engine(sub)


def _add_forget(commands: _Commands) -> None:
    sub = commands.add(
        "forget",
        "erase images from the tables, their older versions and all files beside them; not from the lake",
        writes=True,
        why_no_settings="what it erases depends on the addresses alone",
    )
    sub.add_argument(
        "--uri",
        action="append",
        default=[],
        metavar="URI",
        help="address of an object, for example s3://bucket/photos/a.jpg, or of one image in it: "
        "s3://bucket/photos.tar#a.jpg; may be repeated",
    )
    sub.add_argument(
        "--prefix",
        action="append",
        default=[],
        metavar="URI",
        help="beginning of addresses, for example s3://bucket/users/42/; may be repeated",
    )
    sub.add_argument("--yes", action="store_true", help="do it without asking first")
    sub.add_argument("--dry-run", action="store_true", help="count what would go, and change nothing")
    sub.add_argument(
        "--state",
        metavar="DIR",
        help="of additions to look-ups (serve --state), where it is not the usual one",
    )
    sub.add_argument(
        "--nobody-writes",
        action="store_true",
        help="go on in a store without a lease, such as HDFS: no run and no OPTIMIZE is writing to these tables",
    )


def _add_upkeep(commands: _Commands) -> None:
    for name, text in UPKEEP.items():
        commands.add(name, text, writes=True, why_no_settings="what it changes depends on the tables alone")
    sub = commands.add(
        "maintain",
        "put small files of the tables together, and with --vacuum delete those of old versions",
        writes=True,
        why_no_settings="what it changes depends on the tables alone",
    )
    sub.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    sub.add_argument(
        "--vacuum",
        action="store_true",
        help="delete the files that no recent version names; those that look-ups read stay",
    )
    sub.add_argument(
        "--keep-days", type=positive, default=KEEP_DAYS, metavar="N", help=f"what is recent (default: {KEEP_DAYS})"
    )
    sub = commands.add("demo", "run all steps on a small lake of sample photos, or on --lake", writes=True)
    sub.add_argument("--lake", metavar="URI", help="a folder of your own (default: sample photos and edits of them)")


def _add_of_machine(commands: _Commands) -> None:
    add_for_completion(commands.add_of_machine("completion", COMPLETION))
    add_for_doctor(commands.add_of_machine("doctor", DOCTOR))


_ADDERS = (
    _add_steps, _add_status, _add_plan, _add_embed, _add_sql, _add_clusters, _add_verify_removal, _add_questions,
    _add_lookups, _add_forget, _add_upkeep, _add_of_machine,
)  # fmt: skip
"""In the order of the list of commands."""
