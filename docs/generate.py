"""Writes the parts of the documents that the code knows. `python docs/generate.py` writes, `--check` only compares.

A part stands between `<!-- name -->` and `<!-- /name -->` in one page of docs/; the function of that name in PARTS
makes its text. Parts that people fill in keep their words: the function takes the text that is there, renews the rest.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands.plan.forecast import Prices, Rates, Workload, parse_cluster
from dedup_spark.commands.plan.text import paper_markdown
from dedup_spark.config import Config
from dedup_spark.kernels.decoding import pillow_plugins
from dedup_spark.kernels.decoding.images import REJECT_REASONS
from dedup_spark.stages.reading.read_ahead import RETRIABLE
from dedup_spark.store import schema, view_definitions

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PACKAGE = ROOT / "dedup_spark"
TO_WRITE = "write it: .venv/bin/python docs/generate.py"
UNWRITTEN = "TODO: say it in docs/"

FOR_PYTHON = (
    "api", "functions", "config", "errors", "store.reader", "sources.addresses", "lookup.lookup", "lookup.answers",
)  # fmt: skip
"""Modules in the reference of Python functions. `api` has what most people need."""


def grid(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def cells(text: str) -> list[list[str]]:
    """The rows of a Markdown table, header left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


# --- tables and views -------------------------------------------------------------------------------------


def tables_part(_: str) -> str:
    """Every table with its key and columns. The columns that repeat those of other tables are named, not repeated."""
    keys = {table.name: ", ".join(f"`{key}`" for key in table.key) for table in schema.ALL}
    return "\n\n".join(
        f"### {table.name}\n\n{table.comment} Key: {keys[table.name]}.\n\n{_columns_of(table)}" for table in schema.ALL
    )


def _columns_of(table: schema.Table) -> str:
    if table is not schema.TOMBSTONES:
        return _column_grid(table.columns)
    own = tuple(c for c in table.columns if c not in schema.IMAGES.columns + schema.FEATURES.columns)
    lacking = set(schema.FEATURES.column_names) - set(table.column_names)
    without = f", without {', '.join(f'`{name}`' for name in sorted(lacking))}" if lacking else ""
    return f"{_column_grid(own)}\n\nAlso all columns of `images` and of `features`{without}."


def _column_grid(columns: tuple[tuple[str, str, str], ...]) -> str:
    return grid(("column", "type", "meaning"), [(f"`{name}`", f"`{kind}`", comment) for name, kind, comment in columns])


def views_part(_: str) -> str:
    return "\n\n".join(
        f"### {view.name}\n\n{view.comment}\n\n"
        + grid(("column", "meaning"), [(f"`{name}`", comment) for name, comment in view.columns])
        for view in view_definitions.VIEWS
    )


def reasons_part(text: str) -> str:
    """What a reason means is written by hand; which reasons there are, and what time may mend, by the code."""
    meaning = {row[0].strip("`"): row[1] for row in cells(text)}
    rows = [
        (f"`{reason}`", meaning.get(str(reason), UNWRITTEN), "yes" if reason in RETRIABLE else "no")
        for reason in REJECT_REASONS
    ]
    return grid(("reason", "means", "time may mend"), rows)


def formats_part(_: str) -> str:
    """Every plugin of Pillow, and every other format that bytes can show, with what is decided of it and why."""
    read = ", ".join(sorted(pillow_plugins.READ_BY, key=str.casefold))
    refused = {**pillow_plugins.REFUSED, **pillow_plugins.WITHOUT_PLUGIN}
    rows = [
        (f"`{name}`", "yes" if name in pillow_plugins.REFUSED else "no", refused[name])
        for name in sorted(refused, key=str.casefold)
    ]
    return f"Pillow decodes {read}.\n\n" + grid(("not decoded", "a plugin of Pillow", "why"), rows)


# --- settings ---------------------------------------------------------------------------------------------


