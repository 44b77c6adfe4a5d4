"""The options of every command. No Spark: `--help` and a wrong option answer at once.

To add a command: a call of `add` here, an answer of the same name in `answers.py`.
"""

from __future__ import annotations

import argparse

import dedup_spark

STEPS = {
    "inventory": "Bring `images` in line with the lake: new objects in, changed ones renewed, vanished ones out.",
    "extract": "Forget what is gone, changed or outdated; read what is missing, slice by slice.",
    "index": "Train cells, assign every representative, write shards, then list them.",
    "match": "Collect pairs from the three sources, keep each once, write, audit.",
    "cluster": "Components, then linkage inside each, then keepers within the bound, ids, relations and reasons.",
    "report": "Create the views, write the script that opens them, gather the figures, write the page.",
}
"""What each step of `pipeline.STEPS` does, in their order."""

RELATIONS = ("same_bytes", "same_pixels", "edited_copy")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; `command` of what it parses names the answer."""
    parser = argparse.ArgumentParser(
        prog="dedup-spark", description="Find duplicate and near-duplicate images in a data lake."
    )
    parser.add_argument("--version", action="version", version=dedup_spark.__version__)
    commands = _Commands(parser)
    for add_some in (_add_steps, _add_plan, _add_embed, _add_sql, _add_verify_removal, _add_questions, _add_upkeep):
        add_some(commands)
    return parser


class _Commands:
    """Adds commands with the options that all of them have."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(self, name: str, text: str, *, lake: bool = False, writes: bool = False) -> argparse.ArgumentParser:
        """`lake`: it works on a lake, in a run. `writes`: it takes the tables, as those on a lake do too."""
        sub = self._commands.add_parser(name, help=text, description=text)
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
        if lake or writes:
            sub.add_argument(
                "--break-lock",
                action="store_true",
                help="take the tables from a run that seems alive; that one ends before it writes again",
            )
        sub.set_defaults(command=name)
        return sub


def _add_steps(commands: _Commands) -> None:
    _add_full(commands.add("run", "all steps, in order", lake=True))
    for step, text in STEPS.items():
        sub = commands.add(step, text, lake=True)
        sub.add_argument("--force", action="store_true", help="do it even if nothing changed")
        if step == "match":
            _add_full(sub)
        if step == "extract":
            sub.add_argument(
                "--retry-rejects",
                nargs="*",
                metavar="REASON",
                help="read rejected images again: those that time may mend",
            )


def _add_full(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="compare all images again, also those matched before")


def _add_plan(commands: _Commands) -> None:
    sub = commands.add("plan", "what a run will cost and find, from the listing and a sample", lake=True)
    sub.add_argument(
        "--cluster",
        action="append",
        default=[],
        metavar="SIZE",
        help="forecast for this one too: <nodes>x<cores>cpu or <nodes>xgpu, e.g. 100x16cpu, 100xgpu",
    )
    sub.add_argument("--json", action="store_true", help="one line of JSON instead of text")


def _add_embed(commands: _Commands) -> None:
    commands.add("embed", "embed all images again, with another model; hashes and thumbnails stay", lake=True)


def _add_sql(commands: _Commands) -> None:
    sub = commands.add("sql", "ask the tables and views by name")
    sub.add_argument("query")
    sub.add_argument("--rows", type=int, default=50, help="rows to show (default: 50)")


def _add_verify_removal(commands: _Commands) -> None:
    sub = commands.add("verify-removal", "look again at what may be removed; write the list of what is still true")
    sub.add_argument("--out", default="removals.csv", metavar="FILE", help="the list, as CSV (default: ./removals.csv)")
    sub.add_argument(
        "--relation", action="append", default=[], choices=RELATIONS, help="only such copies; may be repeated"
    )
    sub.add_argument("--limit", type=int, metavar="N", help="look at so many at most, those first that free most")


def _add_questions(commands: _Commands) -> None:
    sub = commands.add("trace", "one image's rows in every table")
    sub.add_argument("--uri", required=True, help="address, or the end of one")
    sub = commands.add("calibrate", "how well edited copies of this lake's own images are found", lake=True)
    sub.add_argument(
        "--out", default="calibrated.toml", metavar="FILE", help="settings to use with --config (./calibrated.toml)"
    )
    sub = commands.add("explain", "why two images are joined, or are not: the evidence side by side")
    sub.add_argument("--uri", action="append", required=True, help="address, or the end of one; give it twice")
    sub = commands.add("dendrogram", "the hierarchy inside one cluster: Newick text, or a file")
    sub.add_argument("--cluster", type=int, required=True, metavar="ID", help="a cluster_id")
    sub.add_argument("--out", metavar="FILE", help="a drawing (.svg), leaves and merges (.json) or Newick (.nwk)")


def _add_upkeep(commands: _Commands) -> None:
    commands.add("upgrade", "bring tables that an older version wrote to the format of this one", writes=True)
    commands.add("repair", "mend tables in which two runs wrote at once", writes=True)
    sub = commands.add("demo", "the whole job on a small lake of sample photos, or on --lake", writes=True)
    sub.add_argument("--lake", metavar="URI", help="a folder of your own; default: sample photos and edits of them")
