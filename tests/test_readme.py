"""The README against the code: tables, views, settings, reasons, commands, examples, files.

Parts of the README are written by this file: `python tests/test_readme.py` brings them up to date.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import FinishedRun

from dedup_spark import pipeline
from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands.plan.forecast import Lake, Prices, Rates, parse_cluster
from dedup_spark.commands.plan.text import paper_markdown
from dedup_spark.commands.sql import ask
from dedup_spark.commands.text_table import markdown
from dedup_spark.commands.verify_removal.command import Wanted, verify_removal
from dedup_spark.config import Config, load_config
from dedup_spark.kernels.decoding.images import REJECT_REASONS
from dedup_spark.stages.reading.read_ahead import RETRIABLE
from dedup_spark.store import tables, view_definitions, views

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TEXT = README.read_text()
DOCUMENTS = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
UPDATE = "update it: .venv/bin/python tests/test_readme.py"


# --- parts that the code writes ---------------------------------------------------------------------------


def tables_part() -> str:
    return "\n\n".join(
        f"**`{table.name}`** (key: {', '.join(table.key)}). {table.comment}\n\n"
        + markdown(
            ("column", "type", "meaning"), [(f"`{n}`", f"`{kind.simpleString()}`", c) for n, kind, c in table.columns]
        )
        for table in tables.ALL
    )


def views_part() -> str:
    return "\n\n".join(
        f"**`{view.name}`**. {view.comment}\n\n"
        + markdown(("column", "meaning"), [(f"`{name}`", comment) for name, comment in view.columns])
        for view in view_definitions.VIEWS
    )


def paper_part() -> str:
    """The plan of a lake that nobody listed, at the default speeds and prices."""
    n = 100_000_000
    lake = Lake(n_images=n, n_bytes=500_000 * n, n_distinct=95_000_000, n_pairs=3 * n)
    prices = Prices(Config().plan.dollars_per_core_hour, Config().plan.dollars_per_gpu_hour)
    return paper_markdown(lake, [parse_cluster(c) for c in ("100xgpu", "100x16cpu")], Rates(), prices)


WRITTEN = {"tables": tables_part, "views": views_part, "paper": paper_part}


def marked(name: str, text: str = TEXT) -> str:
    """What stands between `<!-- name -->` and `<!-- /name -->`."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert found, f"README.md has no part between <!-- {name} --> and <!-- /{name} -->"
    return found[1].strip()


def update_readme() -> None:
    text = TEXT
    for name, part in WRITTEN.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        head, _, rest = text.partition(begin)
        text = head + begin + part() + end + rest.partition(f"<!-- /{name} -->")[2]
    README.write_text(text)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_part_is_what_the_code_says(name: str) -> None:
    assert marked(name) == WRITTEN[name](), UPDATE


# --- tables of the README that people write ---------------------------------------------------------------