def settings_part(_: str) -> str:
    """Every setting of config.py with its range, and the default and the reason that conf/base.toml writes."""
    comments, parts = _comments(), []
    for section in dataclasses.fields(Config):
        rows = []
        for setting in dataclasses.fields(getattr(Config(), section.name)):
            default, comment = comments[f"{section.name}.{setting.name}"]
            reason = _without_choices(comment, setting.metadata.get("choices") or ())
            rows.append((f"`{setting.name}`", f"`{default}`", _range(setting), reason))
        parts.append(f"### {section.name}\n\n" + grid(("setting", "default", "allowed", "meaning"), rows))
    return "\n\n".join(parts)


def _range(setting: dataclasses.Field[object]) -> str:
    low, high, choices = (setting.metadata.get(name) for name in ("low", "high", "choices"))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if low is not None:
        return f"{low:,} to {high:,}" if high is not None else f"{low:,} or more"
    return {"bool": "`true`, `false`"}.get(str(setting.type), "any")


def _without_choices(comment: str, choices: tuple[str, ...]) -> str:
    """The comment less the choices at its beginning, which have a column of their own."""
    return comment.removeprefix(" | ".join(choices) + ". ")


def _comments() -> dict[str, tuple[str, str]]:
    """Default and comment of each setting, as conf/base.toml writes them."""
    found: dict[str, tuple[str, str]] = {}
    section, key, above = "", "", []
    for line in (ROOT / "conf" / "base.toml").read_text().splitlines():
        if name := re.match(r"\[(\w+)\]", line):
            section, above = name[1], []
        elif setting := re.match(r"(\w+) = (.*?)(?:\s+# (.*))?$", line):
            key = f"{section}.{setting[1]}"
            found[key] = (setting[2], " ".join([*above, *filter(None, [setting[3]])]))
            above = []
        elif more := re.match(r"(\s*)# (.*)", line):
            if more[1]:
                found[key] = (found[key][0], f"{found[key][1]} {more[2]}")
            else:
                above.append(more[2])
    return {key: (default, comment.replace("<", "&lt;")) for key, (default, comment) in found.items()}


def settings_to_change_part(text: str) -> str:
    """Which settings, and when to change them, is written by hand; the defaults are those of conf/base.toml."""
    comments = _comments()
    rows = [(row[0], _short(comments[row[0].strip("`")][0]), row[2]) for row in cells(text)]
    return grid(("setting", "default", "change it when"), rows)


def _short(default: str) -> str:
    return f"`{default}`" if len(default) < 40 else "see below"


# --- commands ---------------------------------------------------------------------------------------------

EVERYWHERE = ("--help", "--tables", "--database", "--config", "--set", "--lake", "--run-id", "--break-lock", "--force",
              "--verbose", "--quiet", "--json-logs")  # fmt: skip


def commands_part(_: str) -> str:
    """The commands with their own options, from the parser of the command line."""
    rows = [
        (f"`{name}`", (sub.description or "").rstrip("."), "; ".join(_own_options(sub)) or "")
        for name, sub in _commands_below(make_parser())
    ]
    return grid(("command", "does", "options of its own"), rows)


