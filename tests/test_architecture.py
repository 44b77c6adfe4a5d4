"""The rules of the house that a reader could break without noticing: who imports whom, and what stands where.

They speak of folders, so that a new file in a room is under the rules of the room.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dedup_spark import _HOMES, pipeline

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dedup_spark"
MODULES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
STEPS = [f"stages/{step.name}/step.py" for step in pipeline.STEPS]

LAYERS = (
    (
        "config.py",
        "keeper_criteria.py",
        "errors.py",
        "columns.py",
        "vocabulary.py",
        "results_version.py",
        "printable.py",
        "redaction.py",
        "did_you_mean.py",
        "console.py",
        "step_figures.py",
        "__init__.py",
    ),
    ("kernels/",),
    ("models/", "sources/", "spark/", "store/"),
    ("stages/",),
    ("commands/", "lookup/", "pipeline.py"),
    ("api/", "functions.py"),
    ("cli/", "__main__.py"),
)
"""From the bottom to the top: a module imports of its own layer and of those below it."""

NO_SPARK = ("kernels/", *LAYERS[0], "store/schema.py", "store/view_definitions.py", "store/table_format.py",
            "store/files.py", "store/log_file.py", "store/dbfs.py", "store/outcomes.py", "store/reader.py",
            "store/duck.py", "store/duck_errors.py", "store/sql_tables.py", "cli/questions.py",
            "commands/clusters/", "commands/doctor/", "commands/completion.py", "cli/machine.py", "spark/java.py",
            "cli/options.py", "cli/result_file.py", "commands/apart.py",
            "store/delta_log.py", "commands/status.py", "commands/forget/asked.py", "commands/forget/texts.py",
            "commands/forget/queries.py", "commands/forget/words.py",
            "commands/sql.py", "commands/sql_shell.py", "commands/trace.py", "commands/explain.py",
            "stages/reading/decoder_child.py", "stages/reading/signature_settings.py", "lookup/",
            "cli/arguments.py", "cli/lookups.py",
            "cli/command_line.py", "__main__.py")  # fmt: skip
NO_FILES = ("kernels/", "config.py", "errors.py", "columns.py", "vocabulary.py")
MAY_READ_FILES = ("config.py",)  # the settings file that a person names


def names_of(module: str) -> str:
    """`dedup_spark.stages.match.step` of stages/match/step.py."""
    return "dedup_spark." + module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


BY_NAME = {names_of(module): module for module in MODULES} | {"dedup_spark": "__init__.py"}


def imports(tree: ast.AST) -> set[str]:
    """Full names of all modules and of the names taken from them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_modules(module: str) -> set[str]:
    """Those of our own."""
    found = {BY_NAME[name] for name in imports(MODULES[module]) if name in BY_NAME} - {module}
    doors = ("__init__.py", "api/__init__.py", "cli/__init__.py")  # these hold names; the others only a docstring
    return {m for m in found if not m.endswith("__init__.py") or m in doors}


def layer(module: str) -> int:
    return next(i for i, places in enumerate(LAYERS) if module.startswith(places))


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def source(module: str) -> str:
    return (PACKAGE / module).read_text()


def within(*places: str) -> list[str]:
    return [m for m in MODULES if m.startswith(places)]


@pytest.mark.parametrize("module", within(*NO_SPARK))
def test_what_is_pure_imports_no_spark(module: str) -> None:
    assert not [name for name in imports(MODULES[module]) if name.split(".")[0] in ("pyspark", "delta", "py4j")]


@pytest.mark.parametrize("module", [m for m in within(*NO_FILES) if m not in MAY_READ_FILES])
def test_what_is_pure_opens_no_file(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & {"fsspec", "pathlib", "shutil", "os"}
    assert "open" not in calls(MODULES[module])


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__.py"])  # that opens doors to all layers
def test_arrows_run_down(module: str) -> None:
    assert not [m for m in imported_modules(module) if layer(m) > layer(module)]


@pytest.mark.parametrize("module", list(MODULES))
def test_imports_name_the_whole_path(module: str) -> None:
    """Else the rules here would not see them: no relative import, and none of a name that the package loads later."""
    froms = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.ImportFrom)]
    assert not [node for node in froms if node.level]
    lazy = {alias.name for node in froms if node.module == "dedup_spark" for alias in node.names} & set(_HOMES)
    assert not lazy


@pytest.mark.parametrize("module", within("stages/"))
def test_no_room_of_a_step_imports_from_another(module: str) -> None:
    """What two steps share stands beside their rooms in stages/, or in stages/reading/."""
    room = module.rpartition("/")[0]
    others = {m for m in imported_modules(module) if m.startswith("stages/") and m.count("/") > 1}
    assert not {m for m in others if m.rpartition("/")[0] not in (room, "stages/reading")}


def test_imports_make_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for imported in imported_modules(module) - {"__init__.py"}:
                visit(imported, (*path, module))
            done.add(module)

    for module in (m for m in MODULES if m != "__init__.py"):  # its names are looked up when they are used
        visit(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if m != "spark/session.py"])
def test_sessions_are_built_in_one_place(module: str) -> None:
    assert "SparkSession.builder" not in source(module)


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("store/")])
def test_tables_are_read_and_written_by_the_store_only(module: str) -> None:
    text = ast.unparse(MODULES[module])
    assert not [
        word
        for word in (
            "DeltaTable(",
            "DeltaTable.",
            ".read.format(",
            ".write.",
            "saveAsTable",
            ".read.table(",
            "MERGE INTO",
        )
        if word in text
    ]


