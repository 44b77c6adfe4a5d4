"""The mutation pass itself: it changes one thing at a time, and every module of kernels/ has tests to run."""

from __future__ import annotations

import ast

import mutants
import pytest


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a not in b", ["x = a in b"]),
        ("x = not a", ["x =  a"]),
        ("x = (a) + (b)", ["x = (a) - (b)"]),
        ("x = a and b", ["x = a or b"]),
        ("x = 8", ["x = 9", "x = (7)"]),
        ("x = 0.5", ["x = 1.0", "x = 0.25"]),
        ("x = True", ["x = False"]),
        ("def f():\n    return None", []),
        ("def f():\n    return g(é, a)", ["def f():\n    return None"]),
        ('"""A 1."""\nX: Literal[1]\nY = tuple[int, 2]\n@f(3)\nclass C: pass', []),
    ],
)
def test_each_mutant_differs_by_one_change(code: str, changed: list[str]) -> None:
    assert [m.of(code) for m in mutants.mutants(code)] == changed


@pytest.mark.parametrize("module", sorted(mutants.KERNELS.rglob("*.py")), ids=lambda m: m.name)
def test_every_mutant_is_python_and_every_module_has_tests(module: object) -> None:
    code = module.read_text()  # type: ignore[attr-defined]
    possible = mutants.mutants(code)
    for mutant in possible[::7]:  # all of them take ten seconds
        ast.parse(mutant.of(code))
    tests = mutants.tests_of(module)  # type: ignore[arg-type]
    assert tests or not possible
    assert all((mutants.ROOT / test).is_file() for test in tests)
