"""The version of what is decided: when the code that decides changes, somebody says whether results can.

`python tests/test_results.py` records the code as it is for the version as it is, in results_recorded.json beside it.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import pytest

from dedup_spark.results_version import RESULTS_VERSION

PACKAGE = Path(__file__).resolve().parent.parent / "dedup_spark"
RECORD = Path(__file__).with_name("results_recorded.json")
RECORD_AGAIN = ".venv/bin/python tests/test_results.py"

DECIDING = ("kernels/vectors.py", "kernels/clusters/*.py", "kernels/comparing/*.py", "kernels/joins/*.py",
            "stages/*.py", "stages/index/*.py", "stages/match/*.py", "stages/cluster/*.py")  # fmt: skip
"""What decides which pairs, clusters and keepers there are, and what may be removed.

What features are made of has a version of its own (kernels/features/signature.py).
"""
DECIDE_NOTHING = {"kernels/joins/recall.py", "stages/match/audit.py"}
"""The measure of what was missed."""


def deciding() -> list[Path]:
    found = {path for pattern in DECIDING for path in PACKAGE.glob(pattern) if path.stem != "__init__"}
    return sorted(found - {PACKAGE / name for name in DECIDE_NOTHING})


def digest(code: str) -> str:
    """Of what the code does: equal whatever its comments, docstrings and layout are."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            spoken = [n for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
            node.body = [n for n in body if n not in spoken] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.unparse(ast.fix_missing_locations(tree)).encode()).hexdigest()[:16]


def found() -> dict[str, object]:
    modules = {path.relative_to(PACKAGE).as_posix(): digest(path.read_text()) for path in deciding()}
    return {"results_version": RESULTS_VERSION, "modules": modules}


def what_to_do(recorded: dict[str, object], now: dict[str, object]) -> str:
    """A sentence; empty where nothing has to be done."""
    if recorded == now:
        return ""
    then, today = recorded["modules"], now["modules"]
    assert isinstance(then, dict)
    assert isinstance(today, dict)
    changed = ", ".join(sorted(name for name in {*then, *today} if then.get(name) != today.get(name))) or "no module"
    if recorded["results_version"] == now["results_version"]:
        return (
            f"{changed} changed: if the same inputs could now give other pairs, clusters or keepers, raise "
            f"RESULTS_VERSION in dedup_spark/results_version.py, if not, leave it; then record it: {RECORD_AGAIN}"
        )
    return f"RESULTS_VERSION is {now['results_version']} now and {changed} changed: record it: {RECORD_AGAIN}"


def test_code_that_decides_is_what_was_recorded_for_the_version_of_results() -> None:
    problem = what_to_do(json.loads(RECORD.read_text()), found())
    assert not problem, problem


def test_every_module_that_is_said_to_decide_nothing_is_there() -> None:
    assert all((PACKAGE / name).is_file() for name in DECIDE_NOTHING)
    assert all(list(PACKAGE.glob(pattern)) for pattern in DECIDING)


@pytest.mark.parametrize(
    ("code", "is_same"),
    [
        ('"""Another."""\n\ndef f(x):\n    return x + 1  # why\n', True),
        ("def f( x ) :\n\n    return (x+1)\n", True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(x):\n    return x + 1\n\n\nLIMIT = 3\n", False),
        ("", False),
    ],
)
def test_only_what_the_code_does_is_digested(code: str, is_same: bool) -> None:
    assert (digest(code) == digest('def f(x):\n    """One more."""\n    return x + 1\n')) == is_same


def test_a_change_asks_whether_results_can_change() -> None:
    now = {"results_version": 2, "modules": {"stages/cluster/cut.py": "b"}}
    assert what_to_do(now, now) == ""
    asked = what_to_do(now | {"modules": {"stages/cluster/cut.py": "a"}}, now)
    assert asked.startswith("stages/cluster/cut.py changed: if the same inputs could now give other pairs")
    assert "raise RESULTS_VERSION" in asked
    assert "no module changed: record it" in what_to_do(now | {"results_version": 1}, now)


if __name__ == "__main__":
    RECORD.write_text(json.dumps(found(), indent=2) + "\n")
