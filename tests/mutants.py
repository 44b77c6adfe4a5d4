"""Mutation testing of kernels/: makes one small change of the code at a time, and runs its tests.

`make mutants` tries a seeded sample of each module, `make mutants ARGS='--all kernels/joins'` everything in a folder. A
change that fails a test is killed. A change that survives is printed: either the tests lack a case, or the change makes
no difference (a bound of a buffer, a tie that cannot occur). The code is changed in a copy in a temporary folder, never
here.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "dedup_spark" / "kernels"

JOINS, DECODING = "joins/test_joins.py", ("decoding/test_images.py", "decoding/test_formats.py")
SEEN, ORIGIN = "features/test_what_is_seen.py", "features/test_origin.py"
MORE_TESTS = {
    "clusters/components": ("clusters/test_paths.py",),
    "comparing/geometry": ("comparing/test_verification.py",), "comparing/keypoints": ("comparing/test_geometry.py",),
    "comparing/laying": ("comparing/test_content.py",), "clusters/linkage": ("clusters/test_grouping.py",),
    "comparing/probability": ("comparing/test_verification.py",),
    "comparing/verification": ("../stages/cluster/test_evidence_task.py",),
    "decoding/colours": (SEEN,), "decoding/digests": ("decoding/test_films.py",),
    "decoding/jpeg_structure": ("decoding/test_damage.py",), "decoding/opened": ("decoding/test_frames.py", *DECODING),
    "decoding/channels": ("decoding/test_tiff_samples.py", "decoding/test_png_samples.py"),
    "decoding/heif_items": ("decoding/test_beside.py",), "decoding/picture": ("decoding/test_deep.py", SEEN),
    "decoding/tiff_layout": ("decoding/test_tiff_samples.py",),
    "decoding/tiff_plugin": ("decoding/test_tiff_samples.py",),
    "decoding/orientation": ("decoding/test_images.py", "decoding/test_tiff_samples.py"),
    "decoding/strips": ("decoding/test_deep.py",), "decoding/values": (SEEN, "decoding/test_deep.py"),
    "features/borders": (ORIGIN,), "features/detail": (ORIGIN,), "features/jpeg_traces": (ORIGIN,),
    "features/samples": (ORIGIN,),
    "decoding/endings": DECODING, "decoding/headers": DECODING,
    "decoding/openers": ("decoding/test_endings.py", *DECODING),
    "decoding/raw": ("decoding/test_rendering.py", *DECODING), "decoding/rendering": DECODING,
    "decoding/formats": ("decoding/test_sniffing.py", "features/test_signature.py"),
    "decoding/images": ("decoding/test_formats.py", "decoding/test_endings.py"),
    "features/hashing": ("decoding/test_formats.py",), "features/signature": ("features/test_hashing.py",),
    "joins/base": (JOINS, "joins/test_exact_gpu.py"), "joins/exact": (JOINS,),
    "joins/device_blocks": ("joins/test_exact_gpu.py",), "joins/faiss_ivf": (JOINS,), "joins/routed": (JOINS,),
    "joins/sketch": (JOINS,), "joins/sketches": (JOINS,), "vectors": (JOINS,),
}  # fmt: skip
"""Tests of a module beside those in the file of its own name; relative to tests/kernels/."""

OPERATORS = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "in": ("not in",), "not in": ("in",), "is": ("is not",), "is not": ("is",), "and": ("or",), "or": ("and",),
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "//": ("*",), "%": ("*",), "**": ("*",),
    "&": ("|",), "|": ("&",), "^": ("|",), "<<": (">>",), ">>": ("<<",), "@": (),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """`code[start:end]` becomes `text`."""

    start: int
    end: int
    text: str

    def of(self, code: str) -> str:
        return code[: self.start] + self.text + code[self.end :]


def mutants(code: str) -> list[Mutant]:
    """Every single change: an operator, a number, a truth value, a `not` dropped, a result that is None."""
    lines = [0]
    for line in code.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    raw = code.encode()

    def at(line: int, column: int) -> int:
        return len(raw[: lines[line - 1] + column].decode())  # ast counts bytes

    def span(node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)

    def between(left: ast.expr, right: ast.expr) -> Iterator[Mutant]:
        start, end = span(left)[1], span(right)[0]
        found = re.search(r"not\s+in|is\s+not|\*\*|//|<<|>>|[<>=!]=|[-+*/%&|^<>@]|\b(in|is|and|or)\b", code[start:end])
        if found:
            for other in OPERATORS[re.sub(r"\s+", " ", found.group())]:
                yield Mutant(start + found.start(), start + found.end(), other)

    def of_node(node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, ast.Compare):
            for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
                yield from between(left, right)
        elif isinstance(node, ast.BinOp):
            yield from between(node.left, node.right)
        elif isinstance(node, ast.BoolOp):
            yield from between(node.values[0], node.values[1])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            yield Mutant(span(node)[0], span(node)[0] + (3 if isinstance(node.op, ast.Not) else 1), "")
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            yield from (Mutant(*span(node), text) for text in _other_values(node.value))
        elif isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
            yield Mutant(*span(node.value), "None")

    return [m for node in _that_run(ast.parse(code)) for m in of_node(node)]


def _other_values(value: float | bool) -> list[str]:
    if isinstance(value, bool):
        return [str(not value)]
    if isinstance(value, int):
        return [str(value + 1), *([f"({value - 1})"] if value else [])]
    return [repr(value * 2), repr(value / 2)] if value else ["1.0"]


def _that_run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but annotations, decorators and type aliases, which decide nothing."""
    skipped = {"annotation", "returns", "decorator_list", "bases"}
    for name, value in ast.iter_fields(node):
        if name not in skipped:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_alias(child):
                    yield child
                    yield from _that_run(child)


