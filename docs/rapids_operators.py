"""Writes the table of docs/rapids.md from a driver's log with `spark.rapids.sql.explain=ALL`.

`make test-rapids` leaves such a log. `python docs/rapids_operators.py build/rapids/run.log` writes the page.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "rapids.md"
_BEGIN, _END = "<!-- rapids -->", "<!-- /rapids -->"

_VERSION = re.compile(r"RAPIDS Accelerator (\S+) using cudf")
_SPARK = re.compile(r"Running Spark version (\S+)")
_STEP = re.compile(r"INFO (\w+): started$")
_NODE = re.compile(r"^(\s*)([*!@#])\s?(?:\w+ )?<(\w+)\$?> ?(.*)$")
_OF_DELTA = re.compile(r"\b(add|remove|protocol|metaData|stats)(#\d+|\.)|_delta_log")
"""In plans over Delta's own log of a table, which are over a few files, whatever the size of the lake."""
_RECORD = re.compile(r"^(\d\d/\d\d/\d\d )?\d\d:\d\d:\d\d ")

_IN_EXPLAIN_ONLY = "explain only mode with AQE"
_DETAIL = re.compile(r"#\d+L?|\[.*?\]")
_REASONS = (
    (_IN_EXPLAIN_ONLY, "not decided in explain-only mode"),
    ("child not being columnar", "its input is on the CPU"),
    ("without columnar children", "its input is on the CPU"),
    ("GPU does not currently support the operator class", "the plugin has no such operator"),
    ("not all commands can be replaced", "a command of Delta's, which the CPU runs"),
    ("has been disabled. Set", "switched off by the overlay"),
    ("is disabled by default", "disabled by default in the plugin"),
    ("unsupported data types", "it carries BINARY or maps"),
    ("not all expressions can be replaced", "expressions"),
)
"""A part of what the plugin says, and the reason in words; the first that fits."""


@dataclass
class Operators:
    """Of one step: names of the operators that would run on a GPU, and the reasons of those that would not."""

    on_gpu: set[str] = field(default_factory=set)
    on_cpu: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True)
class Node:
    depth: int
    mark: str
    name: str
    said: str

    @property
    def is_operator(self) -> bool:
        return self.name.endswith("Exec")


def plans(lines: Iterable[str]) -> Iterator[tuple[str, list[Node]]]:
    """(step, nodes of a plan in the order of the log) for each plan that was explained; before the first step, ``."""
    step = ""
    nodes: list[Node] | None = None
    for line in lines:
        if _RECORD.match(line):
            if nodes:
                yield step, nodes
            nodes = [] if "WARN GpuOverrides" in line else None
            found = _STEP.search(line)
            step = found[1] if found else step
        elif nodes is not None and (node := _NODE.match(line.rstrip("\n"))):  # else a text with line breaks goes on
            indent, mark, name, said = node.groups()
            nodes.append(Node(len(indent), mark, name, said))
    if nodes:
        yield step, nodes


def operators_by_step(lines: Iterable[str]) -> dict[str, Operators]:
    found: dict[str, Operators] = defaultdict(Operators)
    for step, nodes in plans(lines):
        if step and not any(_OF_DELTA.search(node.said) for node in nodes):
            for i, node in enumerate(nodes):
                if node.is_operator:
                    _add(found[step], node, nodes[i + 1 :])
    return found


def _add(operators: Operators, node: Node, after: list[Node]) -> None:
    name = node.name.removesuffix("Exec")
    if node.mark == "*":
        operators.on_gpu.add(name)
    elif node.mark == "!":
        operators.on_cpu[name].add(_reason(node, after))


def _reason(node: Node, after: list[Node]) -> str:
    """In words; where expressions are the reason, the names of those that the plugin cannot replace."""
    said = next((words for part, words in _REASONS if part in node.said), _DETAIL.sub("", node.said))
    if said != "expressions":
        return said
    own = []
    for other in after:
        if other.depth <= node.depth or other.is_operator:
            break
        own.append(other)
    blocked = {n.name for n in own if n.mark == "!" and "not all expressions can be replaced" not in n.said}
    return "no " + ", ".join(sorted(blocked)) if blocked else "expressions of its own"


def table(found: dict[str, Operators]) -> str:
    lines = ["| step | would run on a GPU | would not, and why |", "| --- | --- | --- |"]
    for step, operators in found.items():
        why: dict[str, list[str]] = defaultdict(list)
        for name, reasons in sorted(operators.on_cpu.items()):
            for reason in sorted(reasons):
                why[reason].append(name)
        cpu = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in sorted(why.items()))
        lines.append(f"| {step} | {', '.join(sorted(operators.on_gpu))} | {cpu} |")
    return "\n".join(lines)


def main(log: Path) -> None:
    with log.open(errors="replace") as lines:
        head = [line for _, line in zip(range(500), lines, strict=False)]
    version, spark = (next(m[1] for line in head if (m := p.search(line))) for p in (_VERSION, _SPARK))
    with log.open(errors="replace") as lines:
        found = operators_by_step(lines)
    day = datetime.date.fromtimestamp(log.stat().st_mtime)
    said = f"RAPIDS Accelerator {version}, Spark {spark}, {day}, the tiny lake of the tests:"
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}\n{said}\n\n{table(found)}\n{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
