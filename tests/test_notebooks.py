"""The notebooks run from top to bottom, on a copy of the finished tiny lake, as plain Python."""

from __future__ import annotations

import ast
import runpy
import shutil
from pathlib import Path

import jupytext
import pytest
from conftest import FinishedRun

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
BY_NAME = [pytest.param(path, id=path.stem) for path in NOTEBOOKS]


@pytest.fixture(scope="module")
def own_tables(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because the first notebook runs the pipeline and so writes to `runs`."""
    return shutil.copytree(finished.tables.root, tmp_path_factory.mktemp("notebooks") / "tables")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", BY_NAME)
def test_a_notebook_runs_from_top_to_bottom(
    notebook: Path,
    finished: FinishedRun,
    own_tables: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DEDUP_LAKE", str(finished.lake.folder))
    monkeypatch.setenv("DEDUP_TABLES", str(own_tables))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runpy.run_path(str(notebook), run_name="__main__")
    said = capsys.readouterr().out
    assert said.count("\n") > 20  # it shows what it found
    assert f"{finished.lake.folder.name}/" in said


def test_notebooks_are_numbered_in_the_order_to_read_them() -> None:
    assert [path.stem.split("_")[0] for path in NOTEBOOKS] == [f"{i:02d}" for i in range(1, len(NOTEBOOKS) + 1)]


@pytest.mark.parametrize("notebook", BY_NAME)
def test_a_notebook_opens_in_jupyter_with_a_title_and_words_before_each_code_cell(notebook: Path) -> None:
    cells = jupytext.read(notebook).cells
    assert cells[0].source.startswith(f"# {int(notebook.stem[:2])}. ")
    assert [cell.cell_type for cell in cells] == ["markdown", "code"] * (len(cells) // 2)


@pytest.mark.parametrize("notebook", BY_NAME)
def test_a_notebook_holds_no_logic_of_its_own(notebook: Path) -> None:
    nodes = list(ast.walk(ast.parse(notebook.read_text())))
    assert not [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.If | ast.While | ast.Try)]


def test_no_notebook_with_outputs_is_kept() -> None:
    assert not list(FOLDER.rglob("*.ipynb"))