def _is_alias(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.value).startswith(("npt.NDArray[", "Iterator[", "tuple["))


def tests_of(module: Path) -> list[str]:
    """Paths relative to the root; the module's own file first."""
    name = module.relative_to(KERNELS).with_suffix("").as_posix()
    folder, _, stem = f"/{name}".rpartition("/")
    own = f"{folder}/test_{stem}.py".lstrip("/")
    named = [own] if (ROOT / "tests" / "kernels" / own).is_file() else []
    return [os.path.normpath(f"tests/kernels/{t}") for t in dict.fromkeys((*named, *MORE_TESTS.get(name, ())))]


def passes(copy: Path, tests: list[str], timeout_s: float) -> bool:
    """Whether the tests pass on the code of the copy in time; one thread, so that two passes can run side by side."""
    env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--noconftest", "-p", "no:cacheprovider", *tests]
    with tempfile.TemporaryFile() as output, subprocess.Popen(
        command, cwd=copy, env=env, stdout=output, stderr=output, start_new_session=True
    ) as process:  # fmt: skip
        try:
            return process.wait(timeout_s) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with the children that tests of decoders start
            return False


def survivors_of(module: Path, copy: Path, sample: int | None, seed: int) -> tuple[int, list[str]]:
    """The number of mutants that were tried, and the differences of those that no test failed for."""
    tests, name = tests_of(module), module.relative_to(ROOT).as_posix()
    code = (copy / name).read_text()
    possible = mutants(code)
    if not possible:
        return 0, []
    began = time.monotonic()
    if not tests or not passes(copy, tests, 600):
        raise SystemExit(f"{name}: expected tests that pass on the unchanged code; these fail, or are none: {tests}")
    timeout_s = 30 + 3 * (time.monotonic() - began)
    drawn = possible if sample is None else random.Random(f"{seed} {name}").sample(possible, min(sample, len(possible)))
    survived = []
    for mutant in sorted(drawn, key=lambda m: m.start):
        changed = mutant.of(code)
        (copy / name).write_text(changed)
        if passes(copy, tests, timeout_s):
            lines = difflib.unified_diff(code.splitlines(), changed.splitlines(), n=0, lineterm="")
            survived.append("\n".join(f"    {line}" for line in list(lines)[2:]))
    (copy / name).write_text(code)
    return len(drawn), survived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=["kernels"], help="files or folders below dedup_spark/")
    parser.add_argument("--sample", type=int, default=12, help="mutants per module, drawn at random (default: 12)")
    parser.add_argument("--all", action="store_true", help="every mutant: hours")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    places = [ROOT / "dedup_spark" / name for name in options.modules]
    modules = sorted(m for p in places for m in ([p] if p.is_file() else p.rglob("*.py")) if m.stem != "__init__")
    n_tried = n_survived = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in ("dedup_spark", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for module in modules:
            tried, survived = survivors_of(module, copy, None if options.all else options.sample, options.seed)
            n_tried, n_survived = n_tried + tried, n_survived + len(survived)
            print(f"{module.relative_to(KERNELS)}: killed {tried - len(survived)} of {tried}", flush=True)  # noqa: T201
            print(*survived, sep="\n", end="\n" if survived else "", flush=True)  # noqa: T201
    print(f"killed {n_tried - n_survived} of {n_tried}")  # noqa: T201


if __name__ == "__main__":
    main()
