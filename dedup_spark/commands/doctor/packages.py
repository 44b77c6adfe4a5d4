"""Which packages dedup_spark asks for, by extra, and which are installed, as pip knows them; none is imported."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import dedup_spark

_NAME = "dedup-spark"
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_BOUND = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([0-9][^,\s]*)")


@dataclass(frozen=True)
class Requirement:
    """A package that is asked for. `bounds`: of its version, as pip has them; empty for any."""

    name: str
    bounds: str

    @property
    def installed(self) -> str | None:
        """The version that is installed; None where there is none."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None

    @property
    def is_met(self) -> bool:
        version = self.installed
        return version is not None and fits(version, self.bounds)

    def __str__(self) -> str:
        return f"{self.name}{self.bounds}"


def requirements() -> dict[str, tuple[Requirement, ...]]:
    """By extra, those of the base package under an empty name.

    From pyproject.toml where the package lies in a checkout: what pip wrote down is of the day of its installation.
    Empty where nothing says it, as in a zip of spark-submit.
    """
    file = Path(dedup_spark.__file__).resolve().parent.parent / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        project = {}
    if project.get("name") == _NAME:
        asked = {"": project["dependencies"], **project["optional-dependencies"]}
        return {extra: tuple(map(_parsed, texts)) for extra, texts in asked.items()}
    try:
        return _by_extra(metadata.requires(_NAME) or [])
    except metadata.PackageNotFoundError:
        return {}


def fits(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as `>=4.0.1,<4.3`; of versions their numbers count alone."""
    return all(_meets(version, operator, bound) for operator, bound in _BOUND.findall(bounds))


def install(missing: Iterable[Requirement]) -> str:
    """The command that installs them into the environment of this process."""
    return f"{_quoted(sys.executable)} -m pip install {' '.join(_quoted(str(r)) for r in missing)}"


def in_its_own_environment(asked: Iterable[Requirement]) -> str:
    """The command for packages that exclude what is installed here."""
    return f"python3.12 -m venv gpu && gpu/bin/python -m pip install {' '.join(_quoted(str(r)) for r in asked)}"


def _by_extra(texts: Iterable[str]) -> dict[str, tuple[Requirement, ...]]:
    found: dict[str, tuple[Requirement, ...]] = {"": ()}
    for text in texts:
        extra = _EXTRA.search(text)
        name = extra[1] if extra else ""
        found[name] = (*found.get(name, ()), _parsed(text))
    return found


def _parsed(text: str) -> Requirement:
    found = _REQUIREMENT.match(text)
    if found is None:
        return Requirement(text, "")
    return Requirement(found[1], ",".join(sorted(found[2].replace(" ", "").split(","), reverse=True)))


def _meets(version: str, operator: str, bound: str) -> bool:
    v, b = _numbers(version), _numbers(bound)
    length = max(len(v), len(b))
    v, b = (numbers + (0,) * (length - len(numbers)) for numbers in (v, b))
    checks = {">=": v >= b, "<=": v <= b, "==": v == b, "!=": v != b, "<": v < b, ">": v > b, "~=": v >= b}
    return checks[operator]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text) else "'" + text.replace("'", "'\\''") + "'"
