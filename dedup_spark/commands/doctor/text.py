"""The findings as text, and as JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict

from dedup_spark.commands.doctor.findings import Finding, can_start

_MARKS = {"ok": "ok", "missing": "-", "needed": "NEEDED"}
_INDENT = " " * 8


def describe_findings(findings: Sequence[Finding]) -> str:
    """A block for each part: what is there, and of what is missing what it costs and the command for it."""
    width = max(len(finding.name) for finding in findings)
    blocks = []
    for part, of_part in itertools.groupby(findings, lambda finding: finding.part):
        blocks.append("\n".join([part, *(line for finding in of_part for line in _lines(finding, width))]))
    return "\n\n".join([*blocks, *(["A run can start."] if can_start(findings) else [])])


def findings_json(findings: Sequence[Finding]) -> str:
    """One line: whether a default run can start, and every finding with its state."""
    listed = [{**asdict(finding), **_nothing_lost(finding), "state": finding.state} for finding in findings]
    return json.dumps({"can_start": can_start(findings), "findings": listed})


def _nothing_lost(finding: Finding) -> dict[str, str]:
    return dict.fromkeys(("problem", "without", "command"), "") if finding.found is not None else {}


def _lines(finding: Finding, width: int) -> list[str]:
    said = finding.found if finding.found is not None else finding.problem or "not installed"
    lines = [f"  {_MARKS[finding.state]:<6}  {finding.name:<{width}}  {said}".rstrip()]
    if finding.found is None:
        lines += [f"{_INDENT}  {' ' * width}  {text}" for text in (_without(finding), finding.command) if text]
    return lines


def _without(finding: Finding) -> str:
    return f"without it: {finding.without}" if finding.without else ""
