"""The list of licences finds what may not be passed on, also where a package says nothing of it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import licences
import pytest

ROOT = Path(__file__).parent.parent
PROJECT = """[project]
name = "ours"
dependencies = ["Base_Package"]
[project.optional-dependencies]
jxl = ["pillow-jxl-plugin"]
demo = ["shown[more]"]
"""


def package(folder: Path, name: str, *headers: str, files: tuple[str, ...] = (), bill: object = None) -> None:
    """An installed package, as pip leaves it."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *headers]))
    if bill is not None:
        (about / "parts.cdx.json").write_text(json.dumps(bill))
        files = (*files, f"{about.name}/parts.cdx.json")
    for file in files:  # what RECORD names and is not there counts for nothing
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def found(folder: Path) -> dict[str, licences.Package]:
    (folder / "pyproject.toml").write_text(PROJECT)
    return {p.name: p for p in licences.installed([str(folder)], folder / "pyproject.toml")}


def problems(folder: Path) -> list[str]:
    return [problem for p in found(folder).values() if (problem := p.problem())]


def part(licence: str) -> dict[str, object]:
    return {"components": [{"name": "part", "licenses": [{"expression": licence}]}]}


@pytest.mark.parametrize(
    ("headers", "terms"),
    [
        (("License-Expression: MIT",), {"MIT"}),
        (("License: Apache 2.0",), {"Apache-2.0"}),
        (("License: Dual License", "Classifier: License :: OSI Approved :: BSD License"), {"BSD"}),
        (("License-Expression: Apache-2.0 OR GPL-2.0-only",), {"Apache-2.0"}),
        (("License-Expression: (MIT AND LGPL-3.0-or-later)",), {"MIT", "LGPL"}),
        (("License-Expression: GPL-3.0-or-later WITH GCC-exception-3.1",), {"BSD"}),
        (("License-Expression: AGPL-3.0-only",), {"GPL"}),
        (("Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)",), {"LGPL"}),
        (("Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)",), {"GPL"}),
        (("License: NVIDIA Proprietary Software",), {"proprietary"}),
        (("License-Expression: LicenseRef-Mine",), {"LicenseRef-Mine"}),
        ((), set()),
    ],
)
def test_terms_are_what_a_package_says_of_itself(tmp_path: Path, headers: tuple[str, ...], terms: set[str]) -> None:
    package(tmp_path, "base-package", *headers)
    assert found(tmp_path)["base-package"].terms == terms


@pytest.mark.parametrize(
    ("library", "is_gpl"),
    [
        ("base_package.libs/libx265-4883ecb5.so.217", True), ("lib/libx264.164.dylib", True),
        ("a/libfftw3f-1.so.3", True), ("nvidia/libcufftw.so.11", False), ("a/libgslx.so", False), ("a/x265.py", False),
    ],
)  # fmt: skip
def test_a_library_in_a_wheel_counts_whatever_the_package_says(tmp_path: Path, library: str, is_gpl: bool) -> None:
    package(tmp_path, "base-package", "License: BSD-3-Clause", files=(library,))
    assert problems(tmp_path) == (["base-package: GPL, and not expected in the base"] if is_gpl else [])


def test_a_part_in_the_bill_of_materials_counts_unless_it_may_be_taken_under_other_terms(tmp_path: Path) -> None:
    package(tmp_path / "a", "base-package", "License: MIT", bill=part("GPL-3.0-or-later"))
    package(tmp_path / "b", "base-package", "License: MIT", bill=part("FTL OR GPL-2.0-or-later"))
    assert problems(tmp_path / "a") == ["base-package: GPL, and not expected in the base"]
    assert problems(tmp_path / "b") == []


def test_what_an_extra_brings_by_way_of_others_is_checked_and_what_it_does_not_is_a_developers(tmp_path: Path) -> None:
    needs = ("Requires-Dist: deep; extra == 'more'", "Requires-Dist: no; extra == 'x'")
    package(tmp_path, "shown", "License: MIT", *needs)
    package(tmp_path, "deep", "License-Expression: GPL-2.0-only")
    package(tmp_path, "no", "License-Expression: GPL-2.0-only")
    package(tmp_path, "pillow-jxl-plugin", "License-Expression: GPL-3.0-or-later")
    assert problems(tmp_path) == [
        "deep: GPL, and not expected in demo",
        "no: GPL, and not among GPL_OF_DEVELOPERS",
    ]


def test_terms_that_nobody_looked_at_are_a_problem(tmp_path: Path) -> None:
    package(tmp_path, "base-package")
    package(tmp_path, "other", "License: As you like it")
    assert problems(tmp_path) == [
        "base-package: unknown terms (it names none): add to ALSO",
        "other: unknown terms As you like it: add to ALSO",
    ]


def test_what_may_not_be_passed_on_is_named_in_the_page_of_licences() -> None:
    page = (ROOT / "docs/licences.md").read_text()
    for extra, names in licences.NOT_PASSED_ON.items():
        assert f"`{extra}`" in page
        assert all(f"`{name}" in page for name in names if name != "nvidia-")
    assert all(f"`{name}`" in page for name in licences.GPL_OF_DEVELOPERS)


def test_no_default_of_ours_asks_for_what_may_not_be_passed_on() -> None:
    """The image, the archives and the demo: of the GPL nothing, and of the weights only where they are installed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (packed,) = re.findall(r'^EXTRAS = "(.*)"$', (ROOT / "conf/package.py").read_text(), re.MULTILINE)
    asked = set(packed.split(","))
    assert {"gpu", "raw"} <= asked <= set(extras) - {"jxl", "weights"}
    (installed,) = re.findall(r"'\.\[([\w,]+)\]'", (ROOT / "README.md").read_text())
    assert {"cpu", "weights"} <= set(installed.split(",")) <= set(extras) - {"jxl"}
