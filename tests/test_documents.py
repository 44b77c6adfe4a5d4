"""The README and docs/ against the code: parts that it writes, links, paths, commands, examples. No site is built."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from conftest import FinishedRun
from table_contents import rows

import dedup_spark
from dedup_spark import pipeline
from dedup_spark.cli.arguments import make_parser
from dedup_spark.commands.verify_removal.command import Wanted, verify_removal
from dedup_spark.config import load_config
from dedup_spark.store import tables, view_definitions
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.spark_sql import SparkTables

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [
        README,
        ROOT / "CONTRIBUTING.md",
        *PAGES,
        *sorted(ROOT.glob("conf/*/*.md")),
        *sorted(ROOT.glob(".github/*.md")),
    ]
}
TEXT = "\n".join(DOCUMENTS[path.relative_to(ROOT).as_posix()] for path in [README, *PAGES])
"""What users read: its examples run."""


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- parts that the code writes ---------------------------------------------------------------------------


def test_the_written_parts_are_what_the_code_says() -> None:
    generator = load_generator()
    assert generator.main(["--check"]) == 0, generator.TO_WRITE


def test_a_reason_that_nobody_explained_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load_generator()
    monkeypatch.setattr(generator, "REJECT_REASONS", (*generator.REJECT_REASONS, "cursed"))
    assert generator.UNWRITTEN in generator.reasons_part((ROOT / "docs" / "reading.md").read_text())
    assert generator.main(["--check"]) == 1


def test_the_picture_shows_every_step_and_table() -> None:
    picture = DOCUMENTS["docs/architecture.md"].partition("```text\n")[2].partition("```")[0]
    assert [s.name for s in pipeline.STEPS] == re.findall(r"^ *\d (\w+)", picture, re.MULTILINE)
    assert {t.name for t in tables.ALL} <= set(re.findall(r"\w+", picture))


def test_the_readme_names_every_step_and_is_read_in_ten_minutes() -> None:
    text = README.read_text()
    assert all(f"`{step.name}`" in text for step in pipeline.STEPS)
    assert len(text.splitlines()) <= 230


# --- commands and examples --------------------------------------------------------------------------------


def shell_lines(text: str) -> list[str]:
    """Commands in the shell blocks, continued lines joined, comments left out."""
    blocks = re.findall(r"^ *```(?:bash|sh|shell|console)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def words_of_commands(program: str) -> list[list[str]]:
    """The words behind each use of a program in README and docs/: in shell blocks, and in `inline code`."""
    found = []
    for text in [TEXT, DOCUMENTS["CONTRIBUTING.md"]]:
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        lines = [*shell_lines(text), *re.findall(r"`([^`\n]+)`", prose)]
        wanted = [line for line in lines if re.match(rf"(\./|\.venv/bin/)?{re.escape(program)} ", line)]
        found += [shlex.split(line.partition(" > ")[0], comments=True)[1:] for line in wanted]
    return found


def test_every_dedup_spark_command_parses() -> None:
    parser, commands = make_parser(), words_of_commands("dedup-spark")
    assert len(commands) >= 8
    for words in commands:
        if words != ["--version"]:
            options = parser.parse_args(_complete([w for w in words if w not in ("--help", "...")]))
            load_config(None, options.set)


def _complete(words: list[str]) -> list[str]:
    """A mention such as `dedup-spark trace` names a command; it is no line to type."""
    bare = {
        "completion": ["completion", "bash"],
        "sql": ["sql", "SELECT 1"],
        "lookup": ["lookup", "x.jpg"],
        "trace": ["trace", "--uri", "x"],
        "explain": ["explain", "--uri", "x", "--uri", "y"],
        "dendrogram": ["dendrogram", "--cluster", "1"],
    }
    if words == ["index", "export"]:
        return [*words, "--to", "x"]
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
    assert {"demo", "setup", "test"} <= {w for words in words_of_commands("make") for w in words}


def test_the_workflow_calls_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = re.findall(r"run: make (.*?)(?: *#.*)?$", (ROOT / ".github/workflows/ci.yml").read_text(), re.MULTILINE)
    assert {target for line in runs for target in line.split()} >= {"setup", "lint", "types", "test", "docs"}
    assert {target for line in runs for target in line.split()} <= targets


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [dedup_spark.__version__]


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
    queries += [words[words.index("-e") + 1] for words in words_of_commands("spark-sql") if "-e" in words]
    queries += re.findall(r"^```sql\n(.*?);?\n```", TEXT, re.DOTALL | re.MULTILINE)
    queries = [query for query in queries if query and "..." not in query]
    assert len(queries) >= 6
    settings = view_definitions.ViewSettings(1)
    for query in queries:
        anywhere = re.sub(r"WHERE uri LIKE '[^']*' AND", "WHERE", query)
        for asked in (SparkTables(finished.tables, settings), DuckTables(finished.tables.root, settings)):
            assert len(asked.answer(anywhere, 5)), f"no row: {query}"


@pytest.mark.slow
def test_every_python_example_runs(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(place, str(tmp_path / place))
    examples = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert examples
    image_id = rows(finished.tables.root, "clusters")[0]["image_id"]
    monkeypatch.setattr(sys, "argv", ["an example", finished.tables.root, str(image_id)])
    removals = str(tmp_path / "removals.csv")
    assert verify_removal(finished.tables, load_config(), Wanted(), removals).n_images > 10
    for example in examples:
        here = example.replace("demo/tables", finished.tables.root).replace("removals.csv", removals)
        exec(compile(here, "an example of the documents", "exec"), {"spark": finished.tables.spark})
        assert capsys.readouterr().out


def test_the_licence_of_every_dependency_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in asked}
    assert sorted(name for name in names if f"`{name}`" not in DOCUMENTS["docs/licences.md"]) == []


# --- links and files --------------------------------------------------------------------------------------


def headings(text: str) -> set[str]:
    """The anchors of a document, as GitHub and the site make them."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    here = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[document]):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (here / name).resolve() if name else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in headings(path.read_text()), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_of_the_site_links_to_pages_of_the_site_only(page: Path) -> None:
    """The rest of the repository is not on the site: there it is named by its path."""
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [t for t in targets if "://" not in t and (page.parent / t).resolve().parent != page.parent] == []


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    assert sorted(re.findall(r"[\w-]+\.md", navigation)) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_who_reads_it(page: Path) -> None:
    paragraph = page.read_text().split("\n\n")[1]
    assert paragraph.startswith("For people who") or page.name == "index.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_text_exist(document: str) -> None:
    """Paths in `inline code` that begin with a folder of this project."""
    named = re.findall(
        r"`((?:dedup_spark|conf|jobs|tests|notebooks|benchmarks|docs)/(?:[\w./-]*\w)?/?)(?:::\w+)?`",
        DOCUMENTS[document],
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_reference_names_modules_that_exist() -> None:
    modules = re.findall(r"^::: (\S+)$", DOCUMENTS["docs/python.md"], re.MULTILINE)
    assert modules
    assert [m for m in modules if importlib.util.find_spec(m) is None] == []


def test_make_lint_fails_where_a_page_is_not_as_the_code_says(tmp_path: Path) -> None:
    """By the script that `make lint` calls, on a copy of the pages."""
    for folder in ("docs", "conf", "dedup_spark"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "docs").unlink()
    (tmp_path / "docs").mkdir()
    for path in [*PAGES, ROOT / "docs" / "generate.py"]:
        (tmp_path / "docs" / path.name).write_text(path.read_text())
    assert "docs/generate.py --check" in (ROOT / "Makefile").read_text()
    (tmp_path / "docs" / "tables.md").write_text(DOCUMENTS["docs/tables.md"].replace("| `bigint` |", "| `int` |", 1))
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not as the code is: docs/tables.md;" in done.stderr