@pytest.mark.parametrize("module", list(MODULES))
def test_nothing_needs_the_python_module_of_delta(module: str) -> None:
    """Clusters have the jar alone; `store/delta_sql.py` says it in SQL."""
    assert not [name for name in imports(MODULES[module]) if name.split(".")[0] == "delta"]


@pytest.mark.parametrize("module", list(MODULES))
def test_rows_of_the_driver_do_not_go_through_python_tasks(module: str) -> None:
    """As those of createDataFrame with a list do; see spark/local_relation.py."""
    of_arrow = {"spark/local_relation.py": 1, "stages/cluster/components.py": 1}
    named = [n for n in ast.walk(MODULES[module]) if isinstance(n, ast.Attribute) and n.attr == "createDataFrame"]
    assert len(named) == of_arrow.get(module, 0)


@pytest.mark.parametrize("module", list(MODULES))
def test_nothing_prints_or_swallows_or_numbers_rows(module: str) -> None:
    bare = [n for n in ast.walk(MODULES[module]) if isinstance(n, ast.ExceptHandler) and n.type is None]
    assert not bare
    assert "print" not in calls(MODULES[module])
    assert "monotonically_increasing_id" not in source(module)
    assert "cpu_count" not in source(module)


@pytest.mark.parametrize("module", list(MODULES))
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(MODULES[module])


def test_no_file_holds_two_versions_of_a_line() -> None:
    """As a merge leaves them that nobody finished; in a docstring they go unnoticed."""
    marks = tuple(mark * 7 + " " for mark in "<>")
    files = [
        path for room in ("dedup_spark", "tests", "docs", "conf", "jobs") for path in (ROOT / room).rglob("*.[pmt]*")
    ]
    texts = [path for path in files if path.suffix in (".py", ".md", ".toml")]
    assert [path.name for path in texts if any(line.startswith(marks) for line in path.read_text().split("\n"))] == []


def test_every_room_of_the_tests_is_a_room_of_the_package() -> None:
    rooms = {p.parent.relative_to(ROOT / "tests").as_posix() for p in (ROOT / "tests").rglob("*/test_*.py")}
    assert {room for room in rooms if not (PACKAGE / room).is_dir()} <= {"benchmarks", "platforms"}


def test_jobs_are_the_steps_in_order() -> None:
    numbered = sorted(path.stem for path in (ROOT / "jobs").glob("0*.py"))
    assert numbered == [f"{i:02d}_{step.name}" for i, step in enumerate(pipeline.STEPS, 1)]


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.py")), ids=lambda p: p.name)
def test_a_job_is_a_few_lines_and_knows_its_command(job: Path) -> None:
    text = job.read_text()
    name = job.stem.split("_", 1)[1] if job.stem[0].isdigit() else job.stem
    of_two_words = {"run_pipeline": "run", "index_export": "index export"}
    command = of_two_words.get(name, name.replace("_", "-"))
    assert f'job("{command}")' in text
    assert len(text.splitlines()) <= 10


def header(module: str, word: str) -> set[str]:
    line = next(ln for ln in ast.get_docstring(MODULES[module]).splitlines() if ln.startswith(f"{word}:"))  # type: ignore[union-attr]
    names = {name.strip() for name in line.removeprefix(f"{word}:").split(",")}
    return names - {"none", "all"}


def with_helpers(module: str) -> list[str]:
    """A step and the modules of stages/ that it is made of: those that it imports, and those that they import."""
    found, new = {module}, {module}
    while new:
        imported = set().union(*(imported_modules(m) for m in new))
        new = {m for m in imported if m.startswith("stages/")} - found
        found |= new
    return sorted(found)


def tables_used(module: str, *methods: str) -> set[str]:
    """Names of tables given to the methods of Tables, e.g. `tables.read(FEATURES)`, by a step or its helpers."""
    found = set()
    for node in (n for m in with_helpers(module) for n in ast.walk(MODULES[m])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
            found |= {a.id.lower() for a in node.args if isinstance(a, ast.Name) and a.id.isupper()}
    return found


@pytest.mark.parametrize("module", [m for m in STEPS if not m.startswith("stages/report/")])
def test_the_header_of_a_step_names_the_tables_it_uses(module: str) -> None:
    assert header(module, "Reads") | header(module, "Writes") >= tables_used(module, "read", "rows_now")
    assert header(module, "Reads") <= tables_used(module, "read", "rows_now")
    assert header(module, "Writes") == tables_used(module, "append", "overwrite", "replace", "upsert", "delete")
    assert "Scale:" in (ast.get_docstring(MODULES[module]) or "")


ALSO_WITH_A_HEADER = ("stages/embed/step.py", "commands/calibrate/step.py", "commands/calibrate/labelled_pairs.py")


@pytest.mark.parametrize("module", [m for m in STEPS if not m.startswith("stages/report/")] + [*ALSO_WITH_A_HEADER])
def test_the_header_of_a_step_names_its_kernels(module: str) -> None:
    used = {m for helper in with_helpers(module) for m in imported_modules(helper) if m.startswith("kernels/")}
    types = {"kernels/arrays.py", "kernels/decoding/images.py"}  # of arrays, and of a rejection
    rooms = {m.split("/")[1].removesuffix(".py") for m in used - types}
    assert header(module, "Kernels") == rooms


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.name)
def test_a_test_sets_the_clock_of_one_module_only(path: Path) -> None:
    for_all = [line for line in path.read_text().splitlines() if re.search(r"setattr\((\w+\.)?time, ", line)]
    assert not for_all, "threads of py4j sleep by it too: see tests/clocks.py"
