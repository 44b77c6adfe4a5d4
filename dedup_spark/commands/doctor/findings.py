"""What the doctor says of one thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that dedup_spark uses, there or not.

    Attributes:
        part: The heading that it stands under.
        found: What is there: a version, a place. None: it is missing, or does not work.
        needed: Whether a run with these settings cannot start without it.
        problem: Why it does not work, where it is there.
        without: What cannot be done without it.
        command: What to type, where it is missing.
    """

    part: str
    name: str
    found: str | None = None
    needed: bool = False
    problem: str = ""
    without: str = ""
    command: str = ""

    @property
    def state(self) -> str:
        return "ok" if self.found is not None else "needed" if self.needed else "missing"


def can_start(findings: Iterable[Finding]) -> bool:
    """Whether a run could start."""
    return not lacking(findings)


def lacking(findings: Iterable[Finding]) -> list[str]:
    """Names of what a run needs and has not."""
    return [finding.name for finding in findings if finding.state == "needed"]
