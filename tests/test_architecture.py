"""The rules of the house that a reader could break without noticing: who imports whom, and what stands where."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dedup_spark import pipeline

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dedup_spark"
MODULES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
STAGES = [f"stages/{step.name}.py" for step in pipeline.STEPS]


def imports(tree: ast.AST) -> set[str]:
    """Full names of all modules and of the names taken from them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def source(module: str) -> str:
    return (PACKAGE / module).read_text()


PURE = [m for m in MODULES if m.startswith("kernels/") or m in ("config.py", "errors.py", "decoder_child.py")]


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_no_spark(module: str) -> None:
    assert not [name for name in imports(MODULES[module]) if name.startswith(("pyspark", "delta"))]


@pytest.mark.parametrize("module", STAGES)
def test_no_step_imports_another_step(module: str) -> None:
    others = {f"dedup_spark.stages.{step.name}" for step in pipeline.STEPS} - {
        f"dedup_spark.{module[:-3].replace('/', '.')}"
    }
    assert not imports(MODULES[module]) & others


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(("stages/", "kernels/", "sources/", "models/"))])
def test_lower_layers_do_not_import_upper_ones(module: str) -> None:
    assert not imports(MODULES[module]) & {
        "dedup_spark.cli",
        "dedup_spark.pipeline",
        "dedup_spark.demo",
        "dedup_spark.session",
    }


@pytest.mark.parametrize("module", [m for m in MODULES if m != "session.py"])
def test_sessions_are_built_in_session_only(module: str) -> None:
    assert "SparkSession.builder" not in source(module)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "tables.py"])
def test_tables_are_read_and_written_in_tables_only(module: str) -> None:
    text = ast.unparse(MODULES[module])
    assert not [
        word for word in ("DeltaTable", ".read.format(", ".write.", "saveAsTable", ".read.table(") if word in text
    ]


@pytest.mark.parametrize("module", list(MODULES))
def test_rows_of_the_driver_do_not_go_through_python_tasks(module: str) -> None:
    """As those of createDataFrame with a list do; see local_relation.py."""
    of_arrow = {"local_relation.py": 1, "stages/components.py": 1}
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


def test_jobs_are_the_steps_in_order() -> None:
    numbered = sorted(path.stem for path in (ROOT / "jobs").glob("0*.py"))
    assert numbered == [f"{i:02d}_{step.name}" for i, step in enumerate(pipeline.STEPS, 1)]


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.py")), ids=lambda p: p.name)
def test_a_job_is_a_few_lines_and_knows_its_command(job: Path) -> None:
    text = job.read_text()
    name = job.stem.split("_", 1)[1] if job.stem[0].isdigit() else job.stem
    command = "run" if name == "run_pipeline" else name.replace("_", "-")
    assert f'main(["{command}"' in text
    assert len(text.splitlines()) <= 20


def header(module: str, word: str) -> set[str]:
    line = next(ln for ln in ast.get_docstring(MODULES[module]).splitlines() if ln.startswith(f"{word}:"))  # type: ignore[union-attr]
    names = {name.strip() for name in line.removeprefix(f"{word}:").split(",")}
    return names - {"none", "all"}


def with_helpers(module: str) -> list[str]:
    """A step and the modules beside it that it is made of: those that it imports, and those that they import."""
    found, new = {module}, {module}
    while new:
        imported = set().union(*(imports(MODULES[m]) for m in new))
        beside = {m for m in MODULES if m.startswith("stages/") and m not in STAGES}
        new = {m for m in beside if f"dedup_spark.{m[:-3].replace('/', '.')}" in imported} - found
        found |= new
    return sorted(found)


def tables_used(module: str, *methods: str) -> set[str]:
    """Names of tables given to the methods of Tables, e.g. `tables.read(FEATURES)`, by a step or its helpers."""
    found = set()
    for node in (n for m in with_helpers(module) for n in ast.walk(MODULES[m])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
            found |= {a.id.lower() for a in node.args if isinstance(a, ast.Name) and a.id.isupper()}
    return found


@pytest.mark.parametrize("module", [m for m in STAGES if m != "stages/report.py"])
def test_the_header_of_a_step_names_the_tables_it_uses(module: str) -> None:
    assert header(module, "Reads") | header(module, "Writes") >= tables_used(module, "read")
    assert header(module, "Reads") <= tables_used(module, "read")
    assert header(module, "Writes") == tables_used(module, "append", "overwrite", "replace", "upsert", "delete")
    assert "Scale:" in (ast.get_docstring(MODULES[module]) or "")


@pytest.mark.parametrize("module", [m for m in STAGES if m != "stages/report.py"])
def test_the_header_of_a_step_names_its_kernels(module: str) -> None:
    used = set()
    for m in with_helpers(module):
        used |= {
            name.split(".")[2]
            for name in imports(MODULES[m])
            if name.count(".") >= 2 and name.startswith("dedup_spark.kernels.")
        }
    assert header(module, "Kernels") == used - {"images"}  # images: only the type of a rejection