def grid_rows(name: str) -> list[list[str]]:
    """The rows of the one Markdown table in a marked part, header left out, without backticks."""
    lines = [line for line in marked(name).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_settings_are_shown_with_their_defaults() -> None:
    sections = asdict(Config())
    wrong = []
    for key, default, _ in grid_rows("settings"):
        section, name = key.split(".")
        shown = load_config(None, [f"{key}={default.replace(',', '')}"]) if name != "keeper_order" else Config()
        if asdict(shown)[section][name] != sections[section][name]:
            wrong.append(f"{key}: the README says {default}, the code {sections[section][name]}")
    assert wrong == []


def test_reject_reasons_are_the_closed_list() -> None:
    shown = {reason: answer for reason, _, answer in grid_rows("reasons")}
    assert set(shown) == set(REJECT_REASONS)
    assert {reason for reason, answer in shown.items() if answer == "yes"} == set(RETRIABLE)


def test_commands_are_those_of_the_command_line() -> None:
    assert [name for name, _ in grid_rows("commands")] == [
        "run",
        *(s.name for s in pipeline.STEPS),
        "plan",
        "embed",
        "sql",
        "verify-removal",
        "trace",
        "calibrate",
        "explain",
        "dendrogram",
        "upgrade",
        "repair",
        "demo",
    ]


def test_the_picture_shows_every_step_and_table() -> None:
    picture = marked("picture")
    assert [s.name for s in pipeline.STEPS] == re.findall(r"^ *\d (\w+)", picture, re.MULTILINE)
    assert {t.name for t in tables.ALL} <= set(re.findall(r"\w+", picture))


# --- commands and examples --------------------------------------------------------------------------------


def shell_lines(text: str) -> list[str]:
    """Commands in the shell blocks, continued lines joined, comments left out."""
    blocks = re.findall(r"^ *```(?:bash|sh|shell|console)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def words_of_commands(program: str) -> list[list[str]]:
    """The words behind each use of a program in all documents: in shell blocks, and in `inline code`."""
    found = []
    for text in DOCUMENTS.values():
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        lines = [*shell_lines(text), *re.findall(r"`([^`\n]+)`", prose)]
        wanted = [line for line in lines if re.match(rf"(\./|\.venv/bin/)?{re.escape(program)} ", line)]
        found += [shlex.split(line, comments=True)[1:] for line in wanted]
    return found


def test_every_dedup_spark_command_parses() -> None:
    parser, commands = make_parser(), words_of_commands("dedup-spark")
    assert len(commands) >= 8
    for words in commands:
        options = parser.parse_args(_complete([w for w in words if w != "--help"]))
        load_config(None, options.set)


def _complete(words: list[str]) -> list[str]:
    """A mention such as `dedup-spark trace` names a command; it is no line to type."""
    bare = {
        "sql": ["sql", "SELECT 1"],
        "trace": ["trace", "--uri", "x"],
        "explain": ["explain", "--uri", "x", "--uri", "y"],
        "dendrogram": ["dendrogram", "--cluster", "1"],
    }
    return bare.get(words[0], words) if len(words) == 1 else words


def test_every_make_command_has_a_target_and_known_variables() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) *[:?]?=", makefile, re.MULTILINE))
    for words in words_of_commands("make"):
        asked = {w for w in words if "=" not in w}
        given = {w.split("=")[0] for w in words if "=" in w}
        assert asked <= targets, words
        assert given <= variables, words
    assert {"demo", "test"} <= {w for words in words_of_commands("make") for w in words}


def test_every_spark_submit_command_is_accepted() -> None:
    commands = [words for words in words_of_commands("spark-submit.sh") if len(words) > 1]
    assert commands
    for words in commands:
        done = subprocess.run(
            ["./spark-submit.sh", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"


@pytest.mark.slow
def test_every_sql_example_runs(finished: FinishedRun) -> None:
    sql_lines = [words for words in words_of_commands("dedup-spark") if words[0] == "sql" and len(words) > 1]
    queries = [make_parser().parse_args(words).query for words in sql_lines]
    queries += [words[words.index("-e") + 1] for words in words_of_commands("spark-sql")]
    queries += re.findall(r"^```sql\n(.*?);?\n```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(queries) >= 3
    for query in queries:
        assert len(ask(finished.tables, query, views.ViewSettings(1), 5)), f"no row: {query}"


@pytest.mark.slow
def test_every_python_example_runs(finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert examples
    removals = str(tmp_path / "removals.csv")
    assert verify_removal(finished.tables, load_config(), Wanted(), removals).n_images > 10
    for example in examples:
        here = example.replace("demo/tables", finished.tables.root).replace("removals.csv", removals)
        exec(compile(here, "README.md", "exec"), {})
        assert capsys.readouterr().out


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for line in DOCUMENTS[document].splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", DOCUMENTS[document]):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (ROOT / target).exists(), target


def test_the_map_names_files_that_exist_and_all_folders() -> None:
    named = [line.split()[0] for line in marked("map").splitlines() if line and not line.startswith(("```", " "))]
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []
    folders = {p.parent.relative_to(ROOT).as_posix() for p in (ROOT / "dedup_spark").rglob("*.py")}
    assert folders - {"dedup_spark"} <= {path.rstrip("/") for path in named}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_text_exist(document: str) -> None:
    """Paths in `inline code` that begin with a folder of this project."""
    paths = re.findall(
        r"`((?:dedup_spark|conf|jobs|tests|notebooks|benchmarks)/[\w./-]*\w\.\w+)(?:::\w+)?`", DOCUMENTS[document]
    )
    assert [path for path in paths if not (ROOT / path).exists()] == []


if __name__ == "__main__":
    update_readme()