def _commands_below(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    """The commands with their parsers, each followed by the commands of two words below it."""
    found = []
    for action in (a for a in parser._actions if isinstance(a, argparse._SubParsersAction)):
        for name, sub in action.choices.items():
            found += [(name, sub), *((f"{name} {below}", p) for below, p in _commands_below(sub))]
    return found


def _own_options(parser: argparse.ArgumentParser) -> list[str]:
    options = [a for a in parser._actions if not isinstance(a, argparse._SubParsersAction)]
    own = [a for a in options if not set(a.option_strings) & set(EVERYWHERE)]
    return [f"`{_typed(a)}` {(a.help or '').replace('<', '&lt;')}".strip() for a in own]


def _typed(action: argparse.Action) -> str:
    """The option as a person types it."""
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    return " ".join(filter(None, [*action.option_strings[:1], str(value)]))


# --- the plan on paper, the rooms, the Python reference ---------------------------------------------------


def paper_part(_: str) -> str:
    """The plans of two lakes that nobody listed, at the default speeds and prices."""
    config, n = Config(), 100_000_000
    prices = Prices(config.plan.dollars_per_core_hour, config.plan.dollars_per_gpu_hour)
    lake = Workload(
        n_images=n, n_bytes=500_000 * n, n_distinct=95_000_000, n_pairs=3 * n,
        n_weighed=config.cluster.max_verified_pairs, n_described=2 * config.cluster.max_verified_pairs,
    )  # fmt: skip
    ten_times = replace(
        lake, n_images=10 * n, n_bytes=10 * lake.n_bytes, n_distinct=10 * lake.n_distinct, n_pairs=10 * lake.n_pairs
    )
    on_both = [parse_cluster(c) for c in ("100xgpu", "100x16cpu")]
    papers = [paper_markdown(one, on_both, Rates(), prices) for one in (lake, ten_times)]
    return "\n\n".join(papers)


def rooms_part(_: str) -> str:
    """Every folder of the package: what it is for, which rooms it uses, and its modules."""
    rooms = sorted({path.parent for path in PACKAGE.rglob("*.py")})
    return "\n\n".join(_room(room) for room in rooms)


def _room(folder: Path) -> str:
    modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    uses = sorted({_room_of(name) for path in modules for name in _imported(path)} - {_name(folder)})
    arrows = f" It uses {', '.join(f'`{room}`' for room in uses)}." if uses else ""
    about = f"{_first_line(folder / '__init__.py')}{arrows}"
    table = grid(("module", "says of itself"), [(f"`{p.name}`", _first_line(p)) for p in modules])
    return f"### {_name(folder)}\n\n{about}" + (f"\n\n{table}" if modules else "")


def _name(folder: Path) -> str:
    return folder.relative_to(ROOT).as_posix()


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def _imported(path: Path) -> set[str]:
    """Full names of the modules of this package that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dedup_spark"):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return {name for name in names if ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file()}


def _room_of(module: str) -> str:
    return "/".join(module.split(".")[:-1])


def python_part(_: str) -> str:
    return "\n\n".join(f"::: dedup_spark.{name}" for name in FOR_PYTHON)


# --- writing ----------------------------------------------------------------------------------------------

PARTS: dict[str, tuple[str, Callable[[str], str]]] = {
    "tables": ("tables.md", tables_part),
    "views": ("tables.md", views_part),
    "reasons": ("reading.md", reasons_part),
    "formats": ("reading.md", formats_part),
    "settings": ("settings.md", settings_part),
    "settings-to-change": ("settings.md", settings_to_change_part),
    "commands": ("commands.md", commands_part),
    "paper": ("plan.md", paper_part),
    "rooms": ("architecture.md", rooms_part),
    "python": ("python.md", python_part),
}


def renewed(page: str, text: str) -> str:
    """The text of a page with its parts as the code makes them now. Raises ValueError where a part has no place."""
    for name, (where, part) in PARTS.items():
        if where == page:
            found = re.search(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", text, re.DOTALL)
            if not found:
                raise ValueError(f"docs/{page} has no part between <!-- {name} --> and <!-- /{name} -->")
            text = text[: found.start(2)] + part(found[2]) + "\n" + text[found.end(2) :]
    return text


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which are not as the code makes them; returns the exit code."""
    outdated = []
    for page in sorted({page for page, _ in PARTS.values()}):
        path = DOCS / page
        text = path.read_text()
        new = renewed(page, text)
        if new != text or UNWRITTEN in new:
            outdated.append(f"docs/{page}")
        if "--check" not in arguments:
            path.write_text(new)
    wrong = outdated if "--check" in arguments else [p for p in outdated if UNWRITTEN in (ROOT / p).read_text()]
    if wrong:
        sys.stderr.write(f"not as the code is: {', '.join(wrong)}; {TO_WRITE}, and say what is marked TODO\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
