"""Options that several commands have, and those of commands with many. It imports no Spark."""

from __future__ import annotations

import argparse

from dedup_spark.commands.clusters.choosing import SORTS
from dedup_spark.commands.completion import SHELLS
from dedup_spark.config import Config, load_config
from dedup_spark.vocabulary import Edit, Relation, RemovalTier

CLUSTERS = "list the clusters, the largest first, or show one with all its images, and why each stays or may go"
DOCTOR = "say what is installed on this machine, what is missing, and the command for it"
LOOKUP = "say of which images of the lake other images are copies, by the last finished run; no Spark"
SERVE = "answer look-ups over HTTP, with a page for the browser, and follow the runs as they finish; no Spark"
COMPLETION = "print a script by which the shell completes commands, options and their values"


def load_settings(options: argparse.Namespace) -> Config:
    """The settings from --config and --set. Raises ConfigError."""
    return load_config(options.config, options.set)


def positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 on")
    return int(text)


def add_formats(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """How an answer is written, where it is not shown."""
    shape = parser.add_mutually_exclusive_group()
    for name, text in (("csv", "CSV"), ("json", "one array of JSON"), ("parquet", "Parquet, with --out")):
        shape.add_argument(
            f"--{name}", action="store_const", dest="format", const=name, help=f"write the answer as {text}"
        )
    parser.add_argument("--out", metavar="FILE", help="write the answer to a file: .csv, .json or .parquet")
    return shape


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=("duckdb", "spark"),
        help="duckdb needs no Java and answers in seconds; spark for a catalog (default: spark with --database)",
    )


def add_settings(parser: argparse.ArgumentParser, none: str | None = None) -> None:
    parser.add_argument("--config", default=none, metavar="FILE", help="TOML settings; see conf/base.toml")
    parser.add_argument(
        "--set",
        action="append",
        default=none or [],
        metavar="KEY=VALUE",
        help="one setting, e.g. match.min_similarity=0.4; may be repeated",
    )


def add_for_clusters(parser: argparse.ArgumentParser) -> None:
    """Those of `clusters` alone, and how its answer is written."""
    parser.epilog = "For example: dedup-spark clusters --removable --sort frees; dedup-spark clusters 05/coffee.jpg"
    parser.add_argument(
        "named",
        nargs="?",
        metavar="ID",
        help="show this cluster: its id, of which the first few hex digits are enough, or an image in it, by its id, "
        "its address or the end of that",
    )
    parser.add_argument(
        "--sort",
        default="size",
        choices=tuple(SORTS),
        help="by the number of images (the default), the bytes that removing would free, the number of removable "
        "images, the distance of the image that is farthest from its keeper, or the address of the keeper",
    )
    parser.add_argument("--reverse", action="store_true", help="the other end first")
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="clusters, or images of one, to show (default: 20, 1,000; in "
        "files: all)"
    )  # fmt: skip
    _add_conditions(parser)
    add_formats(parser)
    add_engine(parser)


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    """Which clusters are listed; they are those of `Choice`."""
    listed = parser.add_argument_group("which clusters are listed")
    listed.add_argument("--min-size", type=positive, metavar="N", help="only clusters of N images or more")
    listed.add_argument("--max-size", type=positive, metavar="N", help="only clusters of N images or fewer")
    for name, words in (("relation", Relation), ("tier", RemovalTier), ("edit", Edit)):
        listed.add_argument(
            f"--{name}",
            action="append",
            default=[],
            choices=list(words),
            help=f"only clusters with a copy of this {'removal tier' if name == 'tier' else name}; may be repeated, "
            "for any of several",
        )
    listed.add_argument("--removable", action="store_true", help="only clusters with such a copy that may go now")
    listed.add_argument(
        "--bridges", action="store_true", help="only clusters with such a copy that has a pair with an image outside"
    )
    listed.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="GLOB",
        help="only clusters with an image at such an address, e.g. '*/2019/*.jpg': * stands for any characters, ? for "
        "one; may be repeated, for clusters with an image at each",
    )


def add_for_lookup(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "For example: dedup-spark lookup --tables demo/tables new.jpg; dedup-spark lookup --json uploads/*"
    parser.add_argument("paths", nargs="*", metavar="PATH", help="an image, by its path or URI")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each image instead of text")
    parser.add_argument(
        "--never-match", metavar="REASON",
        help="look nothing up: let these images, and those of --hash, match nothing from now on",
    )  # fmt: skip
    parser.add_argument(
        "--hash", action="append", default=[], metavar="KIND=HEX",
        help="with --never-match: a content_hash, pixel_hash or phash; may be repeated",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show also what was compared and is no copy, and why")
    parser.add_argument(
        "--exhaustive",
        action="store_true",
        help="go on where equal bytes or pixels are an answer already, and compare with every vector",
    )
    _add_folders(parser)


def add_for_serve(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "For example: dedup-spark serve --tables demo/tables; then open http://127.0.0.1:8765"
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="what to listen on (default: 127.0.0.1, this machine alone); another one needs DEDUP_SPARK_TOKEN in the "
        "environment",
    )
    parser.add_argument("--port", type=positive, default=8765, metavar="N", help="default: 8765")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PREFIX",
        help="let requests name images by an address below this folder or URI; may be repeated (default: none may)",
    )
    parser.add_argument("--max-upload-mib", type=positive, default=32, metavar="N", help="of one request (default: 32)")
    parser.add_argument(
        "--max-waiting", type=positive, default=128, metavar="N",
        help="requests that wait; more are told to come again (default: 128)",
    )  # fmt: skip
    parser.add_argument(
        "--reload-seconds", type=float, default=30.0, metavar="S", help="how often to look for a new run (default: 30)"
    )
    _add_folders(parser)


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache", metavar="DIR", help="for copies of vectors and thumbnails, 12 KB an image (default: ~/.cache)"
    )
    parser.add_argument(
        "--state", metavar="DIR", help="of what was added, and what never matches (default: ~/.local/state)"
    )


_WHERE = f"""\
{COMPLETION}

bash, once, for all shells that start from then on:
  mkdir -p ~/.local/share/bash-completion/completions
  dedup-spark completion bash > ~/.local/share/bash-completion/completions/dedup-spark
zsh, once, with a folder of $fpath that you can write to:
  dedup-spark completion zsh > "${{fpath[1]}}/_dedup-spark"
for this shell alone:
  eval "$(dedup-spark completion bash)"
"""


def add_for_completion(parser: argparse.ArgumentParser) -> None:
    parser.description = _WHERE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))


def add_for_doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"{DOCTOR}: Java, Spark, Delta Lake, the model, decoders, FAISS, stores, GPUs. It starts no Spark. Exit code 0 "
        "where a run with these settings could start, else 2."
    )
    add_settings(parser)
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of text")
